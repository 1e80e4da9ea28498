-- How often recovery has found a run interrupted. NULL is never.
ALTER TABLE runs ADD COLUMN recoveries BIGINT;
