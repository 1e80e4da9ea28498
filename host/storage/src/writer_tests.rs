//! What the writer does when the database fails it: a full disk, a commit whose answer is lost, bad neighbours.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use async_trait::async_trait;
use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::storage::{Database, EventOutbox, StorageError};
use handshake_core::testing::{FixedClock, NoRedaction, SequentialIds};
use handshake_core::{EventId, Ids, TraceId};
use sqlx::ConnectOptions as _;

use super::*;
use crate::database::{DatabaseOptions, SqlDatabase};
use crate::limits::Limits;
use crate::operation::{Applied, Operation, Refusal};
use crate::sql::query;
use crate::url::DatabaseUrl;

fn event(ids: &dyn Ids, detail: &str) -> AdmittedEvent {
    let body = EventBody::System { kind: "test".into(), detail: detail.into() };
    let event =
        Event::new(EventId::fresh(ids), TraceId::fresh(ids), FixedClock::default().now(), Actor::system(), body);
    AdmittedEvent::admit(&event, &NoRedaction, event.timestamp).unwrap()
}

async fn open(folder: &tempfile::TempDir, ids: Arc<dyn Ids>, queue: usize, pages: Option<u32>) -> Arc<SqlDatabase> {
    let url = DatabaseUrl::sqlite(folder.path().join("test.db"));
    let mut backend = Backend::open(url.clone(), Limits::default()).await.unwrap();
    if let (Some(pages), Backend::Sqlite(sqlite)) = (pages, &mut backend) {
        sqlite.bound(pages);
    }
    let (host, lease) = (HostId::fresh(&*ids), Duration::from_secs(30));
    let options =
        DatabaseOptions { url, host, clock: Arc::new(FixedClock::default()), lease, queue, limits: Limits::default() };
    SqlDatabase::start(options, backend).await.unwrap()
}

async fn verified(database: &SqlDatabase) -> Vec<EventId> {
    let records = database.read_after(0, 100_000).await.unwrap();
    let mut head = ChainHead::empty(database.host());
    for record in &records {
        head.verify(record).unwrap();
    }
    assert_eq!(head, database.flush().await.unwrap());
    records.iter().map(|record| record.event_id).collect()
}

/// Runs statements inside the writer's transaction.
struct Statements(&'static [&'static str], [AdmittedEvent; 1]);

#[async_trait]
impl Operation for Statements {
    type Answer = ();
    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        for statement in self.0 {
            query(*statement).execute(step.connection).await.map_err(failed("test"))?;
        }
        Ok(Applied::Wrote(()))
    }
    fn events(&self) -> &[AdmittedEvent] {
        &self.1
    }
}

#[tokio::test]
async fn a_full_disk_refuses_new_events_keeps_old_ones_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Arc<dyn Ids> = Arc::new(SequentialIds::default());
    drop(open(&folder, Arc::clone(&ids), 8, None).await.close().await);
    let database = open(&folder, Arc::clone(&ids), 8, Some(40)).await;

    let long = "x".repeat(8_000);
    let mut kept = Vec::new();
    let error = loop {
        let next = event(&*ids, &long);
        let id = next.event_id();
        match database.append(next).await {
            Ok(()) => kept.push(id),
            Err(error) => break error,
        }
    };
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("full"), "{error:?}");

    // Events that nobody waits for stay in the queue until it is full.
    for _ in 0..8 {
        let next = event(&*ids, &long);
        kept.push(next.event_id());
        database.enqueue(next).unwrap();
    }
    assert!(matches!(database.flush().await, Err(StorageError::Database { .. })));
    assert!(matches!(database.enqueue(event(&*ids, "")), Err(StorageError::Overloaded { .. })));
    assert!(matches!(database.reserve().map(drop), Err(StorageError::Overloaded { .. })));

    // With room on the disk again they are written, in order, before what came later.
    let last = event(&*ids, "last");
    kept.push(last.event_id());
    database.queue.perform("test", Statements(&["PRAGMA max_page_count = 100000"], [last]), None).await.unwrap();
    assert_eq!(verified(&database).await, kept);
    database.enqueue(event(&*ids, "more")).unwrap();
    database.flush().await.unwrap();
}

