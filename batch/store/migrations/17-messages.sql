-- What texts that people read were made of (jobs.message), by the text as it stands elsewhere: a
-- job's reason, events, results, faults. Texts of others, and those without blanks, are not here.
CREATE TABLE messages (text TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
