//! What storage costs, as ratios beside floors that are measured in the same run.
//!
//! `just bench storage` runs it in a release build. It prints a table and exits with 1 when a budget is missed by
//! this run on this machine. `HANDSHAKE_TEST_BACKEND` chooses one backend alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::job::{AiJob, JobKind, JobState};
use handshake_core::storage::{Database, EventOutbox, JobFilter, JobStore};
use handshake_core::testing::{FixedClock, NoRedaction, SequentialIds};
use handshake_core::{Clock, EventId, HostId, JobId, TraceId};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::figures::{Figure, report};
use handshake_tests::floor::RawSqlite;
use handshake_tests::postgres::{Backend, Options, Server, backends};
use handshake_tests::storage::{job, open};
use sqlx::Connection as _;

/// As in the host's binary; the floors gain by it too.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long each rate is measured, and how often; floors and figures take turns.
const PERIOD: Duration = Duration::from_secs(1);
const ROUNDS: usize = 7;
const WRITERS: usize = 64;
/// Events made for one measurement; one that uses them up ends early.
const MOST: usize = 64_000;
const JOBS: usize = 100_000;

/// Rates that were measured right after one another, ours and the floor: what else the machine does drifts.
struct Pairs(Vec<(f64, f64)>);

impl Pairs {
    fn figure(&self, what: &str, floor_name: &str, percent: f64, budget: &'static str) -> Figure {
        let ours = median(self.0.iter().map(|pair| pair.0).collect());
        let floor = median(self.0.iter().map(|pair| pair.1).collect());
        let share = median(self.0.iter().map(|pair| 100.0 * pair.0 / pair.1).collect());
        Figure {
            what: what.to_owned(),
            value: format!("{share:.0} % ({ours:.0}/s)"),
            floor: format!("{floor_name}: {floor:.0}/s"),
            budget,
            met: share >= percent,
        }
    }
}

/// The median of an odd number of rates.
fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// As large as a decision's event.
fn event(ids: &SequentialIds, clock: &FixedClock) -> AdmittedEvent {
    let body = EventBody::System { kind: "measure".into(), detail: "x".repeat(400) };
    let event = Event::new(EventId::fresh(ids), TraceId::fresh(ids), clock.now(), Actor::system(), body);
    AdmittedEvent::admit(&event, &NoRedaction, event.timestamp).unwrap()
}

/// An open database and what events are made of.
struct Host {
    database: Arc<SqlDatabase>,
    ids: Arc<SequentialIds>,
    clock: Arc<FixedClock>,
}

impl Host {
    async fn open(url: &DatabaseUrl) -> Self {
        let (ids, clock) = (Arc::new(SequentialIds::default()), Arc::new(FixedClock::default()));
        Self { database: open(url, HostId::fresh(&*ids), clock.clone()).await, ids, clock }
    }

