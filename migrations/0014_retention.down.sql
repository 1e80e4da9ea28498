DROP INDEX IF EXISTS run_artifacts_by_content;

DROP TABLE IF EXISTS leases;

DROP TABLE IF EXISTS prune_reports;
