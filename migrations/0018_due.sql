-- Looking for runs that have waited long enough.
CREATE INDEX IF NOT EXISTS runs_by_wake ON runs (state, wake_at);

-- Jobs that a job has started.
CREATE INDEX IF NOT EXISTS jobs_by_parent ON jobs (parent_job_id, created_at, job_id);
