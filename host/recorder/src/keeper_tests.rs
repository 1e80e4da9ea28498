#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::{Actor, Event, EventBody};
use handshake_core::testing::{FixedClock, NoRedaction, SequentialIds};
use handshake_core::{EventId, TraceId};

use super::*;
use crate::Recorder;
use crate::disk::Disk;
use crate::memory_outbox::MemoryOutbox;
use crate::projection::ProjectionOptions;
use crate::signing::SigningKey;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What survives a crash.
struct Bench {
    folder: tempfile::TempDir,
    outbox: Arc<MemoryOutbox>,
    clock: Arc<FixedClock>,
    ids: Arc<SequentialIds>,
    key: Arc<SigningKey>,
    disk: Disk,
}

/// What does not.
struct Host {
    keeper: Keeper,
    projection: Projection,
    log: Arc<RecordLog>,
}

impl Bench {
    fn new() -> Self {
        let (folder, ids) = (tempfile::tempdir().unwrap(), Arc::new(SequentialIds::default()));
        let key = Arc::new(SigningKey::load_or_create(&folder.path().join("key.pem"), &*ids).unwrap());
        Self { folder, outbox: Arc::default(), clock: Arc::default(), ids, key, disk: Disk::default() }
    }

    async fn open(&self) -> Host {
        let host = self.outbox.flush().await.unwrap().host;
        let segments = self.folder.path().join("segments");
        let archive = Archive::on(self.disk.clone(), segments, host, Arc::clone(&self.key)).unwrap();
        let log = Arc::new(RecordLog::new(Arc::clone(&self.outbox) as _, Arc::new(archive)));
        let options = ProjectionOptions {
            path: self.folder.path().join("recorder.duckdb"),
            clock: Arc::clone(&self.clock) as _,
            retention: 7 * DAY,
            probe: None,
        };
        let projection = Projection::open(Arc::clone(&log), options).await.unwrap();
        let services = KeeperServices {
            log: Arc::clone(&log),
            recorder: Arc::new(Recorder::new(
                Arc::clone(&self.outbox) as _,
                Arc::new(NoRedaction),
                Arc::clone(&self.clock) as _,
            )),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            head_file: self.folder.path().join("head.json"),
            notes_file: self.folder.path().join("expiry.json"),
        };
        let policy = KeeperPolicy { retention: 7 * DAY, seal_records: 100, seal_after: HOUR };
        Host { keeper: Keeper::new(services, policy), projection, log }
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.outbox.set_time(self.clock.now());
    }

    async fn fill(&self, count: usize) {
        let recorder =
            Recorder::new(Arc::clone(&self.outbox) as _, Arc::new(NoRedaction), Arc::clone(&self.clock) as _);
        for n in 0..count {
            let body = EventBody::System { kind: "note".into(), detail: format!("note {n}") };
            let (id, trace) = (EventId::fresh(&*self.ids), TraceId::fresh(&*self.ids));
            recorder.enqueue(&Event::new(id, trace, self.clock.now(), Actor::system(), body)).unwrap();
        }
    }

    fn bytes(&self) -> u64 {
        let size = |folder: &std::path::Path| -> u64 {
            std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap())
                .filter(|data| data.is_file())
                .map(|data| data.len())
                .sum()
        };
        size(self.folder.path()) + size(&self.folder.path().join("segments"))
    }
}

impl Host {
    /// Ends as a crash would, as far as that is possible within one process.
    async fn crash(self) {
        drop(self.keeper);
        drop(self.projection.close().await);
    }

    /// The record that is left, its chain checked from the tombstone to the head.
    async fn left(&self) -> Vec<StampedEvent> {
        let head = self.log.flush().await.unwrap();
        let tombstone = self.log.archive().tombstone();
        let mut chain = tombstone.map_or(ChainHead::empty(head.host), |tombstone| {
            tombstone.verify(self.keeper.public_key()).unwrap();
            tombstone.body.end()
        });
        let mut records = Vec::new();
        while chain.seq < head.seq {
            let page = self.log.read_after(chain.seq, 1000).await.unwrap();
            page.iter().for_each(|record| chain.verify(record).unwrap());
            records.extend(page);
        }
        assert_eq!((chain.seq, chain.hash), (head.seq, head.hash));
        records
    }

    /// Events about gaps that are on record.
    async fn gap_events(&self) -> Vec<String> {
        let records = self.left().await;
        let bodies = records.iter().map(|record| record.event().unwrap().body);
        bodies
            .filter_map(|body| match body {
                EventBody::Gap(gap) => Some(format!("{} to {}: {}", gap.first_seq, gap.last_seq, gap.reason)),
                _ => None,
            })
            .collect()
    }

    async fn queried(&self) -> BTreeSet<u64> {
        let mut query = EventQuery { limit: 1000, ..EventQuery::default() };
        let mut seqs = BTreeSet::new();
        loop {
            let page = self.projection.events(&query).await.unwrap();
            for event in &page.events {
                assert!(seqs.insert(event.seq), "{} twice", event.seq);
            }
            let Some(next) = page.next else { return seqs };
            query.before = Some(next);
        }
    }
}

