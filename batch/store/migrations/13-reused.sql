-- Format 13: answers that an earlier job had already.

ALTER TABLE job ADD COLUMN reused INTEGER NOT NULL DEFAULT 0;   -- of the requests, those not bought

CREATE TABLE reused (                   -- requests that were given such an answer
    ordinal       INTEGER PRIMARY KEY,
    job           TEXT NOT NULL,        -- whose
    rub           TEXT                  -- ₽ that it cost there; NULL: that is not known
);
