-- Format 7: providers that alone may serve a request.

CREATE TABLE pinned (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL,
    pin           TEXT NOT NULL,        -- their tags, a comma between; '': any may
    UNIQUE (name, pin)
);

INSERT INTO pinned SELECT id, name, '' FROM models;

DROP TABLE models;

ALTER TABLE pinned RENAME TO models;
