CREATE TABLE IF NOT EXISTS documents (
    document_id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (workspace_id),
    title TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_actor_kind TEXT NOT NULL CHECK (last_actor_kind IN ('HUMAN', 'AI', 'SYSTEM')),
    last_actor_id TEXT NOT NULL,
    last_job_id TEXT,
    last_workflow_id TEXT,
    edit_event_id TEXT NOT NULL,
    CHECK (last_actor_kind <> 'AI' OR (last_job_id IS NOT NULL AND last_workflow_id IS NOT NULL))
);

CREATE INDEX IF NOT EXISTS documents_by_age ON documents (created_at, document_id);

CREATE INDEX IF NOT EXISTS documents_by_workspace ON documents (workspace_id, created_at, document_id);

CREATE TABLE IF NOT EXISTS blocks (
    block_id TEXT NOT NULL PRIMARY KEY,
    document_id TEXT NOT NULL REFERENCES documents (document_id),
    kind TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    raw_content TEXT NOT NULL,
    display_content TEXT NOT NULL,
    derived_content TEXT NOT NULL,
    sensitivity TEXT NOT NULL,
    exportable BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_actor_kind TEXT NOT NULL CHECK (last_actor_kind IN ('HUMAN', 'AI', 'SYSTEM')),
    last_actor_id TEXT NOT NULL,
    last_job_id TEXT,
    last_workflow_id TEXT,
    edit_event_id TEXT NOT NULL,
    CHECK (last_actor_kind <> 'AI' OR (last_job_id IS NOT NULL AND last_workflow_id IS NOT NULL))
);

CREATE INDEX IF NOT EXISTS blocks_by_document ON blocks (document_id, sequence, block_id);
