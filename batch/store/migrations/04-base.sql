-- Format 4 of a job's file. Money is exact decimal text, times are Unix seconds.

CREATE TABLE job (                      -- one row
    id            TEXT PRIMARY KEY,
    spec          TEXT NOT NULL,        -- JSON, jobs.job_options.Spec
    state         TEXT NOT NULL,        -- jobs.states.JobState
    reason        TEXT NOT NULL DEFAULT '',     -- jobs.states.PauseReason while paused
    reason_text   TEXT NOT NULL DEFAULT '',     -- a sentence for the user
    wanted        TEXT NOT NULL DEFAULT '',     -- what a command asks of the coordinator
    created_at    REAL NOT NULL,
    goes_on_at    REAL,                 -- rests until then, and not until the user acts
    started_at    REAL,
    ended_at      REAL,
    likely_rub    TEXT,                 -- the estimate at submission; NULL: no price, no bound
    highest_rub   TEXT,
    guess         TEXT NOT NULL DEFAULT '',     -- JSON, batch.store.stored_estimate.Guess: all of it
    sample        INTEGER NOT NULL DEFAULT 0,   -- so many at the queue's front go alone, and then
                                                -- the job rests; 0: none, or it is over
    warm          INTEGER NOT NULL DEFAULT 0,   -- so many at the queue's front go first: they warm
                                                -- the provider's cache for the others
    requests      INTEGER NOT NULL,     -- valid input lines
    invalid       INTEGER NOT NULL,     -- faulty input lines, skipped
    cursor        INTEGER NOT NULL DEFAULT -1,  -- last rank of the queue that was ever fed
    next_chunk    INTEGER NOT NULL DEFAULT 1,
    completed     INTEGER NOT NULL DEFAULT 0,
    failed        INTEGER NOT NULL DEFAULT 0,
    settled_rub   TEXT NOT NULL DEFAULT '0',    -- sum of all known costs
    booked_rub    TEXT NOT NULL DEFAULT '0',    -- sum of the bounds of uncertain calls
    settled_tokens INTEGER NOT NULL DEFAULT 0,
    booked_tokens INTEGER NOT NULL DEFAULT 0,
    calls         INTEGER NOT NULL DEFAULT 0,
    unknown       INTEGER NOT NULL DEFAULT 0,   -- of the calls, those of unknown cost
    revision      INTEGER NOT NULL DEFAULT 0,   -- grows with results and costs
    written       INTEGER NOT NULL DEFAULT -1,  -- the revision that the outputs show
    troubles      TEXT NOT NULL DEFAULT ''      -- JSON, batch.store.incidents.Trouble: the last first
);

CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE requests (                 -- never changes after submission
    ordinal       INTEGER PRIMARY KEY,  -- place among the valid lines, from 0
    line          INTEGER NOT NULL,     -- line of the input, from 1
    custom_id     TEXT NOT NULL,
    model         INTEGER NOT NULL,
    prompt_bound  INTEGER NOT NULL,     -- tokens
    output_bound  INTEGER,              -- tokens; NULL: nobody can tell
    bounded       INTEGER NOT NULL      -- 0: a part of it (an image, a search) costs what it costs
);

CREATE TABLE copies (                   -- alike to an earlier request: not bought, but given its result
    ordinal       INTEGER PRIMARY KEY,
    original      INTEGER NOT NULL
);

CREATE INDEX copies_of ON copies (original);

CREATE TABLE feeding (                  -- empty: requests are fed as they stand in the file
    rank          INTEGER PRIMARY KEY,  -- from 0
    ordinal       INTEGER NOT NULL UNIQUE
);

-- What is fed, in this order; batch.store.feed_order replaces it where there is another order.
CREATE VIEW queue AS SELECT ordinal AS rank, * FROM requests;

CREATE TABLE samples (                  -- some hundreds of them, spread over the file
    ordinal       INTEGER PRIMARY KEY,
    shape         BLOB NOT NULL         -- msgpack, batch.estimator.character_counts.Shape
);

CREATE TABLE blocks (                   -- where bodies stand in input.blocks
    first         INTEGER PRIMARY KEY,  -- ordinal of its first body
    offset        INTEGER NOT NULL,
    length        INTEGER NOT NULL
);

CREATE TABLE faults (line INTEGER PRIMARY KEY, code TEXT NOT NULL, message TEXT NOT NULL,
                     custom_id TEXT);

CREATE TABLE prices (                   -- every version of the catalogue that was used
    taken_at      REAL PRIMARY KEY,
    list          BLOB NOT NULL,        -- msgpack, jobs.prices.PriceList
    accepted      INTEGER NOT NULL DEFAULT 0    -- a rise is counted from the last accepted ones
);

