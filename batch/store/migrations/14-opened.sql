-- What the calls of a chunk may cost by now, as its worker was permitted: of a lost chunk's grant no
-- more than that is used. NULL: not known, or not counted.

ALTER TABLE chunks ADD COLUMN opened_rub TEXT;
ALTER TABLE chunks ADD COLUMN opened_tokens INTEGER;
