ALTER TABLE runs DROP COLUMN lease_expires_at;
