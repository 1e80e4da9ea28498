//! Queries over a large file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handshake_core::capability::{Axis, CapabilityId, Effect, Mode, Policy, Replay, Rule, SourceRef};
use handshake_core::storage::EventOutbox as _;
use handshake_core::testing::FixedClock;
use handshake_core::{Digest, EventId, JobId, RunId, TraceId};
use handshake_recorder::{EventQuery, MatrixQuery, Projection};
use handshake_tests::figures::Figure;

use crate::generated::{Generated, Kind, RUN};
use crate::host;

/// Places of the record that are asked for.
const PLACES: u64 = 21;
const EVENTS: u64 = 1_000_000;
const WINDOW: Duration = Duration::from_secs(300);

/// Where the file with so many events lies.
pub(crate) fn folder(events: u64) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("recorder-{events}"))
}

/// As many as `HANDSHAKE_BENCH_EVENTS` says.
pub(crate) fn events() -> u64 {
    std::env::var("HANDSHAKE_BENCH_EVENTS").map_or(EVENTS, |text| text.parse().expect("a number"))
}

/// The file with so many events; made if there is none. Where its chain ends is noted once all of it is there.
pub(crate) async fn open(events: u64) -> (Arc<Generated>, Arc<Projection>) {
    let folder = folder(events);
    let note = folder.join("complete");
    let known = std::fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok());
    if known.is_none() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
    }
    let started = Instant::now();
    let record = Arc::new(Generated::new(events, known));
    let host = record.head().host;
    let (_, projection) = host::open(&folder, host, record.clone(), Arc::new(FixedClock::default())).await;
    projection.wait_for(record.flush().await.unwrap().seq).await.unwrap();
    if known.is_none() {
        std::fs::write(note, record.head().hash.to_string()).unwrap();
        println!("a file with {events} events was made in {:?}", started.elapsed());
    }
    (record, projection)
}

