//! A host that is killed in the middle of writing: what it acknowledged is there, once, and the chain verifies.
//!
//! The test runs itself as a child process, which prints the id of each event after it was acknowledged.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use handshake_core::storage::EventOutbox;
use handshake_core::{Clock, EventId, Ids, Timestamp};
use uuid::Uuid;

const NAME: &str = "a_killed_host_loses_and_doubles_no_acknowledged_event";
const FOLDER: &str = "HANDSHAKE_TEST_KILLED_FOLDER";
/// Rounds; `just soak` sets many.
const SOAK: &str = "HANDSHAKE_SOAK";

struct SystemClock;
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_micros(since.as_micros().try_into().unwrap())
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

struct RandomIds;
impl Ids for RandomIds {
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
    fn random(&self, buffer: &mut [u8]) {
        buffer.fill(4);
    }
}

/// Appends and prints until it is killed.
async fn child(folder: &str) {
    let database = support::open(folder.as_ref(), Arc::new(SystemClock), Arc::new(RandomIds), 8192).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let database = Arc::clone(&database);
        tasks.spawn(async move {
            loop {
                let slot = database.reserve().unwrap();
                database.enqueue(support::event(&RandomIds, "lazy")).unwrap();
                let event = support::event(&RandomIds, "acknowledged");
                let id = event.event_id();
                database.append(event).await.unwrap();
                println!("acknowledged {id}");
                slot.fill(support::event(&RandomIds, "outcome"));
            }
        });
    }
    // None of them ends by itself, so the first that does has failed.
    assert!(tasks.join_next().await.is_none(), "an append failed");
}

#[test]
fn a_killed_host_loses_and_doubles_no_acknowledged_event() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(folder) = std::env::var(FOLDER) {
        return runtime.block_on(child(&folder));
    }
    let rounds: usize = std::env::var(SOAK).ok().map_or(3, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<EventId> = Vec::new();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = acknowledged.len() + 40 + round * 17 % 60;
        // What is still in the pipe after the kill was acknowledged too, so it is read to its end. A line that the
        // kill cut off does not parse and was not promised.
        let mut killed = false;
        while let Some(Ok(line)) = lines.next() {
            if let Some(id) = line.split_once("acknowledged ").and_then(|(_, id)| id.parse().ok()) {
                acknowledged.push(id);
            }
            if !killed && acknowledged.len() >= wanted {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        runtime.block_on(async {
            let database = support::open(folder.path(), Arc::new(SystemClock), Arc::new(RandomIds), 64).await;
            let recorded: std::collections::HashSet<_> = support::verified(&database).await.into_iter().collect();
            assert!(acknowledged.iter().all(|id| recorded.contains(id)), "an acknowledged event is lost");
            handshake_core::storage::Database::close(&*database).await.unwrap();
        });
    }
}
