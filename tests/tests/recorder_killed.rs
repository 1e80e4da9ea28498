//! A host that is killed while it records, projects, seals, drops and compacts, at any moment of it: what it
//! acknowledged is on record once, and the whole record verifies against the head that it published.
//!
//! The test runs itself as a child process, which prints what was acknowledged. A second is a day there, so that
//! retention has something to do.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use handshake_core::storage::{Database, EventOutbox};
use handshake_core::testing::{NoRedaction, SequentialIds};
use handshake_core::{Clock, EventId, HostId, Ids, Timestamp};
use handshake_recorder::signing::SigningKey;
use handshake_recorder::{
    Archive, Keeper, KeeperPolicy, KeeperServices, Probe, Projection, ProjectionOptions, RecordLog, Recorder, head,
};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::binary::handshake;
use handshake_tests::postgres::{Backend, backends};
use handshake_tests::storage::{Place, event, open};
use uuid::Uuid;

const URL: &str = "HANDSHAKE_TEST_RECORDER_KILLED_URL";
const FOLDER: &str = "HANDSHAKE_TEST_RECORDER_KILLED_FOLDER";
/// Rounds; `just soak` sets many.
const SOAK: &str = "HANDSHAKE_SOAK";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Real time when the test began, microseconds since 1970; in a file, for all its processes.
fn began(folder: &Path) -> i64 {
    std::fs::read_to_string(folder.join("began")).unwrap().parse().unwrap()
}

