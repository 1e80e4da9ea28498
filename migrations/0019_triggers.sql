-- Workflows that run by themselves. last_job refers to a job that may have been deleted since.
CREATE TABLE IF NOT EXISTS triggers (
    trigger_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    file TEXT NOT NULL,
    inputs TEXT NOT NULL,
    base TEXT NOT NULL,
    schedule TEXT NOT NULL,
    missed TEXT NOT NULL,
    next_at BIGINT NOT NULL,
    last_at BIGINT,
    last_job TEXT,
    last_error TEXT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX IF NOT EXISTS triggers_by_age ON triggers (created_at, trigger_id);

CREATE INDEX IF NOT EXISTS triggers_by_next ON triggers (next_at, trigger_id);
