-- Every table of content says who changed a row last, on behalf of which job and run, and under which event. Jobs
-- are pruned before content is, so nothing refers to them.
CREATE TABLE IF NOT EXISTS workspaces (
    workspace_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_actor_kind TEXT NOT NULL CHECK (last_actor_kind IN ('HUMAN', 'AI', 'SYSTEM')),
    last_actor_id TEXT NOT NULL,
    last_job_id TEXT,
    last_workflow_id TEXT,
    edit_event_id TEXT NOT NULL,
    CHECK (last_actor_kind <> 'AI' OR (last_job_id IS NOT NULL AND last_workflow_id IS NOT NULL))
);

CREATE INDEX IF NOT EXISTS workspaces_by_age ON workspaces (created_at, workspace_id);
