-- Questions to people on which runs wait. They go with their run. item_index is -1 for a step that is not an item
-- of a list.
CREATE TABLE IF NOT EXISTS approvals (
    approval_id TEXT NOT NULL PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    step_id TEXT NOT NULL,
    item_index BIGINT NOT NULL CHECK (item_index >= -1),
    state TEXT NOT NULL,
    prompt TEXT NOT NULL,
    approvers TEXT NOT NULL,
    quorum BIGINT NOT NULL CHECK (quorum >= 1),
    votes TEXT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    decided_at BIGINT
);

CREATE INDEX IF NOT EXISTS approvals_by_age ON approvals (created_at, approval_id);

CREATE INDEX IF NOT EXISTS approvals_by_state ON approvals (state, created_at, approval_id);

CREATE INDEX IF NOT EXISTS approvals_by_job ON approvals (job_id, created_at, approval_id);

CREATE INDEX IF NOT EXISTS approvals_by_run ON approvals (run_id);
