-- Who alone may make the calls of a chunk: jobs.wire.Begin.attempt. NULL: nobody has begun it, so
-- nothing of it is spent; '?': nobody knows who has.

ALTER TABLE chunks ADD COLUMN begun_by TEXT;

UPDATE chunks SET begun_by = '?' WHERE state <> 'closed';
