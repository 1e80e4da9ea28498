-- Looking for runs whose lease has expired, and listing jobs of one kind or workflow, newest first.
CREATE INDEX IF NOT EXISTS runs_by_lease ON runs (state, lease_expires_at);

CREATE INDEX IF NOT EXISTS jobs_by_kind ON jobs (job_kind, created_at, job_id);

CREATE INDEX IF NOT EXISTS jobs_by_protocol ON jobs (protocol_id, created_at, job_id);
