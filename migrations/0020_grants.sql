-- What people have granted where a rule of the policy wants them asked. terms say how far a grant reaches and which
-- question led to it; they name a job that may have been deleted since.
CREATE TABLE IF NOT EXISTS capability_grants (
    grant_id TEXT NOT NULL PRIMARY KEY,
    plugin TEXT NOT NULL,
    capability TEXT NOT NULL,
    terms TEXT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    revoked_by TEXT
);

CREATE INDEX IF NOT EXISTS capability_grants_by_age ON capability_grants (created_at, grant_id);
