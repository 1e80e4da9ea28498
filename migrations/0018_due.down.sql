DROP INDEX IF EXISTS jobs_by_parent;

DROP INDEX IF EXISTS runs_by_wake;
