-- Listing the jobs of one workspace, which is the folder that their relative paths start from.
CREATE INDEX IF NOT EXISTS runs_by_base ON runs (base, job_id);
