DROP TABLE IF EXISTS node_executions;
