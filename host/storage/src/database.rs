//! The database as a whole: opening, looking at it, closing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::chain::ChainHead;
use handshake_core::storage::{Database, Schema, Statistics, StorageError};
use handshake_core::{Clock, HostId, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backend::{Backend, Pool};
use crate::error::{failed, unreadable};
use crate::limits::Limits;
use crate::queue::Queue;
use crate::sql::{Connection, query};
use crate::url::DatabaseUrl;
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
pub struct DatabaseOptions {
    /// Where it is. An SQLite file is created if it is missing, in a folder that exists.
    pub url: DatabaseUrl,
    /// The host that opens it. An SQLite file belongs to the host that created it, and keeps that one's id.
    pub host: HostId,
    /// Time of records, claims and signs of life.
    pub clock: Arc<dyn Clock>,
    /// How long a claim on a run lasts without a sign of life of this host.
    pub lease: Duration,
    /// How many events may wait to become durable before callers are refused.
    pub queue: usize,
    /// Connections and timeouts.
    pub limits: Limits,
}

/// A handle to the database and its one writer. Dropping the last one lets the writer write what is queued, if
/// the process, and with PostgreSQL the async runtime, lives on; [`Database::close`] waits for that.
pub struct SqlDatabase {
    pub(crate) queue: Queue,
    pub(crate) head: Arc<watch::Sender<ChainHead>>,
    pub(crate) host: HostId,
    /// Counts how often runs were queued.
    pub(crate) queued: watch::Sender<u64>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lease: Duration,
    backend: Arc<Backend>,
    readers: Pool,
    listener: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for SqlDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlDatabase").field("host", &self.host).finish_non_exhaustive()
    }
}

impl SqlDatabase {
    /// Opens the database, brings it to this version's schema, and starts the writer.
    /// A host, and an SQLite file, can be open once at a time.
    pub async fn open(options: DatabaseOptions) -> Result<Arc<Self>, StorageError> {
        let backend = Backend::open(options.url.clone(), options.limits).await?;
        Self::start(options, backend).await
    }

    pub(crate) async fn start(options: DatabaseOptions, backend: Backend) -> Result<Arc<Self>, StorageError> {
        let DatabaseOptions { host, clock, lease, queue, .. } = options;
        let mut connection = backend.connect().await?;
        migrations::run(&backend, &mut connection).await?;
        let host = outbox::host(&mut connection, host, backend.is_shared(), clock.now()).await?;
        drop(connection.close().await);

        let backend = Arc::new(backend);
        let session = Session::open(&backend, host).await?;
        let head = Arc::new(watch::Sender::new(session.position.head));
        let (queue, receiver) = Queue::new(queue);
        let writer = Writer::new(session, Arc::clone(&backend), Arc::clone(&clock), Arc::clone(&head));
        backend.spawn(writer.run(receiver))?;
        let readers = backend.readers();
        let queued = watch::Sender::new(0);
        let listener = readers.listen(queued.clone());
        Ok(Arc::new(Self { queue, head, host, queued, clock, lease, backend, readers, listener }))
    }

    /// How the schema of a database stands. Changes nothing, and creates nothing.
    pub async fn schema(url: DatabaseUrl, limits: Limits) -> Result<Schema, StorageError> {
        let Some(mut connection) = Backend::look(url, limits).await? else { return Ok(migrations::schema_after(&[])) };
        let schema = migrations::schema(&mut connection).await;
        drop(connection.close().await);
        schema
    }

    /// Brings a database to this version's schema, which [`SqlDatabase::open`] does as well. Returns how it stood
    /// before. The database must not be open.
    pub async fn migrate(url: DatabaseUrl, limits: Limits) -> Result<Schema, StorageError> {
        let backend = Backend::open(url, limits).await?;
        let mut connection = backend.connect().await?;
        let before = migrations::run(&backend, &mut connection).await;
        drop(connection.close().await);
        before
    }

    /// The latest migration of this version.
    pub fn latest_migration() -> i64 {
        migrations::known()
    }

    /// Reverts every migration above this version, and leaves the database like that. For development: release
    /// builds do not have it.
    #[cfg(debug_assertions)]
    pub async fn revert(url: DatabaseUrl, version: i64) -> Result<(), StorageError> {
        let backend = Backend::open(url, Limits::default()).await?;
        let mut connection = backend.connect().await?;
        migrations::revert(&mut connection, version).await
    }

    /// A connection for reading.
    pub(crate) async fn reader(&self, operation: &'static str) -> Result<Connection, StorageError> {
        self.readers.acquire(operation).await
    }
}

impl Drop for SqlDatabase {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

#[async_trait]
impl Database for SqlDatabase {
    fn host(&self) -> HostId {
        self.host
    }

    async fn ping(&self) -> Result<(), StorageError> {
        let mut reader = self.reader("ping").await?;
        query("SELECT 1").execute(&mut reader).await.map(drop).map_err(failed("ping"))
    }

    async fn migration_version(&self) -> Result<Option<i64>, StorageError> {
        let operation = "read the schema's version";
        let mut reader = self.reader(operation).await?;
        let version: Option<Option<i64>> =
            query(migrations::VERSION).fetch_value(&mut reader).await.map_err(failed(operation))?;
        Ok(version.flatten())
    }

    async fn statistics(&self) -> Result<Statistics, StorageError> {
        let operation = "count what is stored";
        let mut reader = self.reader(operation).await?;
        let mut counts = [0; COUNTS.len() + 1];
        for (count, statement) in counts.iter_mut().zip(COUNTS.into_iter().chain([self.backend.size()])) {
            let found: Option<i64> = query(statement).fetch_value(&mut reader).await.map_err(failed(operation))?;
            *count = u64::try_from(found.unwrap_or(0)).map_err(unreadable("count"))?;
        }
        let [jobs, runs, node_executions, outbox_events, bytes] = counts;
        let newest: Option<Option<i64>> = query(NEWEST).fetch_value(&mut reader).await.map_err(failed(operation))?;
        Ok(Statistics {
            backend: self.backend.name().to_owned(),
            jobs,
            runs,
            node_executions,
            outbox_events,
            bytes,
            last_recorded_at: newest.flatten().map(Timestamp::from_micros),
        })
    }

    async fn snapshot(&self, to: &Path) -> Result<(), StorageError> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.snapshot(to).await,
            Backend::Postgres(_) => Err(StorageError::Conflict("PostgreSQL is copied with pg_dump".to_owned())),
        }
    }

    async fn close(&self) -> Result<(), StorageError> {
        // Readers first: the last connection to close folds SQLite's write-ahead log into the database.
        if let Some(listener) = &self.listener {
            listener.abort();
        }
        self.readers.close().await;
        self.queue.close().await?;
        self.backend.release();
        Ok(())
    }
}
