-- What version 5 of a job's file has beyond version 4.

-- Calls that are not the input's own.

CREATE TABLE units (                    -- batch.store.units: several requests in one call, or one
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

-- What is cut off, and bought again; what nothing bounds.

ALTER TABLE job ADD COLUMN unbounded INTEGER NOT NULL DEFAULT 0;    -- of the unknown calls, those
                                                                    -- without a bound in roubles
ALTER TABLE job ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0;    -- answers cut off at a limit

UPDATE job SET
    unbounded = (SELECT count(*) FROM calls WHERE billing = 'unknown' AND bound IS NULL),
    truncated = (SELECT count(*) FROM results WHERE ',' || flags || ',' LIKE '%,truncated,%');

CREATE TABLE former (                   -- answers that are bought again: the end of their requests
    ordinal       INTEGER PRIMARY KEY,  -- until a better one is there; columns as in results
    state         TEXT NOT NULL,
    code          TEXT NOT NULL,
    message       TEXT NOT NULL,
    status        INTEGER,
    attempts      INTEGER NOT NULL,
    call          TEXT NOT NULL,
    latency_s     REAL NOT NULL,
    finished_at   REAL NOT NULL,
    request_id    TEXT NOT NULL,
    flags         TEXT NOT NULL,
    answer        INTEGER,
    body          INTEGER NOT NULL
);

CREATE TABLE raised (                   -- requests that are sent with another limit than they had
    ordinal       INTEGER PRIMARY KEY,
    max_tokens    INTEGER NOT NULL
);


PRAGMA user_version = 5;
