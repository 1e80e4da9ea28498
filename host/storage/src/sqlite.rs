//! The SQLite dialect: everything that PostgreSQL would do in another way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use handshake_core::storage::StorageError;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub(crate) type Backend = sqlx::Sqlite;
pub(crate) type Connection = sqlx::SqliteConnection;
pub(crate) type Pool = sqlx::SqlitePool;
pub(crate) type Row = sqlx::sqlite::SqliteRow;

/// Name of the backend in statistics.
pub(crate) const NAME: &str = "sqlite";
/// Takes the write lock at once: a lock that is upgraded later can fail in the middle of a transaction.
pub(crate) const BEGIN: &str = "BEGIN IMMEDIATE";
pub(crate) const COMMIT: &str = "COMMIT";
pub(crate) const ROLLBACK: &str = "ROLLBACK";
/// Size of the database in bytes, the write-ahead log apart.
pub(crate) const SIZE: &str = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";

/// Reading needs few connections: a read lasts microseconds, and there is one process.
const READERS: u32 = 4;

/// How the one writing connection is opened.
#[derive(Debug, Clone)]
pub(crate) struct Writing(SqliteConnectOptions);

impl Writing {
    /// Options for this file.
    pub(crate) fn new(path: &Path) -> Self {
        Self(
            SqliteConnectOptions::new()
                .filename(path)
                .foreign_keys(true)
                .journal_mode(SqliteJournalMode::Wal)
                // With WAL, FULL is what makes a commit survive a power cut.
                .synchronous(SqliteSynchronous::Full)
                // Apple's fsync does not reach the platter; elsewhere this changes nothing.
                .pragma("fullfsync", "ON")
                .pragma("checkpoint_fullfsync", "ON")
                // One long transaction must not leave a huge log behind.
                .pragma("journal_size_limit", "67108864")
                .busy_timeout(Duration::from_secs(5))
                .disable_statement_logging(),
        )
    }

    /// Bounds the database to so many pages, to see what a full disk does.
    #[cfg(test)]
    pub(crate) fn bounded(self, pages: u32) -> Self {
        Self(self.0.pragma("max_page_count", pages.to_string()))
    }

    /// Opens the connection.
    pub(crate) async fn connect(&self) -> Result<Connection, sqlx::Error> {
        self.0.connect().await
    }
}

/// Connections for reading; opened when needed.
pub(crate) fn readers(path: &Path) -> Pool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(Duration::from_secs(10))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Creates the file if it is missing, readable for its owner alone; SQLite gives its side files the same mode.
pub(crate) async fn create(path: PathBuf) -> Result<(), StorageError> {
    let created = tokio::task::spawn_blocking(move || {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).map(drop)
    });
    let failed = |source| StorageError::Database { operation: "open the database file", source };
    created.await.map_err(|error| failed(error.into()))?.map_err(|error| failed(error.into()))
}