#[tokio::test]
async fn records_are_sealed_when_there_are_enough_or_one_is_old_enough() {
    let bench = Bench::new();
    let host = bench.open().await;
    bench.pass(Duration::ZERO);
    bench.fill(99).await;
    assert!(!host.keeper.is_due().await.unwrap());
    host.keeper.tend(&host.projection).await;
    assert_eq!(host.log.archive().sealed_to(), 0);

    bench.fill(1).await;
    tokio::time::timeout(Duration::from_secs(10), host.keeper.full()).await.unwrap();
    assert!(host.keeper.is_due().await.unwrap());
    host.keeper.tend(&host.projection).await;
    assert_eq!((host.log.archive().sealed_to(), bench.outbox.records().len()), (100, 0));
    let head = crate::head::read(&bench.folder.path().join("head.json")).unwrap().unwrap();
    head.verify(bench.key.public()).unwrap();
    assert_eq!(head.body.seq, 100, "the head is published after sealing");

    bench.fill(3).await;
    bench.pass(HOUR - Duration::from_secs(1));
    assert!(!host.keeper.is_due().await.unwrap());
    bench.pass(Duration::from_secs(2));
    host.keeper.tend(&host.projection).await;
    assert_eq!(host.log.archive().sealed_to(), 103);
    assert_eq!(host.left().await.len(), 103);
    assert_eq!(host.keeper.status(&host.projection).await.problems, Vec::<String>::new());
}

#[tokio::test]
async fn everything_is_sealed_on_request_and_nothing_that_is_not_projected() {
    let bench = Bench::new();
    let host = bench.open().await;
    bench.fill(250).await;
    let report = host.keeper.seal(&host.projection).await.unwrap();
    assert_eq!(report, SealReport { segments: 3, records: 250, sealed_to: 250 });
    assert_eq!(host.keeper.seal(&host.projection).await.unwrap().records, 0);
    bench.fill(50).await;
    bench.outbox.tamper(270, |record| record.record = record.record.replace("note", "NOTE"));
    assert!(host.keeper.seal(&host.projection).await.is_err());
    assert_eq!((host.log.archive().sealed_to(), bench.outbox.records().len()), (250, 50));
}

/// A host whose first hundred records are too old for an hour, so that the next look drops them.
async fn about_to_drop(bench: &Bench) {
    let host = bench.open().await;
    bench.pass(Duration::ZERO);
    bench.fill(100).await;
    host.keeper.tend(&host.projection).await;
    bench.pass(7 * DAY + Duration::from_secs(1));
    bench.fill(50).await;
    host.keeper.tend(&host.projection).await;
    assert_eq!(host.log.archive().tombstone(), None, "not at once");
    bench.pass(HOUR);
    host.crash().await;
}

#[tokio::test]
async fn a_crash_at_any_step_of_dropping_is_completed_by_the_next_look() {
    let mut steps = 0;
    loop {
        let bench = Bench::new();
        about_to_drop(&bench).await;
        let host = bench.open().await;
        bench.disk.fail_after(Some(steps));
        host.keeper.tend(&host.projection).await;
        bench.disk.fail_after(None);
        let done = host.keeper.status(&host.projection).await.problems.is_empty()
            && host.log.archive().tombstone().is_some()
            && host.projection.first().await.unwrap() == 101;
        host.crash().await;

        let host = bench.open().await;
        host.left().await;
        for _ in 0..2 {
            host.keeper.tend(&host.projection).await;
        }
        assert_eq!(host.keeper.status(&host.projection).await.problems, Vec::<String>::new());
        let tombstone = host.log.archive().tombstone().unwrap().body;
        assert_eq!((tombstone.from, tombstone.to, tombstone.reason.as_str()), (1, 100, "retention"), "step {steps}");
        assert_eq!(host.gap_events().await, ["1 to 100: retention"], "after step {steps}");
        let left: BTreeSet<u64> = host.left().await.iter().map(|record| record.seq).collect();
        assert_eq!(left.first(), Some(&101));
        assert_eq!(host.queried().await, left, "after step {steps}");
        assert_eq!(host.projection.first().await.unwrap(), 101);
        let files = std::fs::read_dir(bench.folder.path().join("segments")).unwrap().count();
        assert_eq!(files, 2 * host.log.archive().manifests().len() + 1, "after step {steps}");
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 8, "each of {steps} steps was the last one once");
}

#[tokio::test]
async fn a_clock_that_jumps_years_ahead_for_a_while_drops_nothing() {
    let bench = Bench::new();
    let host = bench.open().await;
    bench.pass(Duration::ZERO);
    bench.fill(100).await;
    host.keeper.tend(&host.projection).await;
    let right = bench.clock.now();
    for _ in 0..3 {
        bench.clock.set(right.plus(3650 * DAY));
        host.keeper.tend(&host.projection).await;
        assert_eq!(host.queried().await.len(), 0, "they are hidden");
        bench.clock.set(right);
        host.keeper.tend(&host.projection).await;
        assert_eq!(host.queried().await.len(), 100, "and there again");
    }
    assert_eq!((host.log.archive().tombstone(), host.left().await.len()), (None, 100));
}

