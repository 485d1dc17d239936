-- Format 5: calls that are not the input's own.

CREATE TABLE units (                    -- batch.store.call_units: several requests in one call, or one
    chunk         INTEGER NOT NULL,     -- that is asked once more
    ordinal       INTEGER NOT NULL,     -- of the request that leads: the worker knows no other
    members       BLOB NOT NULL,        -- msgpack list of [ordinal, weight]
    rung          INTEGER NOT NULL,
    model         TEXT,                 -- NULL: the request's own
    messages      INTEGER NOT NULL,
    max_output    INTEGER,
    body          BLOB NOT NULL,        -- empty once the chunk is closed
    PRIMARY KEY (chunk, ordinal)
) WITHOUT ROWID;

CREATE INDEX units_of ON units (ordinal);

CREATE TABLE shares (                   -- of the requests that had a call together
    ordinal       INTEGER NOT NULL,
    chunk         INTEGER NOT NULL,
    lead          INTEGER NOT NULL,     -- whose call it was
    start         INTEGER NOT NULL,     -- from here
    stop          INTEGER NOT NULL,     -- to here
    whole         INTEGER NOT NULL,     -- of so much
    PRIMARY KEY (ordinal, chunk)
) WITHOUT ROWID;

CREATE TABLE climbs (                   -- requests whose answer was not what was asked for
    ordinal       INTEGER PRIMARY KEY,
    rung          INTEGER NOT NULL,     -- of the ladder: where they are asked next
    problem       TEXT NOT NULL,
    answer        INTEGER,              -- answers.id of that answer; NULL: none came
    place         INTEGER NOT NULL
);
