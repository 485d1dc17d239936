-- Format 8: what is cut off, and bought again; what nothing bounds.
-- unless job.truncated: some files of formats 5 to 7 have it.

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
