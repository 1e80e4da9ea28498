DROP TABLE IF EXISTS attempt_effects;
