//! How patient the host is with its database, and how many connections it opens.

use std::time::Duration;

/// Pool sizes and timeouts. The defaults suit one host beside a server that others use too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections for reading. A read lasts micro- to milliseconds, so few are enough; the writer has one more, and
    /// on PostgreSQL another one listens. At least 2.
    pub readers: u32,
    /// How long opening a connection, or waiting for a free one, may take.
    pub connect_timeout: Duration,
    /// How long one statement may take, and a transaction may lie idle; PostgreSQL only. Longest are prunes.
    pub statement_timeout: Duration,
    /// How long a statement waits for rows or files that somebody else has locked.
    pub lock_timeout: Duration,
    /// How long a starting host waits while another one migrates; PostgreSQL only.
    pub migration_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            readers: 4,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            migration_timeout: Duration::from_secs(60),
        }
    }
}
