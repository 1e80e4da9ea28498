-- Tokens of the API. Their secrets are not here, only the SHA-256 of each.
CREATE TABLE IF NOT EXISTS api_tokens (
    token_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    kind TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    revoked_by TEXT
);

CREATE INDEX IF NOT EXISTS api_tokens_by_age ON api_tokens (created_at, token_id);

-- Two that count never have one name.
CREATE UNIQUE INDEX IF NOT EXISTS api_tokens_by_name ON api_tokens (name) WHERE revoked_at IS NULL;
