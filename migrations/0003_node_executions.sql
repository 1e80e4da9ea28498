-- item_index is -1 for a node that is not an item of a list: a key cannot hold NULL everywhere.
CREATE TABLE IF NOT EXISTS node_executions (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    step_id TEXT NOT NULL,
    item_index BIGINT NOT NULL CHECK (item_index >= -1),
    attempt BIGINT NOT NULL CHECK (attempt >= 0),
    state TEXT NOT NULL,
    plugin TEXT,
    component_sha256 TEXT,
    input TEXT NOT NULL,
    output TEXT,
    error TEXT,
    random_seed TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    PRIMARY KEY (run_id, step_id, item_index, attempt)
);