#[tokio::test]
async fn a_commit_that_took_effect_although_it_failed_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Arc<dyn Ids> = Arc::new(SequentialIds::default());
    let database = open(&folder, Arc::clone(&ids), 64, None).await;
    database.append(event(&*ids, "before")).await.unwrap();
    // The transaction is ended behind the writer's back, so what follows takes effect at once and COMMIT fails.
    database.queue.perform("test", Statements(&["COMMIT"], [event(&*ids, "inside")]), None).await.unwrap();
    database.append(event(&*ids, "after")).await.unwrap();
    assert_eq!(verified(&database).await.len(), 3);
}

#[tokio::test]
async fn a_commit_that_failed_is_undone_and_its_neighbours_are_written_apart() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Arc<dyn Ids> = Arc::new(SequentialIds::default());
    let database = open(&folder, Arc::clone(&ids), 64, None).await;
    let first = event(&*ids, "first");
    let last = event(&*ids, "last");
    let expected = vec![first.event_id(), last.event_id()];
    const ORPHAN: &[&str] =
        &["PRAGMA defer_foreign_keys = ON", "INSERT INTO run_artifacts VALUES ('nobody', '00', 0, '', 0)"];
    let (first, orphan, last) = tokio::join!(
        database.append(first),
        database.queue.perform("test", Statements(ORPHAN, [event(&*ids, "orphan")]), None),
        database.append(last),
    );
    first.unwrap();
    last.unwrap();
    assert!(matches!(orphan, Err(StorageError::Database { operation: "commit", .. })), "{orphan:?}");
    assert_eq!(verified(&database).await, expected);
}

#[tokio::test]
async fn a_failed_statement_does_not_fail_its_neighbours_and_a_second_copy_of_an_event_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Arc<dyn Ids> = Arc::new(SequentialIds::default());
    let database = open(&folder, Arc::clone(&ids), 64, None).await;
    let twice = event(&*ids, "twice");
    let (other, last) = (event(&*ids, "other"), event(&*ids, "last"));
    let expected = vec![twice.event_id(), other.event_id(), last.event_id()];
    database.enqueue(twice.clone()).unwrap();
    database.enqueue(twice).unwrap();
    database.enqueue(other).unwrap();
    let broken = Statements(&["INSERT INTO nowhere VALUES (1)"], [event(&*ids, "broken")]);
    let (broken, last) = tokio::join!(database.queue.perform("test", broken, None), database.append(last));
    assert!(broken.is_err());
    last.unwrap();
    assert_eq!(verified(&database).await, expected);
}

#[tokio::test]
async fn a_second_writer_is_noticed_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Arc<dyn Ids> = Arc::new(SequentialIds::default());
    let database = open(&folder, Arc::clone(&ids), 64, None).await;
    database.append(event(&*ids, "one")).await.unwrap();
    let url = DatabaseUrl::sqlite(folder.path().join("test.db"));
    let second = Backend::open(url, Limits::default()).await.unwrap_err();
    assert!(matches!(&second, StorageError::Conflict(text) if text.contains("another process")), "{second:?}");

    // One that gets around the lock moves the books, and is found out by that.
    const MOVE: &[&str] = &["UPDATE hosts SET commit_number = commit_number + 1"];
    let moved = database.queue.perform("test", Statements(MOVE, [event(&*ids, "moved")]), None).await.unwrap_err();
    assert!(describe(&moved).contains("another writer"), "{moved:?}");
    database.append(event(&*ids, "one again")).await.unwrap();
    assert_eq!(verified(&database).await.len(), 2);
}

#[tokio::test]
async fn nothing_is_written_on_books_that_another_writer_has_moved() {
    let (folder, ids) = (tempfile::tempdir().unwrap(), Arc::new(SequentialIds::default()));
    let database = open(&folder, ids.clone(), 100, None).await;
    database.append(event(&*ids, "first")).await.unwrap();
    let path = folder.path().join("test.db");
    let mut other = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query("UPDATE hosts SET commit_number = commit_number + 1").execute(&mut other).await.unwrap();
    let refused = database.append(event(&*ids, "second")).await.unwrap_err();
    assert!(describe(&refused).contains("another writer has moved this host's chain"), "{refused:?}");
    assert_eq!(verified(&database).await.len(), 1);
    database.append(event(&*ids, "third")).await.unwrap();
    assert_eq!(verified(&database).await.len(), 2);
}
