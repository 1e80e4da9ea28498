ALTER TABLE node_executions DROP COLUMN host;
