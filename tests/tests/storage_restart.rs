//! A PostgreSQL that goes away under load and comes back: the host connects again by itself, callers are told that
//! they may try again, and whatever was acknowledged is there.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use handshake_core::HostId;
use handshake_core::storage::{Database, EventOutbox, JobFilter, JobStore, StorageError};
use handshake_core::testing::{FixedClock, SequentialIds};
use handshake_storage::{DatabaseOptions, Limits, SqlDatabase};
use handshake_tests::postgres::{Backend, Options, Server, backends};
use handshake_tests::storage::{event, job, options, verified};

/// How long everything may take to work again.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_loses_nothing_acknowledged_and_the_host_goes_on() {
    if !backends().contains(&Backend::Postgres) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let rounds: usize = std::env::var("HANDSHAKE_SOAK").ok().map_or(2, |rounds| rounds.parse().unwrap());
    let server = tokio::task::spawn_blocking(|| Arc::new(Server::private(Options::default()))).await.unwrap();
    let (ids, clock) = (Arc::new(SequentialIds::default()), Arc::new(FixedClock::default()));
    let limits = Limits { connect_timeout: Duration::from_secs(2), ..Limits::default() };
    let url = server.url().parse().unwrap();
    let options = DatabaseOptions { limits, ..options(&url, HostId::fresh(&*ids), clock.clone()) };
    let database = SqlDatabase::open(options).await.unwrap();

    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (database, ids, clock) = (database.clone(), ids.clone(), clock.clone());
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let (mut events, mut jobs, mut refused) = (Vec::new(), Vec::new(), 0);
                while !stop.load(Ordering::SeqCst) {
                    let event = event(&*ids, "x");
                    let id = event.event_id();
                    match database.append(event).await {
                        Ok(()) => events.push(id),
                        Err(error) => refused += refusal(&error),
                    }
                    let (job, run) = job(&*ids, handshake_core::Clock::now(&*clock));
                    let id = job.job_id;
                    match database.submit(job, run, None, vec![]).await {
                        Ok(_) => jobs.push(id),
                        Err(error) => refused += refusal(&error),
                    }
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    // Reads fail and come back too.
                    if let Err(error) = database.jobs(&JobFilter { limit: 1, ..JobFilter::default() }).await {
                        refusal(&error);
                    }
                }
                (events, jobs, refused)
            })
        })
        .collect();

    for _ in 0..rounds {
        until(&acknowledged, 100).await;
        let restarted = server.clone();
        tokio::task::spawn_blocking(move || {
            restarted.kill();
            std::thread::sleep(Duration::from_millis(300));
            restarted.start();
        })
        .await
        .unwrap();
        // Every writer may have failed once more before it noticed.
        let started = Instant::now();
        while database.append(event(&*ids, "again")).await.is_err() {
            assert!(started.elapsed() < PATIENCE, "the host does not connect again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    until(&acknowledged, 100).await;
    stop.store(true, Ordering::SeqCst);

    let (mut events, mut jobs, mut refusals) = (Vec::new(), Vec::new(), 0);
    for writer in writers {
        let (written, submitted, refused) = writer.await.unwrap();
        events.extend(written);
        jobs.extend(submitted);
        refusals += refused;
    }
    assert!(refusals > 0, "the server was never missed");
    let recorded: HashSet<_> = verified(&*database).await.into_iter().collect();
    assert!(events.iter().all(|id| recorded.contains(id)), "an acknowledged event is lost");
    for id in jobs {
        database.job(id).await.unwrap();
    }
    database.close().await.unwrap();
}

/// An error that a caller of a missing server may see: one that says so, and that trying again may help, or that
/// nobody knows what became of the commit.
fn refusal(error: &StorageError) -> usize {
    let text = format!("{error}: {}", std::error::Error::source(error).map(ToString::to_string).unwrap_or_default());
    let clear = matches!(error, StorageError::Unavailable { .. })
        || text.contains("not known whether the commit")
        || text.contains("events that come before it");
    assert!(clear, "{text}");
    1
}

/// Waits until so many more rounds of writing are over.
async fn until(acknowledged: &AtomicUsize, more: usize) {
    let (wanted, started) = (acknowledged.load(Ordering::SeqCst) + more, Instant::now());
    while acknowledged.load(Ordering::SeqCst) < wanted {
        assert!(started.elapsed() < PATIENCE, "nothing is written any more");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
