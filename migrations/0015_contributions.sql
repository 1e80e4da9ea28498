-- What an attempt adds to its job, which a run that goes on after an interruption needs: metrics and proposals.
ALTER TABLE node_executions ADD COLUMN contribution TEXT;
