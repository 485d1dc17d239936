-- What programs brought to `nightshift serve`: version 1 of <home>/registry.sqlite. Times are Unix
-- seconds, money is exact decimal text.

CREATE TABLE IF NOT EXISTS keys (                     -- API keys of the server
    name          TEXT PRIMARY KEY,     -- the tenant: files and batches are its own
    digest        TEXT NOT NULL UNIQUE, -- SHA-256 of the key, which is kept nowhere
    created_at    REAL NOT NULL,
    revoked_at    REAL,
    priority      REAL NOT NULL,
    webhook       TEXT,                 -- where its batches' ends are told
    webhook_secret TEXT                 -- signs what is told; `whsec_` and base64
);

CREATE TABLE IF NOT EXISTS files (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    tenant        TEXT NOT NULL,        -- '': of a server without keys
    purpose       TEXT NOT NULL,
    filename      TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    created_at    REAL NOT NULL,
    expires_at    REAL,                 -- NULL: never
    batch         TEXT                  -- whose results it holds; NULL: it was uploaded
);

CREATE INDEX IF NOT EXISTS files_of ON files (tenant, seq);
CREATE INDEX IF NOT EXISTS files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_with_results ON files (batch) WHERE batch IS NOT NULL;

CREATE TABLE IF NOT EXISTS batches (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    tenant        TEXT NOT NULL,
    job           TEXT NOT NULL UNIQUE, -- its id before and after there is such a job
    input_file    TEXT NOT NULL,
    endpoint      TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    created_at    REAL NOT NULL,
    expires_at    REAL NOT NULL,
    metadata      TEXT,                 -- JSON, as given
    wishes        TEXT NOT NULL,        -- JSON, batch.api.batch_options.Wishes
    output_expires_s INTEGER,           -- of its results, from their making
    idempotency   TEXT,                 -- the key that the client named it by
    digest        TEXT NOT NULL,        -- tells what was asked for from all else
    told          INTEGER NOT NULL DEFAULT 0,   -- the client was there to get the reply
    state         TEXT NOT NULL DEFAULT 'validating',   -- then 'job', whose state counts from then
                                        -- on; or 'failed', 'cancelled', 'expired' without one
    tries         INTEGER NOT NULL DEFAULT 0,   -- of its validation
    cancelling_at REAL,
    ended_at      REAL,                 -- where there never was a job
    errors        TEXT,                 -- JSON: why it failed
    output_file   TEXT,                 -- once it is over
    error_file    TEXT,
    facts         TEXT,                 -- JSON, batch.api.batch_status.Facts: what its job said at its end
    closed        INTEGER NOT NULL DEFAULT 0    -- its end was seen: files made, webhook on its way
);

CREATE INDEX IF NOT EXISTS batches_of ON batches (tenant, seq);
CREATE UNIQUE INDEX IF NOT EXISTS batches_named ON batches (tenant, idempotency) WHERE idempotency IS NOT NULL;
CREATE INDEX IF NOT EXISTS batches_alike ON batches (tenant, digest);
CREATE INDEX IF NOT EXISTS batches_open ON batches (closed) WHERE NOT closed;

CREATE TABLE IF NOT EXISTS gone (                     -- where deleted files and batches stood in lists
    kind          TEXT NOT NULL,        -- 'files' or 'batches'
    id            TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    seq           INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS files_gone AFTER DELETE ON files BEGIN
    INSERT OR REPLACE INTO gone VALUES ('files', OLD.id, OLD.tenant, OLD.seq);
END;

CREATE TRIGGER IF NOT EXISTS batches_gone AFTER DELETE ON batches BEGIN
    INSERT OR REPLACE INTO gone VALUES ('batches', OLD.id, OLD.tenant, OLD.seq);
END;

PRAGMA user_version = 1;
