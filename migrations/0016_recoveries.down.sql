ALTER TABLE runs DROP COLUMN recoveries;