#[tokio::test]
async fn a_year_of_days_takes_the_space_of_eight() {
    const PER_DAY: usize = 40;
    let bench = Bench::new();
    let mut host = bench.open().await;
    bench.pass(Duration::ZERO);
    let mut largest_early = 0;
    for day in 1..=365 {
        bench.fill(PER_DAY).await;
        bench.pass(DAY);
        host.keeper.tend(&host.projection).await;
        if day % 50 == 0 {
            host.crash().await;
            host = bench.open().await;
        }
        match day {
            10..20 => largest_early = bench.bytes().max(largest_early),
            // A small DuckDB file is not worth compacting before it has grown by two megabytes.
            20.. => assert!(bench.bytes() <= largest_early + (3 << 20), "{} bytes on day {day}", bench.bytes()),
            _ => {}
        }
    }
    let status = host.keeper.status(&host.projection).await;
    assert_eq!(status.problems, Vec::<String>::new());
    let head = host.log.flush().await.unwrap().seq;
    let dropped = status.tombstone.unwrap().to;
    // Seven days, the one that a daily look needs to be sure, the one that is not over, and the events about dropping.
    assert!(head - dropped <= 9 * (PER_DAY as u64 + 2), "{} records are left", head - dropped);
    assert_eq!(host.left().await.len() as u64, head - dropped);
    host.projection.caught_up().await.unwrap();
    assert_eq!(host.projection.rows().await.len() as u64, head - dropped);
    assert_eq!(host.projection.rebuild().await.unwrap().records, head - dropped);
}

#[tokio::test]
async fn a_rebuilt_projection_is_the_same_over_tombstone_segments_and_outbox() {
    let bench = Bench::new();
    about_to_drop(&bench).await;
    let host = bench.open().await;
    host.keeper.tend(&host.projection).await;
    bench.fill(30).await;
    host.projection.wait_for(host.log.flush().await.unwrap().seq).await.unwrap();
    let (rows, queried) = (host.projection.rows().await, host.queried().await);
    assert!(rows.len() > 80);
    let rebuilt = host.projection.rebuild().await.unwrap();
    assert_eq!((rebuilt.records, rebuilt.gaps), (rows.len() as u64, vec![]));
    assert_eq!((host.projection.rows().await, host.queried().await), (rows.clone(), queried));
    host.crash().await;
    std::fs::remove_file(bench.folder.path().join("recorder.duckdb")).unwrap();
    let host = bench.open().await;
    host.projection.wait_for(host.log.flush().await.unwrap().seq).await.unwrap();
    assert_eq!(host.projection.rows().await, rows);
}

#[tokio::test]
async fn a_segment_that_is_gone_is_a_gap_in_status_and_record_and_told_once() {
    let bench = Bench::new();
    let host = bench.open().await;
    bench.fill(300).await;
    host.keeper.seal(&host.projection).await.unwrap();
    let second = host.log.archive().manifests()[1].body.clone();
    host.crash().await;
    let segments = bench.folder.path().join("segments");
    std::fs::remove_file(segments.join(format!("{}.parquet", second.name()))).unwrap();

    let host = bench.open().await;
    let rebuilt = host.projection.rebuild().await.unwrap();
    assert_eq!(rebuilt.records, 200);
    assert_eq!((rebuilt.gaps[0].first, rebuilt.gaps[0].last), (101, 200));
    host.keeper.tend(&host.projection).await;
    host.crash().await;
    let host = bench.open().await;
    host.keeper.tend(&host.projection).await;
    let status = host.keeper.status(&host.projection).await;
    assert!(status.problems.iter().any(|problem| problem.starts_with("records 101 to 200: ")), "{:?}", status.problems);
    let (records, _) = (bench.outbox.records(), ());
    let told = records.iter().filter(|record| record.record.contains(r#""first_seq":101,"host""#)).count();
    assert_eq!(told, 1);
    assert_eq!(host.queried().await.len(), 201);
    // A file with a hole is opened like any other.
    assert_eq!(status.projection.set_aside, None);
}

#[tokio::test]
async fn a_full_disk_stops_sealing_and_nothing_else_until_there_is_room() {
    let bench = Bench::new();
    let host = bench.open().await;
    bench.fill(150).await;
    bench.disk.fail_after(Some(0));
    host.keeper.tend(&host.projection).await;
    host.keeper.publish_head().await;
    let problems = host.keeper.status(&host.projection).await.problems;
    assert!(problems.iter().any(|problem| problem.contains("signed head")), "{problems:?}");
    bench.fill(50).await;
    assert_eq!((host.queried().await.len(), bench.outbox.records().len()), (200, 200));
    bench.disk.fail_after(None);
    host.keeper.tend(&host.projection).await;
    assert_eq!(host.keeper.status(&host.projection).await.problems, Vec::<String>::new());
    assert_eq!((bench.outbox.records().len(), host.left().await.len()), (0, 200));
}