fn real_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// A clock that runs 86,400 times as fast, from 2026-01-01 on.
struct FastClock {
    began: i64,
}
impl FastClock {
    fn passed(&self) -> Duration {
        Duration::from_micros(((real_now() - self.began) * 86_400).unsigned_abs())
    }
}
impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        Timestamp::parse("2026-01-01T00:00:00Z").unwrap().plus(self.passed())
    }
    fn monotonic(&self) -> Duration {
        self.passed()
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

struct Host {
    database: Arc<SqlDatabase>,
    log: Arc<RecordLog>,
    projection: Projection,
    keeper: Keeper,
}

async fn start(url: &DatabaseUrl, folder: &Path) -> Host {
    let clock: Arc<dyn Clock> = Arc::new(FastClock { began: began(folder) });
    let database = open(url, HostId::fresh(&SequentialIds::default()), Arc::clone(&clock)).await;
    let key = Arc::new(SigningKey::load_or_create(&folder.join("key.pem"), &RandomIds).unwrap());
    let archive = Arc::new(Archive::open(folder.join("segments"), database.host(), key).unwrap());
    let outbox = Arc::clone(&database) as Arc<dyn EventOutbox>;
    let log = Arc::new(RecordLog::new(Arc::clone(&outbox), archive));
    let retention = 7 * DAY;
    let options = ProjectionOptions {
        path: folder.join("recorder.duckdb"),
        clock: Arc::clone(&clock),
        retention,
        probe: Some(Probe { program: handshake().to_owned(), arguments: vec!["recorder".into(), "probe".into()] }),
    };
    let projection = Projection::open(Arc::clone(&log), options).await.unwrap();
    let services = KeeperServices {
        log: Arc::clone(&log),
        recorder: Arc::new(Recorder::new(outbox, Arc::new(NoRedaction), Arc::clone(&clock))),
        clock,
        ids: Arc::new(RandomIds),
        head_file: folder.join("head.json"),
        notes_file: folder.join("expiry.json"),
    };
    let policy = KeeperPolicy { retention, seal_records: 200, seal_after: DAY };
    Host { database, log, projection, keeper: Keeper::new(services, policy) }
}

/// Records and prints until it is killed, and keeps the record meanwhile.
async fn child(url: &str, folder: &Path) {
    let host = Arc::new(start(&url.parse().unwrap(), folder).await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let host = Arc::clone(&host);
        tasks.spawn(async move {
            loop {
                host.database.enqueue(event(&RandomIds, "lazy")).unwrap();
                let acknowledged = event(&RandomIds, "acknowledged");
                let id = acknowledged.event_id();
                host.database.append(acknowledged).await.unwrap();
                println!("acknowledged {id}");
                // Segments are small here, so that much happens; more records would outrun them.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    tasks.spawn(async move {
        for round in 0.. {
            host.keeper.publish_head().await;
            host.keeper.tend(&host.projection).await;
            println!("tended");
            if round % 3 == 1 {
                host.projection.compact().await.unwrap();
            }
            if round % 5 == 2 {
                host.keeper.seal(&host.projection).await.unwrap();
            }
        }
    });
    // None of them ends by itself, so the first that does has failed.
    assert!(tasks.join_next().await.is_none(), "a write failed");
}

/// Numbers by id of what is on record, and up to which number it was dropped, after all of it was verified.
async fn verified(url: &DatabaseUrl, folder: &Path, round: usize) -> (HashMap<EventId, u64>, u64) {
    let host = start(url, folder).await;
    let published = head::read(&folder.join("head.json")).unwrap();
    let verified = host.keeper.verify(&host.projection, published).await.unwrap();
    assert_eq!(verified.finding, None, "round {round}");
    let head = host.log.flush().await.unwrap().seq;
    assert_eq!(verified.seq, head);
    let mut on_record = HashMap::new();
    let mut seq = verified.dropped_to;
    while seq < head {
        for record in host.log.read_after(seq, 1000).await.unwrap() {
            assert_eq!(record.seq, seq + 1);
            seq = record.seq;
            assert_eq!(on_record.insert(record.event_id, record.seq), None, "an event was doubled");
        }
    }
    host.projection.caught_up().await.unwrap();
    let status = host.keeper.status(&host.projection).await;
    assert_eq!(status.problems, Vec::<String>::new());
    // What only a process was killed over is not damaged, so that nothing has to be built anew.
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let set_aside: Vec<String> = files.filter(|name| name.contains(".damaged-")).collect();
    assert_eq!(set_aside, Vec::<String>::new(), "round {round}");
    host.projection.close().await.unwrap();
    host.database.close().await.unwrap();
    (on_record, verified.dropped_to)
}

fn killed(backend: Backend, name: &str) {
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).try_init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let (Ok(url), Ok(folder)) = (std::env::var(URL), std::env::var(FOLDER)) {
        return runtime.block_on(child(&url, Path::new(&folder)));
    }
    if !backends().contains(&backend) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let rounds: usize = std::env::var(SOAK).ok().map_or(6, |rounds| rounds.parse().unwrap());
    let place = runtime.block_on(Place::new(backend));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("began"), real_now().to_string()).unwrap();
    let (mut known, mut dropped) = (HashMap::<EventId, u64>::new(), 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(URL, &place.secret_url)
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Old records are dropped when they have been seen twice; what follows that is to be interrupted as well.
        let (mut tended, looks) = (0, round % 5);
        let (mut since, wanted) = (0, 50 + round * 137 % 700);
        let mut acknowledged = Vec::new();
        let mut killed = false;
        // What is still in the pipe after the kill was acknowledged too; a line that was cut off was not promised.
        while let Some(Ok(line)) = lines.next() {
            tended += usize::from(line == "tended");
            if let Some(id) = line.split_once("acknowledged ").and_then(|(_, id)| id.parse::<EventId>().ok()) {
                acknowledged.push(id);
                since += usize::from(tended >= looks);
            }
            if !killed && since >= wanted {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        let (on_record, dropped_to) = runtime.block_on(verified(&place.url, folder.path(), round));
        assert!(dropped_to >= dropped);
        dropped = dropped_to;
        // On a machine so slow that a round takes longer than records are kept, the oldest are gone already.
        let before = known.values().max().copied().unwrap_or(0);
        let lost = acknowledged.iter().filter(|id| !on_record.contains_key(id)).count() as u64;
        assert!(lost <= dropped.saturating_sub(before), "{lost} acknowledged events are lost");
        for (id, seq) in &known {
            assert!(*seq <= dropped || on_record.get(id) == Some(seq), "record {seq} has changed");
        }
        known = on_record;
    }
    eprintln!("{rounds} rounds, {dropped} records dropped, {} left", known.len());
    assert!(dropped > 0, "nothing was ever dropped");
}

#[test]
fn sqlite_and_its_segments_keep_what_a_killed_host_acknowledged() {
    killed(Backend::Sqlite, "sqlite_and_its_segments_keep_what_a_killed_host_acknowledged");
}

#[test]
fn postgres_and_its_segments_keep_what_a_killed_host_acknowledged() {
    killed(Backend::Postgres, "postgres_and_its_segments_keep_what_a_killed_host_acknowledged");
}
