-- One row per host: where its chain stands, and the number of its last transaction, by which a host finds out
-- whether a commit whose answer was lost took effect.
CREATE TABLE IF NOT EXISTS hosts (
    host TEXT NOT NULL PRIMARY KEY,
    head_seq BIGINT NOT NULL CHECK (head_seq >= 0),
    head_hash TEXT NOT NULL,
    head_recorded_at BIGINT NOT NULL,
    commit_number BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
