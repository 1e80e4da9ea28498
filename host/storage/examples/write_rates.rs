//! Measures the writer against the floor of the same machine: a raw loop of one-row transactions.
//!
//! `cargo run -p handshake-storage --example write_rates [FOLDER]`

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::storage::{Database, EventOutbox};
use handshake_core::testing::{FixedClock, NoRedaction, SequentialIds};
use handshake_core::{Clock, EventId, TraceId};
use handshake_storage::{SqliteDatabase, SqliteOptions};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

const PERIOD: Duration = Duration::from_secs(3);

fn event(ids: &SequentialIds, clock: &FixedClock) -> AdmittedEvent {
    let body = EventBody::System { kind: "measure".into(), detail: "x".repeat(400) };
    let event = Event::new(EventId::fresh(ids), TraceId::fresh(ids), clock.now(), Actor::system(), body);
    AdmittedEvent::admit(&event, &NoRedaction).unwrap()
}

/// One-row transactions per second, through the same driver and with the same durability.
async fn floor(folder: &Path) -> f64 {
    let mut connection = SqliteConnectOptions::new()
        .filename(folder.join("floor.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .unwrap();
    sqlx::query("CREATE TABLE t (n BIGINT PRIMARY KEY, text TEXT)").execute(&mut connection).await.unwrap();
    let text = "x".repeat(700);
    let (started, mut n) = (Instant::now(), 0_i64);
    while started.elapsed() < PERIOD {
        n += 1;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        sqlx::query("INSERT INTO t VALUES ($1, $2)").bind(n).bind(&text).execute(&mut connection).await.unwrap();
        sqlx::query("COMMIT").execute(&mut connection).await.unwrap();
    }
    n as f64 / started.elapsed().as_secs_f64()
}

/// Durable events per second with so many callers at once.
async fn appenders(
    database: &Arc<SqliteDatabase>,
    ids: &Arc<SequentialIds>,
    clock: &Arc<FixedClock>,
    callers: usize,
) -> f64 {
    let before = database.flush().await.unwrap().seq;
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (database, ids, clock) = (Arc::clone(database), Arc::clone(ids), Arc::clone(clock));
            tokio::spawn(async move {
                while started.elapsed() < PERIOD {
                    database.append(event(&ids, &clock)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let after = database.flush().await.unwrap().seq;
    (after - before) as f64 / started.elapsed().as_secs_f64()
}

/// Events per second that nobody waits for, until they are durable.
async fn lazy(database: &SqliteDatabase, ids: &SequentialIds, clock: &FixedClock) -> f64 {
    let before = database.flush().await.unwrap().seq;
    let started = Instant::now();
    while started.elapsed() < PERIOD {
        if database.enqueue(event(ids, clock)).is_err() {
            tokio::task::yield_now().await;
        }
    }
    let after = database.flush().await.unwrap().seq;
    (after - before) as f64 / started.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let given = std::env::args().nth(1).map(PathBuf::from);
    let folder = tempfile::tempdir_in(given.unwrap_or_else(std::env::temp_dir)).unwrap();
    let (ids, clock) = (Arc::new(SequentialIds::default()), Arc::new(FixedClock::default()));
    let options =
        SqliteOptions { path: folder.path().join("handshake.db"), clock: clock.clone(), ids: ids.clone(), queue: 8192 };
    let database = SqliteDatabase::open(options).await.unwrap();

    let raw = floor(folder.path()).await;
    println!("raw one-row transactions     {raw:>9.0}/s");
    for callers in [1, 8, 64] {
        let rate = appenders(&database, &ids, &clock, callers).await;
        println!("durable events, {callers:>2} at a time {rate:>9.0}/s  {:.2} × raw", rate / raw);
    }
    let rate = lazy(&database, &ids, &clock).await;
    println!("events nobody waits for      {rate:>9.0}/s  {:.2} × raw", rate / raw);
    database.close().await.unwrap();
}
