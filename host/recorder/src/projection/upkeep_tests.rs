#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use handshake_core::EventId;
use handshake_core::TraceId;
use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::testing::{FixedClock, NoRedaction, SequentialIds};

use super::*;
use crate::memory_outbox::MemoryOutbox;
use crate::segments::Archive;
use crate::signing::SigningKey;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Bench {
    folder: tempfile::TempDir,
    outbox: Arc<MemoryOutbox>,
    clock: Arc<FixedClock>,
    disk: Disk,
    probe: Option<Probe>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, outbox: Arc::default(), clock: Arc::default(), disk: Disk::default(), probe: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("recorder.duckdb")
    }

    async fn open(&self) -> Projection {
        self.open_at(self.path()).await
    }

    async fn open_at(&self, path: PathBuf) -> Projection {
        let ids = SequentialIds::default();
        let key = Arc::new(SigningKey::load_or_create(&self.folder.path().join("key.pem"), &ids).unwrap());
        let host = self.outbox.flush().await.unwrap().host;
        let archive = Archive::on(self.disk.clone(), self.folder.path().join("segments"), host, key).unwrap();
        let log = RecordLog::new(Arc::clone(&self.outbox) as _, Arc::new(archive));
        let clock = Arc::clone(&self.clock) as _;
        let options = ProjectionOptions { path, clock, retention: 7 * DAY, probe: self.probe.clone() };
        Projection::open(Arc::new(log), options).await.unwrap()
    }

    /// Records that do not compress to nothing.
    async fn fill(&self, count: usize) {
        let ids = SequentialIds::default();
        for _ in 0..count {
            let next = self.outbox.flush().await.unwrap().seq;
            let noise: String = (0..8).map(|n| Digest::of(format!("{next} {n}").as_bytes()).to_string()).collect();
            let body = EventBody::System { kind: "note".into(), detail: noise };
            let id = EventId::from_uuid(Digest::of(&next.to_be_bytes()).uuid());
            let event = Event::new(id, TraceId::fresh(&ids), Timestamp::from_micros(7), Actor::system(), body);
            self.outbox.append(AdmittedEvent::admit(&event, &NoRedaction, event.timestamp).unwrap()).await.unwrap();
        }
    }

    /// The chain up to a record.
    fn end(&self, seq: u64) -> ChainHead {
        let record = self.outbox.records().into_iter().find(|record| record.seq == seq).unwrap();
        ChainHead { host: record.host, seq, hash: record.hash, recorded_at: record.recorded_at }
    }
}

use handshake_core::{Digest, Timestamp};

async fn seqs(projection: &Projection) -> Vec<u64> {
    let query = EventQuery { limit: 1000, ..EventQuery::default() };
    projection.events(&query).await.unwrap().events.iter().map(|event| event.seq).collect()
}

#[tokio::test]
async fn events_are_hidden_at_exactly_the_limit_whichever_way_the_clock_is_set() {
    let bench = Bench::new();
    bench.fill(2).await;
    let first = bench.end(1).recorded_at;
    let projection = bench.open().await;
    let limit = first.plus(7 * DAY);
    for (now, visible) in [
        (first, 2),
        (limit, 2),
        (limit.plus(Duration::from_micros(1)), 1),
        (limit.plus(Duration::from_micros(2)), 0),
        (limit.plus(Duration::from_secs(1)), 0),
        (limit.minus(Duration::from_secs(1)), 2),
        (first.plus(DAY * 3650), 0),
        // The clock is wrong, and the record says so.
        (first.minus(DAY * 3650), 2),
    ] {
        bench.clock.set(now);
        assert_eq!(seqs(&projection).await.len(), visible, "{now}");
        let matrix = projection.matrix(&MatrixQuery::default()).await.unwrap();
        assert!(matrix.is_empty());
    }
    // A record from behind the limit hides the others for good, even if the clock is set back then.
    bench.outbox.set_time(limit.plus(DAY));
    bench.fill(1).await;
    bench.clock.set(first);
    assert_eq!(seqs(&projection).await, [3]);
}

