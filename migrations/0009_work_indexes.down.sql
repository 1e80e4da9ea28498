DROP INDEX IF EXISTS jobs_by_protocol;

DROP INDEX IF EXISTS jobs_by_kind;

DROP INDEX IF EXISTS runs_by_lease;
