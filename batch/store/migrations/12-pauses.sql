-- Format 12: what helps a job that is paused. Caps of a home have a reason of their own, commands take
-- effect at once, and what a job is expected to cost stands in its guess alone.

ALTER TABLE job ADD COLUMN options TEXT NOT NULL DEFAULT '';    -- that the command must have which
                                                                -- goes on with it, with figures
UPDATE job SET reason = 'cap_reached'
    WHERE state = 'paused' AND reason = 'budget_exhausted' AND goes_on_at IS NOT NULL;

UPDATE job SET state = 'paused', reason = 'user', reason_text = 'paused by the user',
    goes_on_at = NULL WHERE wanted = 'pause' AND state IN ('in_progress', 'paused');

UPDATE job SET state = 'cancelling', reason = '', reason_text = '', goes_on_at = NULL
    WHERE wanted = 'cancel' AND state IN ('in_progress', 'paused');

UPDATE job SET wanted = '' WHERE wanted IN ('pause', 'cancel');

UPDATE job SET guess = json_object('likely', likely_rub, 'at_most', highest_rub)
    WHERE guess = '' AND coalesce(likely_rub, highest_rub) IS NOT NULL;

ALTER TABLE job DROP COLUMN likely_rub;
ALTER TABLE job DROP COLUMN highest_rub;
