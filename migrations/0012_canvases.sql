CREATE TABLE IF NOT EXISTS canvases (
    canvas_id TEXT NOT NULL PRIMARY KEY,
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

CREATE INDEX IF NOT EXISTS canvases_by_age ON canvases (created_at, canvas_id);

CREATE INDEX IF NOT EXISTS canvases_by_workspace ON canvases (workspace_id, created_at, canvas_id);

-- block_id refers to nothing: a node stays as it is when the block that it shows is deleted.
CREATE TABLE IF NOT EXISTS canvas_nodes (
    node_id TEXT NOT NULL PRIMARY KEY,
    canvas_id TEXT NOT NULL REFERENCES canvases (canvas_id),
    kind TEXT NOT NULL,
    x DOUBLE PRECISION NOT NULL,
    y DOUBLE PRECISION NOT NULL,
    width DOUBLE PRECISION NOT NULL,
    height DOUBLE PRECISION NOT NULL,
    content TEXT NOT NULL,
    block_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_actor_kind TEXT NOT NULL CHECK (last_actor_kind IN ('HUMAN', 'AI', 'SYSTEM')),
    last_actor_id TEXT NOT NULL,
    last_job_id TEXT,
    last_workflow_id TEXT,
    edit_event_id TEXT NOT NULL,
    UNIQUE (canvas_id, node_id),
    CHECK (last_actor_kind <> 'AI' OR (last_job_id IS NOT NULL AND last_workflow_id IS NOT NULL))
);

CREATE INDEX IF NOT EXISTS canvas_nodes_by_canvas ON canvas_nodes (canvas_id, created_at, node_id);

CREATE TABLE IF NOT EXISTS canvas_edges (
    edge_id TEXT NOT NULL PRIMARY KEY,
    canvas_id TEXT NOT NULL REFERENCES canvases (canvas_id),
    from_node TEXT NOT NULL,
    to_node TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_actor_kind TEXT NOT NULL CHECK (last_actor_kind IN ('HUMAN', 'AI', 'SYSTEM')),
    last_actor_id TEXT NOT NULL,
    last_job_id TEXT,
    last_workflow_id TEXT,
    edit_event_id TEXT NOT NULL,
    FOREIGN KEY (canvas_id, from_node) REFERENCES canvas_nodes (canvas_id, node_id),
    FOREIGN KEY (canvas_id, to_node) REFERENCES canvas_nodes (canvas_id, node_id),
    CHECK (last_actor_kind <> 'AI' OR (last_job_id IS NOT NULL AND last_workflow_id IS NOT NULL))
);

CREATE INDEX IF NOT EXISTS canvas_edges_by_canvas ON canvas_edges (canvas_id, created_at, edge_id);

CREATE INDEX IF NOT EXISTS canvas_edges_from ON canvas_edges (from_node);

CREATE INDEX IF NOT EXISTS canvas_edges_to ON canvas_edges (to_node);
