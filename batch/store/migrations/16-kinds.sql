-- Format 16: requests of other kinds than chat.

CREATE TABLE named (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL,
    pin           TEXT NOT NULL,        -- tags of the only providers, a comma between; '': any may
    kind          TEXT NOT NULL,        -- what is asked of it: the address (jobs.request_kinds)
    UNIQUE (name, pin, kind)
);

INSERT INTO named SELECT id, name, pin, '/v1/chat/completions' FROM models;

DROP TABLE models;

ALTER TABLE named RENAME TO models;
