//! A host that is killed in the middle of writing: what it acknowledged is there, once, whole, and the chain verifies.
//!
//! The test runs itself as a child process, which prints what was acknowledged.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use handshake_core::event::DueEvent;
use handshake_core::storage::{Database, EventOutbox, JobFilter, JobStore, RunStore};
use handshake_core::testing::SequentialIds;
use handshake_core::{Clock, HostId, Ids, JobId, Timestamp};
use handshake_storage::DatabaseUrl;
use handshake_tests::postgres::{Backend, backends};
use handshake_tests::storage::{Place, event, job, open, records};
use uuid::Uuid;

const URL: &str = "HANDSHAKE_TEST_KILLED_URL";
/// Rounds; `just soak` sets many.
const SOAK: &str = "HANDSHAKE_SOAK";
/// Rounds until a fresh database.
const FRESH: usize = 10;

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

/// The same one in every round.
fn host() -> HostId {
    HostId::fresh(&SequentialIds::default())
}

/// Writes and prints until it is killed: events, and jobs whose submission is one transaction of a job, a run and an
/// event that names the job.
async fn child(url: &str) {
    let database = open(&url.parse().unwrap(), host(), Arc::new(SystemClock)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let database = Arc::clone(&database);
        tasks.spawn(async move {
            loop {
                let slot = database.reserve().unwrap();
                database.enqueue(event(&RandomIds, "lazy")).unwrap();
                let acknowledged = event(&RandomIds, "acknowledged");
                let id = acknowledged.event_id();
                database.append(acknowledged).await.unwrap();
                println!("acknowledged {id}");
                let (job, run) = job(&RandomIds, SystemClock.now());
                let id = job.job_id;
                database.submit(job, run, None, vec![event(&RandomIds, &format!("job {id}"))]).await.unwrap();
                println!("acknowledged {id}");
                slot.fill(DueEvent::Admitted(event(&RandomIds, "outcome"))).unwrap();
            }
        });
    }
    // None of them ends by itself, so the first that does has failed.
    assert!(tasks.join_next().await.is_none(), "a write failed");
}

/// What is on record: ids of events and jobs. Every job has its run and its event, and no event lacks its job.
async fn stored(url: &DatabaseUrl) -> HashSet<Uuid> {
    let database = open(url, host(), Arc::new(SystemClock)).await;
    let (_, records) = records(&*database).await;
    let mut stored: HashSet<Uuid> = records.iter().map(|record| record.event_id.uuid()).collect();
    assert_eq!(stored.len(), records.len(), "an event was doubled");
    let announced: HashSet<JobId> = records.iter().filter_map(|record| announced(&record.record)).collect();
    let mut jobs = HashSet::new();
    let mut filter = JobFilter { limit: 1_000, ..JobFilter::default() };
    loop {
        let page = database.jobs(&filter).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(last.job_id);
        for job in page {
            assert_eq!(database.runs_of(job.job_id).await.unwrap().len(), 1, "half a submission");
            jobs.insert(job.job_id);
        }
    }
    assert_eq!(jobs, announced, "half a submission");
    stored.extend(jobs.iter().map(JobId::uuid));
    database.close().await.unwrap();
    stored
}

fn announced(record: &str) -> Option<JobId> {
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    record["event"]["payload"]["detail"].as_str()?.strip_prefix("job ")?.parse().ok()
}

fn killed(backend: Backend, name: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(url) = std::env::var(URL) {
        return runtime.block_on(child(&url));
    }
    if !backends().contains(&backend) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let rounds: usize = std::env::var(SOAK).ok().map_or(3, |rounds| rounds.parse().unwrap());
    let mut place = runtime.block_on(Place::new(backend));
    let mut acknowledged: Vec<Uuid> = Vec::new();
    for round in 0..rounds {
        // Every round reads the whole database, so one database for all rounds would take their square in time.
        if round > 0 && round % FRESH == 0 {
            place = runtime.block_on(Place::new(backend));
            acknowledged.clear();
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(URL, &place.secret_url)
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
        let stored = runtime.block_on(stored(&place.url));
        assert!(acknowledged.iter().all(|id| stored.contains(id)), "something acknowledged is lost");
    }
}

#[test]
fn sqlite_keeps_what_a_killed_host_acknowledged() {
    killed(Backend::Sqlite, "sqlite_keeps_what_a_killed_host_acknowledged");
}

#[test]
fn postgres_keeps_what_a_killed_host_acknowledged() {
    killed(Backend::Postgres, "postgres_keeps_what_a_killed_host_acknowledged");
}
