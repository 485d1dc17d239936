-- Format 11: how good the answers to a table are, before the night and after.

CREATE TABLE trials (                   -- rows that have their answer and were asked once more in a
    chunk         INTEGER NOT NULL,     -- pack, only to compare (batch.store.quality_trials)
    ordinal       INTEGER NOT NULL,
    said          TEXT,                 -- the answer's values, JSON; NULL: none that is valid
    PRIMARY KEY (chunk, ordinal)
) WITHOUT ROWID;

CREATE TABLE gold (                     -- rows of which the user knows the answer
    ordinal       INTEGER PRIMARY KEY,
    expected      TEXT NOT NULL         -- values by the answer's columns, JSON
);

CREATE TABLE findings (                 -- what came of comparing
    kind          TEXT PRIMARY KEY,     -- packs, gold, review
    told          TEXT NOT NULL         -- JSON, batch.tables.pack_sizes or batch.tables.score
);
