//! The way of an event from the call to the row in DuckDB, then the same record rebuilt and verified.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::{Event, EventBody, OutcomeRecord};
use handshake_core::recorder::{FlightRecorder, OutcomeSlot, RecorderError};
use handshake_core::storage::{Database as _, EventOutbox};
use handshake_core::{Clock, Digest, EventId, HostId, TraceId};
use handshake_recorder::{Keeper, KeeperPolicy, KeeperServices, Projection, RecordLog, Recorder, Redaction};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::figures::Figure;
use handshake_tests::floor::RawSqlite;
use handshake_tests::storage::open;

use crate::admission::decision;
use crate::host::{self, Fresh, RETENTION, Wall};

/// How long it records; long enough for write-ahead logs to be written back several times.
const PERIOD: Duration = Duration::from_secs(12);
/// Events a second that it must keep up with.
const BUDGET: u32 = 30_000;
/// Steps that record at once.
const STEPS: usize = 64;
/// One in so many decisions is about an effect, and waited for until it is durable; the others are about reading.
const EFFECTS: u64 = 10;
/// How often the lag is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Records of the chain that are verified without anything else.
const CHAIN: u32 = 20_000;

/// Processor time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = |at| fields.split_whitespace().nth(at).and_then(|text: &str| text.parse::<u64>().ok()).unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Waits for room, as long as there is none; the runtime slows guests down in the same way.
async fn until_room<T>(refused: &AtomicU64, mut attempt: impl FnMut() -> Result<T, RecorderError>) -> T {
    loop {
        match attempt() {
            Err(RecorderError::Full) => {
                refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            other => return other.unwrap(),
        }
    }
}

/// The outcome of a call that was allowed.
fn outcome(decided: &Event, call: u64) -> Event {
    let record = OutcomeRecord {
        decision: decided.event_id,
        capability_id: "fs.read".into(),
        call,
        result: "ok".into(),
        bytes_in: 4096,
        bytes_out: 0,
        duration_us: 181,
    };
    Event {
        event_id: EventId::fresh(&Fresh),
        policy_decision_id: Some(decided.event_id),
        body: EventBody::CapabilityOutcome(record),
        ..decided.clone()
    }
}

/// Makes calls until the period is over, each with a decision before and an outcome behind it; with a pace, so many
/// events a second together with all other steps.
async fn step(recorder: Arc<Recorder>, clock: Arc<Wall>, started: Instant, refused: Arc<AtomicU64>, pace: Option<u32>) {
    let mut decided = decision();
    decided.trace_id = TraceId::fresh(&Fresh);
    for call in 1.. {
        if started.elapsed() >= PERIOD {
            return;
        }
        decided.event_id = EventId::fresh(&Fresh);
        decided.timestamp = clock.now();
        if let EventBody::CapabilityAction(record) = &mut decided.body {
            record.call = call;
        }
        let slot: Box<dyn OutcomeSlot> = until_room(&refused, || recorder.reserve()).await;
        if call % EFFECTS == 0 {
            while let Err(error) = recorder.record_event(&decided).await {
                assert!(matches!(error, RecorderError::Full), "{error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } else {
            until_room(&refused, || recorder.enqueue(&decided)).await;
        }
        slot.fill(outcome(&decided, call));
        let ahead = pace.map(|pace| {
            let due = Duration::from_secs_f64((2 * call * STEPS as u64) as f64 / f64::from(pace));
            due.saturating_sub(started.elapsed())
        });
        match ahead.filter(|ahead| *ahead > Duration::from_millis(1)) {
            Some(ahead) => tokio::time::sleep(ahead).await,
            None => tokio::task::yield_now().await,
        }
    }
}

/// The longest that a record was durable before it could be queried. Looks until it is told the last one's number.
async fn lag(projection: Arc<Projection>, last: tokio::sync::watch::Receiver<Option<u64>>) -> Duration {
    let mut waiting: Vec<(Instant, u64)> = Vec::new();
    let mut longest = Duration::ZERO;
    loop {
        let at = Instant::now();
        let status = projection.status().await;
        let now = Instant::now();
        waiting.retain(|(since, seq)| {
            let arrived = status.projected >= *seq;
            longest = longest.max(if arrived { now - *since } else { Duration::ZERO });
            !arrived
        });
        if last.borrow().is_some_and(|last| status.projected >= last) {
            return longest;
        }
        waiting.extend(status.recorded.filter(|seq| *seq > status.projected).map(|seq| (at, seq)));
        tokio::time::sleep(LOOK).await;
    }
}

/// Appends rows of that size to a DuckDB file, in transactions as large as the projection's; rows per second.
fn appender(folder: &Path, bytes: usize) -> f64 {
    let mut connection = duckdb::Connection::open(folder.join("floor.duckdb")).unwrap();
    connection
        .execute_batch("SET threads = 1; SET memory_limit = '48MB'; CREATE TABLE t (seq BIGINT, text VARCHAR)")
        .unwrap();
    let (text, rows) = ("x".repeat(bytes), 200_000);
    let started = Instant::now();
    for first in (0..rows).step_by(2048) {
        let transaction = connection.transaction().unwrap();
        let mut appender = transaction.appender("t").unwrap();
        for row in first..(first + 2048).min(rows) {
            appender.append_row(duckdb::params![row, text]).unwrap();
        }
        appender.flush().unwrap();
        drop(appender);
        transaction.commit().unwrap();
    }
    f64::from(rows) / started.elapsed().as_secs_f64()
}

/// Records of a chain that one thread verifies in a second, and how many of that size it hashes.
async fn chain(outbox: &SqlDatabase, host: HostId) -> (f64, f64) {
    let records: Vec<StampedEvent> = outbox.read_after(0, CHAIN).await.unwrap();
    let started = Instant::now();
    let mut head = ChainHead::empty(host);
    records.iter().for_each(|record| head.verify(record).unwrap());
    let verified = started.elapsed().as_secs_f64();
    let started = Instant::now();
    for record in &records {
        black_box(Digest::of(record.record.as_bytes()));
    }
    let hashed = started.elapsed().as_secs_f64();
    (records.len() as f64 / verified, records.len() as f64 / hashed)
}

struct Parts {
    folder: tempfile::TempDir,
    database: Arc<SqlDatabase>,
    clock: Arc<Wall>,
    log: Arc<RecordLog>,
    projection: Arc<Projection>,
    recorder: Arc<Recorder>,
}

impl Parts {
    async fn open() -> (Self, HostId) {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let clock = Arc::new(Wall(Instant::now()));
        let url = DatabaseUrl::sqlite(folder.path().join("handshake.db"));
        let database = open(&url, HostId::fresh(&Fresh), clock.clone()).await;
        let host = database.flush().await.unwrap().host;
        let (log, projection) = host::open(folder.path(), host, database.clone(), clock.clone()).await;
        let redaction = Redaction::start();
        redaction.learn(["a-model's-key-1234567890", "an issued secret"].map(str::to_owned).to_vec());
        let recorder = Arc::new(Recorder::new(log.clone(), Arc::new(redaction), clock.clone()));
        (Self { folder, database, clock, log, projection, recorder }, host)
    }

    fn keeper(&self) -> Keeper {
        let services = KeeperServices {
            log: self.log.clone(),
            recorder: self.recorder.clone(),
            clock: self.clock.clone(),
            ids: Arc::new(Fresh),
            head_file: self.folder.path().join("head.json"),
            notes_file: self.folder.path().join("expiry.json"),
        };
        Keeper::new(services, KeeperPolicy { retention: RETENTION, seal_records: u32::MAX, seal_after: RETENTION })
    }
}

/// Events per second of elapsed time, beside what two idle cores would do by the processor time that was used.
struct Load {
    events: u64,
    rate: f64,
    cpu_us: f64,
    lag: Duration,
    refused: u64,
}

impl Parts {
    async fn load(&self, pace: Option<u32>) -> Load {
        let before = self.database.flush().await.unwrap().seq;
        let refused = Arc::new(AtomicU64::new(0));
        let (told, last) = tokio::sync::watch::channel(None);
        let watched = tokio::spawn(lag(self.projection.clone(), last));
        let (started, used) = (Instant::now(), cpu());
        let steps: Vec<_> = (0..STEPS)
            .map(|_| tokio::spawn(step(self.recorder.clone(), self.clock.clone(), started, refused.clone(), pace)))
            .collect();
        for step in steps {
            step.await.unwrap();
        }
        let last = self.database.flush().await.unwrap().seq;
        told.send_replace(Some(last));
        self.projection.wait_for(last).await.unwrap();
        let events = last - before;
        let (elapsed, used) = (started.elapsed().as_secs_f64(), (cpu() - used).as_secs_f64());
        Load {
            events,
            rate: events as f64 / elapsed,
            cpu_us: 1e6 * used / events as f64,
            lag: watched.await.unwrap(),
            refused: refused.load(Ordering::Relaxed),
        }
    }
}

/// The figures of ingest, rebuilding and verifying.
pub(crate) async fn figures() -> Vec<Figure> {
    let (parts, host) = Parts::open().await;
    let load = parts.load(None).await;
    let paced = parts.load(Some(BUDGET)).await;
    let row = parts.database.read_after(load.events / 2, 64).await.unwrap();
    let bytes = row.iter().map(|row| row.record.len() + 64 + 36).sum::<usize>() / row.len();
    let (_, sqlite) = RawSqlite::open(parts.folder.path(), bytes).await.rows(100, Duration::from_secs(2)).await;
    let folder = parts.folder.path().to_owned();
    let duckdb = tokio::task::spawn_blocking(move || appender(&folder, bytes)).await.unwrap();

    let (started, used) = (Instant::now(), cpu());
    let rebuilt = parts.projection.rebuild().await.unwrap();
    assert_eq!(rebuilt.records, load.events + paced.events);
    let rebuild = rebuilt.records as f64 / started.elapsed().as_secs_f64();
    let rebuild_cpu = 1e6 * (cpu() - used).as_secs_f64() / rebuilt.records as f64;
    let (verified, hashed) = chain(&parts.database, host).await;
    let (started, used) = (Instant::now(), cpu());
    let walked = parts.keeper().verify(&parts.projection, None).await.unwrap();
    assert_eq!((walked.finding, walked.seq), (None, load.events + paced.events));
    let walk = walked.seq as f64 / started.elapsed().as_secs_f64();
    let walk_cpu = 1e6 * (cpu() - used).as_secs_f64() / walked.seq as f64;
    parts.projection.close().await.unwrap();
    parts.database.close().await.unwrap();

    vec![
        Figure {
            what: format!("ingest of {} events, {bytes} bytes", load.events),
            value: format!("{:.0}/s, {:.1} µs of processors each", load.rate, load.cpu_us),
            floor: format!("raw rows, 100 a commit: {sqlite:.0}/s; appender: {duckdb:.0}/s; {} refused", load.refused),
            budget: "≥ 30,000/s",
            met: load.rate >= f64::from(BUDGET),
        },
        Figure {
            what: format!("lag of the projection at {:.0} events/s", paced.rate),
            value: format!("at most {:?}, {:.1} µs of processors each", paced.lag, paced.cpu_us),
            floor: format!("looked at every {LOOK:?}; as fast as it goes: {:?}", load.lag),
            budget: "≤ 1 s",
            met: paced.lag <= Duration::from_secs(1),
        },
        Figure {
            what: "rebuilding it from the outbox".into(),
            value: format!("{rebuild:.0}/s, {rebuild_cpu:.1} µs of processors each"),
            floor: format!("appender: {duckdb:.0}/s"),
            budget: "≥ 100,000/s",
            met: rebuild >= 100_000.0,
        },
        Figure {
            what: "verifying the chain, one core".into(),
            value: format!("{verified:.0}/s"),
            floor: format!("hashing alone: {hashed:.0}/s"),
            budget: "≥ 1,000,000/s",
            met: verified >= 1_000_000.0,
        },
        Figure {
            what: "audit verify: outbox, chain and every row".into(),
            value: format!("{walk:.0}/s, {walk_cpu:.1} µs of processors each"),
            floor: format!("the chain alone: {verified:.0}/s"),
            budget: "none",
            met: true,
        },
    ]
}
