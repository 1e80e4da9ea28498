-- Events on their way into the flight recorder, each with its place in its host's chain.
CREATE TABLE IF NOT EXISTS outbox (
    host TEXT NOT NULL REFERENCES hosts (host),
    seq BIGINT NOT NULL CHECK (seq >= 1),
    event_id TEXT NOT NULL UNIQUE,
    recorded_at BIGINT NOT NULL,
    hash TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (host, seq)
);
