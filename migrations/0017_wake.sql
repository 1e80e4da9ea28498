-- When a run that waits goes on by itself. NULL is never: a person decides.
ALTER TABLE runs ADD COLUMN wake_at BIGINT;
