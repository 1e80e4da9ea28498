//! A database of either backend for one test, with what tests put into it.

mod recorded;
mod samples;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::AdmittedEvent;
use handshake_core::storage::{Database, StorageError};
use handshake_core::testing::{FixedClock, SequentialIds};
use handshake_core::{Clock, EventId, HostId};
use handshake_storage::{DatabaseOptions, DatabaseUrl, Limits, SqlDatabase};

pub use self::recorded::{Calls, Recorded};
pub use self::samples::{event, job, node};
use crate::postgres::{Backend, TestDatabase, server};

/// How long claims last in tests, where a clock stands still.
pub const LEASE: Duration = Duration::from_secs(30);

/// Opens a database with room for 8,192 events.
pub async fn open(url: &DatabaseUrl, host: HostId, clock: Arc<dyn Clock>) -> Arc<SqlDatabase> {
    for _ in 0..250 {
        match SqlDatabase::open(options(url, host, Arc::clone(&clock))).await {
            // While another test of this process starts a program, that has copies of all open files for a moment,
            // and with them the lock on a database that was just closed.
            Err(StorageError::Conflict(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            opened => return opened.unwrap(),
        }
    }
    SqlDatabase::open(options(url, host, clock)).await.unwrap()
}

/// The options of [`open`].
pub fn options(url: &DatabaseUrl, host: HostId, clock: Arc<dyn Clock>) -> DatabaseOptions {
    DatabaseOptions { url: url.clone(), host, clock, lease: LEASE, queue: 8192, limits: Limits::default() }
}

/// A place for a database, gone when it is dropped.
pub struct Place {
    /// Which backend.
    pub backend: Backend,
    /// Where.
    pub url: DatabaseUrl,
    /// The same as text, with its password.
    pub secret_url: String,
    folder: tempfile::TempDir,
    _database: Option<TestDatabase>,
}

impl Place {
    /// A fresh one.
    pub async fn new(backend: Backend) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(server().fresh_database().await),
        };
        let secret_url = match &database {
            None => format!("sqlite:{}", folder.path().join("handshake.db").display()),
            Some(database) => database.url.clone(),
        };
        Self { backend, url: secret_url.parse().unwrap(), secret_url, folder, _database: database }
    }

    /// A folder for files beside the database; an SQLite file lies in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An open database whose calls are noted, a clock that stands still, and ids that count up.
pub struct World {
    /// The database, through which calls are noted.
    pub database: Arc<Recorded>,
    /// The same without notes.
    pub sql: Arc<SqlDatabase>,
    /// Stands still until it is moved.
    pub clock: Arc<FixedClock>,
    /// Counts up.
    pub ids: Arc<SequentialIds>,
    /// Where the database is. Dropped last.
    pub place: Place,
}

impl World {
    /// A fresh one; calls of the database are noted in `calls`.
    pub async fn new(backend: Backend, calls: &Calls) -> Self {
        let place = Place::new(backend).await;
        let (clock, ids) = (Arc::new(FixedClock::default()), Arc::new(SequentialIds::default()));
        let sql = open(&place.url, HostId::fresh(&*ids), clock.clone()).await;
        Self { database: Recorded::new(&sql, calls), sql, clock, ids, place }
    }

    /// Another host on the same database; PostgreSQL only.
    pub async fn another_host(&self) -> Arc<SqlDatabase> {
        open(&self.place.url, HostId::fresh(&*self.ids), self.clock.clone()).await
    }

    /// Opens the database again as the same host, after [`Database::close`].
    pub async fn again(&self) -> Arc<SqlDatabase> {
        open(&self.place.url, self.sql.host(), self.clock.clone()).await
    }

    /// An event that may be recorded.
    pub fn event(&self, detail: &str) -> AdmittedEvent {
        event(&*self.ids, detail)
    }

    /// Ids of all events on record, after checking the chain.
    pub async fn recorded(&self) -> Vec<EventId> {
        verified(&*self.database).await
    }
}

/// The newest migration of this checkout.
pub fn newest_migration() -> i64 {
    let files = std::fs::read_dir(crate::root().join("migrations")).unwrap();
    files.filter_map(|file| file.unwrap().file_name().to_str()?.split_once('_')?.0.parse().ok()).max().unwrap()
}

/// Flushes, reads every record of the host in pages, and checks the chain up to the head. Returns the events' ids.
pub async fn verified(database: &dyn Database) -> Vec<EventId> {
    let flushed = database.flush().await.unwrap();
    let (head, records) = records(database).await;
    assert!(head.seq >= flushed.seq);
    let ids: Vec<_> = records.iter().map(|record| record.event_id).collect();
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "an event was doubled");
    ids
}

/// Every record of the host, checked, and where the chain ends.
pub async fn records(database: &dyn Database) -> (ChainHead, Vec<StampedEvent>) {
    let mut head = ChainHead::empty(database.host());
    let mut records = Vec::new();
    loop {
        let page = database.read_after(head.seq, 100).await.unwrap();
        if page.is_empty() {
            return (head, records);
        }
        for record in page {
            assert!(record.recorded_at >= head.recorded_at, "recorded time ran backwards");
            head.verify(&record).unwrap();
            records.push(record);
        }
    }
}