#[tokio::test]
async fn decisions_are_hidden_at_the_limit_too() {
    let bench = Bench::new();
    bench.fill(1).await;
    let projection = bench.open().await;
    projection.wait_for(1).await.unwrap();
    projection
        .execute("UPDATE events SET event_type = 'capability_action', actor_id = 'p@1', capability_id = 'fs.read'")
        .await;
    let limit = bench.end(1).recorded_at.plus(7 * DAY);
    bench.clock.set(limit);
    assert_eq!(projection.matrix(&MatrixQuery::default()).await.unwrap().len(), 1);
    bench.clock.advance(Duration::from_micros(1));
    assert_eq!(projection.matrix(&MatrixQuery::default()).await.unwrap(), []);
}

#[tokio::test]
async fn dropped_rows_are_gone_and_their_space_is_returned() {
    let bench = Bench::new();
    bench.fill(30_000).await;
    let projection = bench.open().await;
    projection.wait_for(30_000).await.unwrap();
    let full = projection.status().await.bytes;
    projection.drop_through(bench.end(24_000)).await.unwrap();
    let status = projection.status().await;
    assert_eq!((status.first, status.projected), (24_001, 30_000));

    // What a file takes that never had more than this.
    bench.outbox.release(24_000).await.unwrap();
    let rows = projection.rows().await;
    assert_eq!(rows.len(), 6000);
    projection.close().await.unwrap();
    let small = std::fs::metadata(bench.path()).unwrap().len();
    let bare = Bench::new();
    bare.fill(6000).await;
    let other = bare.open().await;
    other.wait_for(6000).await.unwrap();
    other.close().await.unwrap();
    let fresh = std::fs::metadata(bare.path()).unwrap().len();
    // DuckDB writes a last row group that is not full anew at each checkpoint, and keeps the room that it had.
    let row_group = fresh * 4096 / 6000;
    assert!(
        small * 10 <= fresh * 13 + row_group * 10,
        "{small} bytes are more than 1.3 times the {fresh} of a fresh file and a row group; {full} before"
    );

    let projection = bench.open().await;
    bench.fill(10).await;
    projection.wait_for(30_010).await.unwrap();
    assert_eq!(projection.rows().await[..6000], rows);
    projection.drop_through(bench.end(30_010)).await.unwrap();
    projection.drop_through(bench.end(30_010)).await.unwrap();
    assert_eq!((seqs(&projection).await, projection.first().await.unwrap()), (vec![], 30_011));
    projection.close().await.unwrap();
    assert_eq!(bench.open().await.status().await.set_aside, None, "an empty file with a cursor is no damage");
}

#[tokio::test]
async fn a_crash_at_any_step_of_compacting_leaves_one_whole_file() {
    let mut steps = 0;
    loop {
        let bench = Bench::new();
        bench.fill(300).await;
        let projection = bench.open().await;
        projection.wait_for(300).await.unwrap();
        let rows = projection.rows().await;
        bench.disk.fail_after(Some(steps));
        let done = projection.compact().await.is_ok();
        bench.disk.fail_after(None);
        if steps % 2 == 0 {
            projection.close().await.unwrap();
        }
        let reopened = bench.open_again(projection).await;
        bench.fill(5).await;
        reopened.wait_for(305).await.unwrap();
        assert_eq!(reopened.rows().await[..300], rows, "after step {steps}");
        assert_eq!(reopened.status().await.set_aside, None);
        assert!(!bench.path().with_extension("duckdb.new").exists());
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 3, "each of {steps} steps was the last one once");
}

impl Bench {
    async fn open_again(&self, projection: Projection) -> Projection {
        drop(projection.close().await);
        self.open().await
    }
}

