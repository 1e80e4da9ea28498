//! The database as a whole: opening, looking at it, closing.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use handshake_core::chain::ChainHead;
use handshake_core::storage::{Database, Statistics, StorageError};
use handshake_core::{Clock, HostId, Ids, Timestamp};
use tokio::sync::watch;

use crate::error::{Unreachable, failed, unreachable, unreadable};
use crate::queue::Queue;
use crate::sqlite::{self, Backend, Pool, Writing};
use crate::writer::{Session, Writer};
use crate::{migrations, outbox};

const COUNTS: [&str; 4] = [
    "SELECT COUNT(*) FROM jobs",
    "SELECT COUNT(*) FROM runs",
    "SELECT COUNT(*) FROM node_executions",
    "SELECT COUNT(*) FROM outbox",
];
const NEWEST: &str = "SELECT MAX(head_recorded_at) FROM hosts WHERE head_seq > 0";

/// How a database is opened.
pub struct SqliteOptions {
    /// The file; created if it is missing, in a folder that exists.
    pub path: PathBuf,
    /// Time of records, claims and signs of life.
    pub clock: Arc<dyn Clock>,
    /// Where the host's id comes from.
    pub ids: Arc<dyn Ids>,
    /// How many events may wait to become durable before callers are refused.
    pub queue: usize,
}

/// A handle to the database and its one writer. Dropping the last one lets the writer write what is queued, if
/// the async runtime lives on; [`Database::close`] waits for that.
pub struct SqliteDatabase {
    pub(crate) queue: Queue,
    pub(crate) head: Arc<watch::Sender<ChainHead>>,
    pub(crate) host: HostId,
    pub(crate) ids: Arc<dyn Ids>,
    readers: Pool,
}

impl std::fmt::Debug for SqliteDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteDatabase").field("host", &self.host).finish_non_exhaustive()
    }
}

impl SqliteDatabase {
    /// Opens the database, brings it to this version's schema, and starts the writer on the current runtime.
    /// One process at a time may have it open: the owner of the data directory.
    pub async fn open(options: SqliteOptions) -> Result<Arc<Self>, StorageError> {
        let writing = Writing::new(&options.path);
        Self::start(options, writing).await
    }

    pub(crate) async fn start(options: SqliteOptions, writing: Writing) -> Result<Arc<Self>, StorageError> {
        let SqliteOptions { path, clock, ids, queue } = options;
        sqlite::create(path.clone()).await?;
        let mut connection = writing.connect().await.map_err(failed("open the database"))?;
        migrations::run(&mut connection).await?;
        let host = outbox::host(&mut connection, HostId::fresh(&*ids), clock.now()).await?;
        let position = outbox::position(&mut connection, host)
            .await?
            .ok_or_else(|| StorageError::NotFound { what: "host", id: host.to_string() })?;

        let head = Arc::new(watch::Sender::new(position.head));
        let (queue, receiver) = Queue::new(queue);
        let writer = Writer::new(Session { connection, position }, writing, Arc::clone(&clock), Arc::clone(&head));
        tokio::spawn(writer.run(receiver));
        Ok(Arc::new(Self { queue, head, host, ids, readers: sqlite::readers(&path) }))
    }

    /// A connection for reading.
    pub(crate) async fn reader(
        &self,
        operation: &'static str,
    ) -> Result<sqlx::pool::PoolConnection<Backend>, StorageError> {
        self.readers.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolClosed => unreachable(operation, Unreachable::Closed),
            error => failed(operation)(error),
        })
    }
}

#[async_trait]
impl Database for SqliteDatabase {
    fn host(&self) -> HostId {
        self.host
    }

    async fn ping(&self) -> Result<(), StorageError> {
        let mut reader = self.reader("ping").await?;
        sqlx::query("SELECT 1").execute(&mut *reader).await.map(drop).map_err(failed("ping"))
    }

    async fn migration_version(&self) -> Result<Option<i64>, StorageError> {
        let mut reader = self.reader("read the schema's version").await?;
        sqlx::query_scalar(migrations::VERSION)
            .fetch_one(&mut *reader)
            .await
            .map_err(failed("read the schema's version"))
    }

    async fn statistics(&self) -> Result<Statistics, StorageError> {
        let operation = "count what is stored";
        let mut reader = self.reader(operation).await?;
        let mut counts = [0; COUNTS.len()];
        for (count, statement) in counts.iter_mut().zip(COUNTS) {
            let found: i64 = sqlx::query_scalar(statement).fetch_one(&mut *reader).await.map_err(failed(operation))?;
            *count = u64::try_from(found).map_err(unreadable("count"))?;
        }
        let [jobs, runs, node_executions, outbox_events] = counts;
        let bytes: i64 = sqlx::query_scalar(sqlite::SIZE).fetch_one(&mut *reader).await.map_err(failed(operation))?;
        let newest: Option<i64> =
            sqlx::query_scalar(NEWEST).fetch_one(&mut *reader).await.map_err(failed(operation))?;
        Ok(Statistics {
            backend: sqlite::NAME.to_owned(),
            jobs,
            runs,
            node_executions,
            outbox_events,
            bytes: u64::try_from(bytes).map_err(unreadable("size"))?,
            last_recorded_at: newest.map(Timestamp::from_micros),
        })
    }

    async fn close(&self) -> Result<(), StorageError> {
        // Readers first: the last connection to close folds the write-ahead log into the database.
        self.readers.close().await;
        self.queue.close().await
    }
}
