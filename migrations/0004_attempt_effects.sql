-- What an attempt was permitted to do to the world, noted before it does it. event_seq is the number of the
-- decision's event in its host's chain.
CREATE TABLE IF NOT EXISTS attempt_effects (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    step_id TEXT NOT NULL,
    item_index BIGINT NOT NULL CHECK (item_index >= -1),
    attempt BIGINT NOT NULL CHECK (attempt >= 0),
    call_number BIGINT NOT NULL,
    fence BIGINT NOT NULL,
    capability TEXT NOT NULL,
    resource TEXT NOT NULL,
    host TEXT NOT NULL,
    event_seq BIGINT NOT NULL,
    noted_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, step_id, item_index, attempt, call_number)
);
