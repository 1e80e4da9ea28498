CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT NOT NULL PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    trace_id TEXT NOT NULL,
    state TEXT NOT NULL,
    workflow TEXT NOT NULL,
    pinned TEXT NOT NULL,
    inputs TEXT NOT NULL,
    base TEXT NOT NULL,
    host TEXT,
    fence BIGINT NOT NULL CHECK (fence >= 0),
    heartbeat_at BIGINT,
    error TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX IF NOT EXISTS runs_by_job ON runs (job_id, created_at, run_id);

CREATE INDEX IF NOT EXISTS runs_by_state ON runs (state, created_at, run_id);
