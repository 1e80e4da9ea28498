//! What the machine does without us: the floors that benchmarks stand beside.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

/// SQLite without us: the same file settings, driver and size of row, called from a task as ours is.
pub struct RawSqlite {
    connection: SqliteConnection,
    next: i64,
    text: String,
}

impl RawSqlite {
    /// A fresh file in the folder, for rows with so many bytes of text.
    pub async fn open(folder: &Path, row: usize) -> Self {
        let mut connection = SqliteConnectOptions::new()
            .filename(folder.join("floor.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .connect()
            .await
            .unwrap();
        sqlx::query("CREATE TABLE t (n BIGINT PRIMARY KEY, text TEXT)").execute(&mut connection).await.unwrap();
        Self { connection, next: 0, text: "x".repeat(row) }
    }

    /// Rows per second in transactions of so many single-row statements, for so long.
    pub async fn rows(self, per_transaction: usize, period: Duration) -> (Self, f64) {
        tokio::spawn(self.measured(per_transaction, period)).await.unwrap()
    }

    async fn measured(mut self, per_transaction: usize, period: Duration) -> (Self, f64) {
        let (started, first) = (Instant::now(), self.next);
        while started.elapsed() < period {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await.unwrap();
            for _ in 0..per_transaction {
                self.next += 1;
                let insert = sqlx::query("INSERT INTO t VALUES ($1, $2)").bind(self.next).bind(&self.text);
                insert.execute(&mut self.connection).await.unwrap();
            }
            sqlx::query("COMMIT").execute(&mut self.connection).await.unwrap();
        }
        let rate = (self.next - first) as f64 / started.elapsed().as_secs_f64();
        (self, rate)
    }
}
