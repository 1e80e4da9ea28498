-- The host that began an attempt. What the attempt asked for is on the record of that host.
ALTER TABLE node_executions ADD COLUMN host TEXT;
