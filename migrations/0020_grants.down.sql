DROP TABLE IF EXISTS capability_grants;
