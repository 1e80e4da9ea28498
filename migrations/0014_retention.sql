-- What the janitor found and did, as JSON. A report is stored before anything is deleted.
CREATE TABLE IF NOT EXISTS prune_reports (
    report_id TEXT NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL,
    report TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS prune_reports_by_age ON prune_reports (started_at, report_id);

-- What one host at a time may do, under which token, and until when unless it renews that.
CREATE TABLE IF NOT EXISTS leases (
    name TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Whether anybody lists an artifact.
CREATE INDEX IF NOT EXISTS run_artifacts_by_content ON run_artifacts (sha256);