#[tokio::test]
async fn files_of_earlier_versions_are_brought_up_to_date() {
    for steps in 1.. {
        let bench = Bench::new();
        bench.fill(3).await;
        if !schema::older_file(&bench.path(), steps, &bench.outbox.records()[0]) {
            assert!(steps > 1);
            break;
        }
        let projection = bench.open().await;
        assert_eq!(seqs(&projection).await, [3, 2, 1], "after {steps} steps");
        let status = projection.status().await;
        assert_eq!((status.first, status.set_aside), (1, None));
    }
}

#[tokio::test]
async fn a_file_that_was_not_closed_is_tried_out_by_another_process() {
    let shell = |script: &str| Probe { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
    let cases = [
        ("exit 0", false),
        ("kill -ABRT $$", true),
        ("kill -SEGV $$", true),
        ("exit 3", true),
        ("echo 'damaged: torn'; exit 0", true),
    ];
    for (script, damaged) in cases {
        let mut bench = Bench::new();
        bench.fill(20).await;
        let projection = bench.open().await;
        projection.wait_for(20).await.unwrap();
        projection.close().await.unwrap();
        // Closed properly: nobody asks.
        bench.probe = Some(shell("kill -ABRT $$"));
        let projection = bench.open().await;
        assert_eq!(projection.status().await.set_aside, None);
        projection.close().await.unwrap();

        std::fs::write(bench.path().with_extension("duckdb.open"), "").unwrap();
        bench.probe = Some(shell(script));
        let projection = bench.open().await;
        assert_eq!(seqs(&projection).await.len(), 20, "{script}");
        assert_eq!(projection.status().await.set_aside.is_some(), damaged, "{script}");
    }
    let mut bench = Bench::new();
    bench.fill(20).await;
    bench.probe = Some(Probe { program: "/nowhere/at/all".into(), arguments: vec![] });
    std::fs::write(bench.path().with_extension("duckdb.open"), "").unwrap();
    assert_eq!(seqs(&bench.open().await).await.len(), 20);
}

#[tokio::test]
async fn the_trial_finds_damage_and_blames_nothing_else_on_the_file() {
    let bench = Bench::new();
    bench.fill(5000).await;
    let projection = bench.open().await;
    projection.wait_for(5000).await.unwrap();
    projection.close().await.unwrap();
    assert_eq!(probe_file(&bench.path()), "");
    let whole = std::fs::read(bench.path()).unwrap();
    let damaged = |path: &Path| probe_file(path).starts_with("damaged: ");

    let torn = bench.folder.path().join("torn.duckdb");
    std::fs::write(&torn, &whole[..whole.len() / 3]).unwrap();
    assert!(damaged(&torn));
    let flipped = bench.folder.path().join("flipped.duckdb");
    let mut content = whole.clone();
    content[4096 + 100] ^= 0x10;
    content[8192 + 100] ^= 0x10;
    std::fs::write(&flipped, content).unwrap();
    assert!(damaged(&flipped));
    let other = bench.folder.path().join("other.duckdb");
    std::fs::write(&other, "this is no database, but something that somebody has put there").unwrap();
    assert!(damaged(&other));
    assert_eq!(probe_file(bench.folder.path()), "");
    let secret = bench.folder.path().join("secret.duckdb");
    std::fs::write(&secret, &whole).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(probe_file(&secret), "");
}

#[tokio::test]
async fn a_rebuilt_file_has_the_same_rows_and_the_old_one_is_kept_until_it_is_too_old() {
    let bench = Bench::new();
    bench.fill(700).await;
    let projection = bench.open().await;
    projection.wait_for(700).await.unwrap();
    let rows = projection.rows().await;
    let rebuilt = projection.rebuild().await.unwrap();
    assert_eq!((rebuilt.records, rebuilt.gaps.len()), (700, 0));
    assert_eq!(projection.rows().await, rows);
    let old = PathBuf::from(rebuilt.set_aside.unwrap());
    assert!(old.to_str().unwrap().contains(".replaced-"));
    projection.remove_set_aside().await.unwrap();
    assert!(old.exists());
    bench.clock.advance(7 * DAY + Duration::from_secs(1));
    projection.remove_set_aside().await.unwrap();
    assert!(!old.exists() && bench.path().exists());
}