/// Asks about places all over the record, and checks how many events each answer has.
async fn figure<F: AsyncFn(u64) -> usize>(
    what: &str,
    milliseconds: u64,
    budget: &'static str,
    events: u64,
    ask: F,
) -> Figure {
    let mut times = Vec::new();
    let mut found = 0;
    for place in 0..PLACES {
        // Places differ in how far they are from the end of a run and of a row group.
        let seq = 1 + (events - 1) * place / (PLACES - 1);
        let started = Instant::now();
        found += ask(seq).await;
        times.push(started.elapsed());
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    Figure {
        what: what.into(),
        value: format!("{}, at most {}", shown(median), shown(worst)),
        floor: format!("{} events found on average", found / PLACES as usize),
        budget,
        met: median <= Duration::from_millis(milliseconds),
    }
}

/// The figures of queries.
pub(crate) async fn figures() -> Vec<Figure> {
    let events = events();
    let (record, projection) = open(events).await;
    let found = async |query: EventQuery, expected: std::ops::RangeInclusive<usize>| {
        let page = projection.events(&query).await.unwrap();
        assert!(expected.contains(&page.events.len()), "{query:?} finds {}", page.events.len());
        page.events.len()
    };
    let any = || EventQuery { limit: RUN as u32, ..EventQuery::default() };
    let title = |what: &str| format!("{what}, {events} events");
    let mut figures = vec![
        figure(&title("by event"), 50, "≤ 50 ms", events, async |seq| {
            let event_id = Some(EventId::from_uuid(record.id(Kind::Event, seq)));
            found(EventQuery { event_id, ..any() }, 1..=1).await
        })
        .await,
        figure(&title("by trace"), 50, "≤ 50 ms", events, async |seq| {
            let trace_id = Some(TraceId::from_uuid(record.id(Kind::Trace, seq)));
            found(EventQuery { trace_id, ..any() }, 1..=RUN as usize).await
        })
        .await,
        figure(&title("by job"), 50, "≤ 50 ms", events, async |seq| {
            let job_id = Some(JobId::from_uuid(record.id(Kind::Job, seq)));
            found(EventQuery { job_id, ..any() }, 1..=RUN as usize).await
        })
        .await,
    ];
    let window = async |seq| {
        let (from, to) = (record.time(seq), record.time(seq).plus(WINDOW));
        found(EventQuery { from: Some(from), to: Some(to), ..any() }, 1..=RUN as usize).await
    };
    figures.push(figure(&title("5 minutes, newest 200"), 10, "≤ 10 ms", events, window).await);
    // What the recorder's page asks for first.
    let newest = async |_| found(EventQuery { limit: 50, ..EventQuery::default() }, 50..=50).await;
    figures.push(figure(&title("newest 50 of everything"), 100, "≤ 100 ms", events, newest).await);
    let matrix = async |seq| {
        let run_id = Some(RunId::from_uuid(record.id(Kind::Run, seq)));
        let rows = projection.matrix(&MatrixQuery { run_id, ..MatrixQuery::default() }).await.unwrap();
        assert_eq!(rows.len(), 1);
        usize::try_from(rows[0].allowed).unwrap()
    };
    figures.push(figure(&title("capability matrix of a run"), 100, "≤ 100 ms", events, matrix).await);
    let overview = async |_| {
        let query = MatrixQuery::default();
        let rows = projection.matrix(&query).await.unwrap();
        let (runs, _) = projection.runs(&query).await.unwrap();
        assert!(!runs.is_empty());
        usize::try_from(rows.iter().map(|row| row.allowed).sum::<u64>()).unwrap()
    };
    let millions = (events / EVENTS).max(1);
    let (overall, a_million) = (200 * millions, "≤ 200 ms a million");
    figures.push(figure(&title("capability matrix of everything"), overall, a_million, events, overview).await);
    let review = async |seq| {
        let query = MatrixQuery { run_id: Some(RunId::from_uuid(record.id(Kind::Run, seq))), ..MatrixQuery::default() };
        projection.new_resources(&query).await.unwrap();
        projection.resources(&query).await.unwrap().len()
    };
    figures.push(figure(&title("what was new and used in a run"), overall, a_million, events, review).await);
    figures.push(replay(&projection, events).await);
    projection.close().await.unwrap();
    figures
}

/// All recorded decisions, decided again under a policy with some rules.
async fn replay(projection: &Projection, events: u64) -> Figure {
    let rule = |effect, capability: &str, line| Rule {
        effect,
        capability: capability.parse::<CapabilityId>().unwrap(),
        plugins: Vec::new(),
        addresses: Vec::new(),
        source: SourceRef { file: "new.toml".into(), line },
    };
    let rules = vec![
        rule(Effect::Allow, Axis::FsRead.name(), 1),
        rule(Effect::Allow, Axis::FsWrite.name(), 2),
        rule(Effect::Deny, "fs.read:in/private/**", 3),
        rule(Effect::Deny, "fs.read:in/reports/2026/*.md", 4),
    ];
    let policy = Policy { rules, ..Policy::empty(Mode::Enforce, Digest::ZERO) };
    let mut rates = Vec::new();
    for _ in 0..3 {
        let mut replay = Replay::new(&policy);
        let started = Instant::now();
        projection.decided(None, false, |calls| replay.decide(&calls)).await.unwrap();
        rates.push(replay.decided as f64 / started.elapsed().as_secs_f64());
        assert_eq!((replay.decided, replay.flips()[0].count), (events, events));
    }
    rates.sort_by(f64::total_cmp);
    Figure {
        what: format!("replay of {events} decisions under another policy"),
        value: format!("{:.0} decisions/s", rates[1]),
        floor: format!("{:.0} to {:.0} in three rounds", rates[0], rates[2]),
        budget: "≥ 500,000/s",
        met: rates[1] >= 500_000.0,
    }
}