CREATE TABLE chunks (
    chunk         INTEGER PRIMARY KEY,  -- never used twice: the fence of what comes back late
    state         TEXT NOT NULL,        -- open, lost (its worker fell silent), closed
    told          INTEGER NOT NULL DEFAULT 0,   -- its closing came, but not yet all of its results
    ordinals      BLOB NOT NULL,        -- msgpack list of [ordinal, attempts, uncertain]; once told,
                                        -- of those alone whose results are on their way
    grant_rub     TEXT,                 -- NULL: no cap in roubles
    grant_tokens  INTEGER,
    spent_rub     TEXT NOT NULL DEFAULT '0',    -- of the grant, settled or booked by known calls
    spent_tokens  INTEGER NOT NULL DEFAULT 0,
    calls         INTEGER NOT NULL DEFAULT 0,   -- in the ledger
    calls_told    INTEGER NOT NULL DEFAULT 0,   -- by its closing: those not here are on their way
    trial         INTEGER NOT NULL DEFAULT 0,   -- of suspects: 1 some together, 2 one alone
    suspected     INTEGER NOT NULL DEFAULT 0,   -- how much its loss counts against its requests
    fed_at        REAL NOT NULL,
    lost_at       REAL                  -- no call of it was sent after this
);

-- A query uses this only if it says so in the same words.
CREATE INDEX chunks_alive ON chunks (chunk) WHERE state <> 'closed';

CREATE TABLE returned (                 -- fed before, waiting again
    ordinal       INTEGER PRIMARY KEY,
    attempts      INTEGER NOT NULL,
    uncertain     INTEGER NOT NULL
);

CREATE INDEX returned_uncertain ON returned (uncertain) WHERE uncertain > 0;

CREATE TABLE suspects (                 -- may kill whoever makes their call
    ordinal       INTEGER PRIMARY KEY,
    suspicion     INTEGER NOT NULL      -- batch.store.poison_requests
);

CREATE INDEX suspects_worst ON suspects (suspicion);

CREATE TABLE calls (                    -- the ledger: what was or may have been billed
    ordinal       INTEGER NOT NULL,
    id            TEXT NOT NULL,
    chunk         INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    sent_at       REAL NOT NULL,
    latency_s     REAL NOT NULL,
    status        INTEGER,
    code          TEXT NOT NULL,
    billing       TEXT NOT NULL,        -- jobs.outcome.Billing
    cost          TEXT,                 -- ₽; NULL while uncertain
    source        TEXT NOT NULL,        -- jobs.outcome.CostSource
    bound         TEXT,                 -- ₽
    bound_tokens  INTEGER NOT NULL,
    prompt        INTEGER, completion INTEGER, cached INTEGER, written INTEGER, reasoning INTEGER,
    generation_id TEXT NOT NULL,
    provider      TEXT NOT NULL,
    lookups       INTEGER NOT NULL DEFAULT 0,   -- how often it was asked for
    PRIMARY KEY (ordinal, id)
) WITHOUT ROWID;

CREATE INDEX calls_to_ask_for ON calls (lookups, sent_at)
    WHERE billing = 'unknown' AND generation_id <> '';

CREATE TABLE spending (                 -- ₽ of known and uncertain calls, by when they were sent:
    quarter       INTEGER PRIMARY KEY,  -- quarters of an hour since 1970
    rub           TEXT NOT NULL
);

CREATE TABLE answers (id INTEGER PRIMARY KEY, bodies BLOB NOT NULL);    -- raw, many in one

CREATE TABLE results (
    ordinal       INTEGER PRIMARY KEY,
    state         TEXT NOT NULL,        -- jobs.result.ResultState
    code          TEXT NOT NULL,
    message       TEXT NOT NULL,
    status        INTEGER,
    attempts      INTEGER NOT NULL,
    call          TEXT NOT NULL,
    latency_s     REAL NOT NULL,
    finished_at   REAL NOT NULL,
    request_id    TEXT NOT NULL,
    flags         TEXT NOT NULL,
    answer        INTEGER,              -- answers.id
    body          INTEGER NOT NULL      -- place within it
);

CREATE TABLE retried (                  -- failures that were taken back: should one of them be
    ordinal       INTEGER NOT NULL,     -- delivered again, it is not the end of the request any more
    call          TEXT NOT NULL,
    PRIMARY KEY (ordinal, call)
) WITHOUT ROWID;

CREATE TABLE refusals (code TEXT PRIMARY KEY, count INTEGER NOT NULL);  -- calls that cost nothing
