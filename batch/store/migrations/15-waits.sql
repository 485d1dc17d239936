-- For how long requests that were ready waited, and for what: seconds by minute (Unix minutes).
CREATE TABLE waits (
    minute INTEGER NOT NULL,
    cause TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (minute, cause)
) WITHOUT ROWID;