    /// Durable events per second with so many callers at once. The events are there before the time begins, as the
    /// text of the floor's rows is: making them is the recorder's part.
    async fn appends(&self, callers: usize) -> f64 {
        let before = self.database.flush().await.unwrap().seq;
        let made = |_| (0..MOST / callers).map(|_| event(&self.ids, &self.clock)).collect::<Vec<_>>();
        let events: Vec<_> = (0..callers).map(made).collect();
        let started = Instant::now();
        let tasks = events.into_iter().map(|events| {
            let database = self.database.clone();
            tokio::spawn(async move {
                for event in events.into_iter().take_while(|_| started.elapsed() < PERIOD) {
                    database.append(event).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let elapsed = started.elapsed().as_secs_f64();
        (self.database.flush().await.unwrap().seq - before) as f64 / elapsed
    }

    /// How many bytes of text an event takes in the outbox.
    async fn row(&self) -> usize {
        self.database.append(event(&self.ids, &self.clock)).await.unwrap();
        let stored = self.database.read_after(0, 1).await.unwrap();
        let stored = stored.first().expect("the event is there");
        [stored.record.len(), stored.hash.to_string().len(), 2 * stored.host.to_string().len()].iter().sum()
    }

    /// Stores many finished and queued jobs of all kinds.
    async fn fill(&self) {
        let mut pending = Vec::new();
        for n in 0..JOBS {
            let (plain, run) = job(&*self.ids, self.clock.now());
            let kind = JobKind::ALL[n % JobKind::ALL.len()];
            let state = if n % 10 == 0 { JobState::Failed } else { JobState::Completed };
            let job = AiJob { job_kind: kind, state, protocol_id: format!("workflow-{}", n % 20), ..plain };
            let database = self.database.clone();
            pending.push(tokio::spawn(async move { database.submit(job, run, None, vec![]).await.unwrap() }));
            if pending.len() == 512 {
                futures::future::join_all(pending.drain(..)).await.into_iter().for_each(|done| drop(done.unwrap()));
                self.clock.advance(Duration::from_millis(1));
            }
        }
        futures::future::join_all(pending).await.into_iter().for_each(|done| drop(done.unwrap()));
    }

    /// The slowest of the medians over pages of different filters, from the newest and from the middle.
    async fn page(&self) -> Duration {
        let middle = self.middle().await;
        let any = || JobFilter { limit: 50, ..JobFilter::default() };
        let filters = [
            any(),
            JobFilter { state: Some(JobState::Failed), ..any() },
            JobFilter { kind: Some(JobKind::TerminalExec), ..any() },
            JobFilter { kind: Some(JobKind::DocEdit), state: Some(JobState::Failed), ..any() },
            JobFilter { protocol_id: Some("workflow-7".into()), ..any() },
            JobFilter { protocol_id: Some("nothing".into()), ..any() },
            JobFilter { state: Some(JobState::Stalled), ..any() },
            JobFilter { after: Some(middle), ..any() },
            JobFilter { state: Some(JobState::Failed), after: Some(middle), ..any() },
        ];
        let mut slowest = Duration::ZERO;
        for filter in filters {
            let mut times = Vec::new();
            for _ in 0..11 {
                let started = Instant::now();
                self.database.jobs(&filter).await.unwrap();
                times.push(started.elapsed());
            }
            times.sort();
            slowest = slowest.max(times[times.len() / 2]);
        }
        slowest
    }

    async fn middle(&self) -> JobId {
        let mut filter = JobFilter { limit: 1_000, ..JobFilter::default() };
        for _ in 0..JOBS / 2_000 {
            filter.after = self.database.jobs(&filter).await.unwrap().last().map(|job| job.job_id);
        }
        filter.after.unwrap()
    }

    /// By how much the process grew, bytes, while it paged through everything; after a first time that warms up.
    async fn growth(&self) -> u64 {
        self.middle().await;
        let before = resident();
        let mut filter = JobFilter { limit: 1_000, ..JobFilter::default() };
        let mut seen = 0;
        let mut most = before;
        loop {
            let page = self.database.jobs(&filter).await.unwrap();
            most = most.max(resident());
            seen += page.len();
            let Some(last) = page.last() else { break };
            filter.after = Some(last.job_id);
        }
        assert_eq!(seen, JOBS);
        most - before
    }
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn sqlite(figures: &mut Vec<Figure>) {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&DatabaseUrl::sqlite(folder.path().join("handshake.db"))).await;
    let mut raw = RawSqlite::open(folder.path(), host.row().await).await;
    let (mut one, mut many) = (Pairs(Vec::new()), Pairs(Vec::new()));
    for _ in 0..ROUNDS {
        let (next, floor) = raw.rows(1, PERIOD).await;
        one.0.push((host.appends(1).await, floor));
        let (next, floor) = next.rows(100, PERIOD).await;
        many.0.push((host.appends(WRITERS).await, floor));
        raw = next;
    }
    figures.push(one.figure("SQLite, one writer", "raw one-row commits", 80.0, ">= 80 %"));
    figures.push(many.figure("SQLite, 64 writers", "raw rows, 100 a commit", 60.0, ">= 60 %"));
    host.fill().await;
    listing("SQLite", &host, figures).await;
}

/// Transactions per second of pgbench's simple update, 8 clients.
fn pgbench(url: &str) -> f64 {
    let run = |arguments: &[&str]| {
        let output = Command::new(handshake_tests::postgres::program("pgbench")).args(arguments).arg(url).output();
        let output = output.expect("pgbench runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["--initialize", "--quiet", "--scale=10"]);
    let seconds = format!("--time={}", PERIOD.as_secs() * 3);
    let report = run(&["--builtin=simple-update", "--client=8", "--jobs=2", "--no-vacuum", &seconds]);
    let tps = report.lines().find_map(|line| line.strip_prefix("tps = ")).expect("pgbench reports its rate");
    tps.split_whitespace().next().unwrap().parse().unwrap()
}

async fn postgres(figures: &mut Vec<Figure>) {
    let options = Options { durable: true, ..Options::default() };
    let server = tokio::task::spawn_blocking(move || Server::private(options)).await.unwrap();
    let (floor, place) = (server.fresh_database().await, server.fresh_database().await);
    let host = Host::open(&place.url.parse().unwrap()).await;
    let (mut one, mut many) = (Pairs(Vec::new()), Pairs(Vec::new()));
    for _ in 0..ROUNDS {
        let url = floor.url.clone();
        let floor = tokio::task::spawn_blocking(move || pgbench(&url)).await.unwrap();
        many.0.push((host.appends(WRITERS).await, floor));
        one.0.push((host.appends(1).await, floor));
    }
    figures.push(many.figure("PostgreSQL, 64 writers", "pgbench simple update", 60.0, ">= 60 %"));
    figures.push(one.figure("PostgreSQL, one writer", "pgbench simple update", 0.0, "none"));
    host.fill().await;
    // A server does it by itself within a minute; until then it guesses how many jobs a filter finds.
    let mut connection = sqlx::PgConnection::connect(&place.url).await.unwrap();
    sqlx::query("ANALYZE").execute(&mut connection).await.unwrap();
    listing("PostgreSQL", &host, figures).await;
    host.database.close().await.unwrap();
}

async fn listing(backend: &str, host: &Host, figures: &mut Vec<Figure>) {
    let page = host.page().await;
    figures.push(Figure {
        what: format!("{backend}, page of 50 of 100,000 jobs"),
        value: format!("{:.1} ms", page.as_secs_f64() * 1e3),
        floor: "slowest of 9 filters".into(),
        budget: "<= 10 ms",
        met: page <= Duration::from_millis(10),
    });
    let growth = host.growth().await;
    figures.push(Figure {
        what: format!("{backend}, memory while listing all"),
        value: format!("+{} kB", growth / 1024),
        floor: "pages of 1,000".into(),
        budget: "<= 8 MB",
        met: growth <= 8 << 20,
    });
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions) {
        println!("the benchmark runs in a release build: just bench storage");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut figures = Vec::new();
    for backend in backends() {
        match backend {
            Backend::Sqlite => runtime.block_on(sqlite(&mut figures)),
            Backend::Postgres => runtime.block_on(postgres(&mut figures)),
        }
    }
    report(&figures)
}
