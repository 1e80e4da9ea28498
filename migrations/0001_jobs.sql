CREATE TABLE IF NOT EXISTS jobs (
    job_id TEXT NOT NULL PRIMARY KEY,
    trace_id TEXT NOT NULL,
    workflow_run_id TEXT,
    job_kind TEXT NOT NULL,
    state TEXT NOT NULL,
    protocol_id TEXT NOT NULL,
    profile_id TEXT NOT NULL,
    capability_profile_id TEXT NOT NULL,
    access_mode TEXT NOT NULL,
    safety_mode TEXT NOT NULL,
    entity_refs TEXT NOT NULL,
    planned_operations TEXT NOT NULL,
    metrics TEXT NOT NULL,
    status_reason TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    error_message TEXT,
    job_inputs TEXT NOT NULL,
    job_outputs TEXT,
    is_pinned BOOLEAN NOT NULL,
    parent_job_id TEXT
);

CREATE INDEX IF NOT EXISTS jobs_by_age ON jobs (created_at, job_id);

CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created_at, job_id);

CREATE TABLE IF NOT EXISTS idempotency_keys (
    idempotency_key TEXT NOT NULL PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    created_at BIGINT NOT NULL
);
