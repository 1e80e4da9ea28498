-- When the claim on a running run ends unless its host renews it.
ALTER TABLE runs ADD COLUMN lease_expires_at BIGINT;
