ALTER TABLE approvals DROP COLUMN permission;
