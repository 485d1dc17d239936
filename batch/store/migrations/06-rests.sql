-- Format 6: what the balance told.

CREATE TABLE rests (                    -- of a key's account, while nothing was in flight
    key           TEXT PRIMARY KEY,     -- its fingerprint
    rub           TEXT NOT NULL,        -- what it held
    at            REAL NOT NULL,        -- when
    others        TEXT NOT NULL         -- what the home's other jobs had spent by then
);
