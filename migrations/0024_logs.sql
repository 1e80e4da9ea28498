-- What an attempt logged, as JSON. Nothing when it said nothing.
ALTER TABLE node_executions ADD COLUMN log TEXT;
