-- Format 9: what happened to a job, in order.

CREATE TABLE events (                   -- batch.store.events; nothing is ever changed in it
    id            INTEGER PRIMARY KEY,
    at            REAL NOT NULL,        -- Unix seconds
    kind          TEXT NOT NULL,        -- batch.store.events.EventKind
    facts         TEXT NOT NULL         -- JSON, batch.store.events.Event without these
);
