#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use handshake_core::event::{Actor, EventBody};
use handshake_core::testing::{FixedClock, NoRedaction, SequentialIds};
use handshake_core::{EventId, TraceId};

use super::*;
use crate::Recorder;
use crate::keeper::{Keeper, KeeperPolicy, KeeperServices};
use crate::memory_outbox::MemoryOutbox;
use crate::projection::ProjectionOptions;
use crate::segments::Archive;
use crate::signing::SigningKey;
use crate::verify::{ProofError, check_proof};

#[path = "tampering_tests.rs"]
mod tampering;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Bench {
    folder: tempfile::TempDir,
    outbox: Arc<MemoryOutbox>,
    clock: Arc<FixedClock>,
    ids: Arc<SequentialIds>,
}

struct Host {
    keeper: Keeper,
    projection: Projection,
}

impl Bench {
    /// Records 1 to 100 dropped, 101 to 300 sealed in two segments, the rest in the outbox.
    async fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            outbox: Arc::default(),
            clock: Arc::default(),
            ids: Arc::default(),
        };
        let host = bench.open().await;
        bench.fill(100).await;
        host.keeper.seal(&host.projection).await.unwrap();
        bench.clock.advance(7 * DAY + Duration::from_secs(60));
        bench.outbox.set_time(handshake_core::Clock::now(&*bench.clock));
        bench.fill(200).await;
        host.keeper.seal(&host.projection).await.unwrap();
        for _ in 0..2 {
            host.keeper.tend(&host.projection).await;
            bench.clock.advance(Duration::from_secs(3600));
        }
        bench.fill(30).await;
        host.keeper.publish_head().await;
        host.projection.close().await.unwrap();
        bench
    }

    async fn open(&self) -> Host {
        let key = SigningKey::load_or_create(&self.path("key.pem"), &*self.ids).unwrap();
        let host = self.outbox.flush().await.unwrap().host;
        let archive = Archive::open(self.path("segments"), host, Arc::new(key)).unwrap();
        let log = Arc::new(RecordLog::new(Arc::clone(&self.outbox) as _, Arc::new(archive)));
        let options = ProjectionOptions {
            path: self.path("recorder.duckdb"),
            clock: Arc::clone(&self.clock) as _,
            retention: 7 * DAY,
            probe: None,
        };
        let projection = Projection::open(Arc::clone(&log), options).await.unwrap();
        let services = KeeperServices {
            log,
            recorder: Arc::new(Recorder::new(
                Arc::clone(&self.outbox) as _,
                Arc::new(NoRedaction),
                Arc::clone(&self.clock) as _,
            )),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            head_file: self.path("head.json"),
            notes_file: self.path("expiry.json"),
        };
        let policy =
            KeeperPolicy { retention: 7 * DAY, seal_records: 100, seal_after: Duration::from_secs(365 * 24 * 3600) };
        Host { keeper: Keeper::new(services, policy), projection }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn segment(&self, from: u64, to: u64, kind: &str) -> PathBuf {
        self.path("segments").join(format!("{from:020}-{to:020}.{kind}"))
    }

    async fn fill(&self, count: usize) {
        let recorder =
            Recorder::new(Arc::clone(&self.outbox) as _, Arc::new(NoRedaction), Arc::clone(&self.clock) as _);
        for n in 0..count {
            let body = EventBody::System { kind: "note".into(), detail: format!("note {n}") };
            let (id, trace) = (EventId::fresh(&*self.ids), TraceId::fresh(&*self.ids));
            let event = handshake_core::event::Event::new(id, trace, Timestamp::from_micros(5), Actor::system(), body);
            handshake_core::recorder::FlightRecorder::enqueue(&recorder, &event).unwrap();
        }
    }

    fn head(&self) -> Signed<Head> {
        crate::head::read(&self.path("head.json")).unwrap().unwrap()
    }
}

impl Host {
    async fn verify(&self, outside: Option<Signed<Head>>) -> Verification {
        self.keeper.verify(&self.projection, outside).await.unwrap()
    }
}

#[tokio::test]
async fn the_whole_record_verifies_and_says_whether_somebody_else_vouches_for_it() {
    let bench = Bench::new().await;
    let host = bench.open().await;
    let verified = host.verify(None).await;
    assert_eq!(verified.finding, None);
    assert_eq!((verified.dropped_to, verified.segments, verified.segment_records), (100, 2, 200));
    // The event about what was dropped is in the outbox, too.
    assert_eq!((verified.outbox_records, verified.rows, verified.seq), (31, 231, 331));
    assert!(verified.self_consistent_only && verified.outside_head.is_none());

    let head = bench.head();
    bench.fill(5).await;
    let verified = host.verify(Some(head)).await;
    assert_eq!((verified.finding, verified.outside_head, verified.seq), (None, Some(331), 336));
    assert!(!verified.self_consistent_only);
}

#[tokio::test]
async fn a_head_of_dropped_records_vouches_for_nothing() {
    let bench = Bench::new().await;
    let host = bench.open().await;
    let key = SigningKey::load_or_create(&bench.path("key.pem"), &*bench.ids).unwrap();
    let old = Head { seq: 50, hash: Digest::ZERO, ..bench.head().body };
    let verified = host.verify(Some(key.sign(old).unwrap())).await;
    assert_eq!((verified.finding, verified.self_consistent_only), (None, true));
}

#[tokio::test]
async fn edited_rows_of_duckdb_are_found() {
    let cases: [(&'static str, u64); 11] = [
        ("UPDATE events SET actor_id = 'somebody' WHERE seq = 150", 150),
        ("UPDATE events SET resource = 'x' WHERE seq IN (320, 321)", 320),
        ("UPDATE events SET record = replace(record, 'note', 'NOTE') WHERE seq = 101", 101),
        ("UPDATE events SET recorded_at = recorded_at + 1 WHERE seq = 331", 331),
        ("DELETE FROM events WHERE seq = 200", 200),
        ("INSERT INTO events SELECT * FROM events WHERE seq = 299", 299),
        ("UPDATE events SET seq = 1000 - seq WHERE seq IN (499, 501, 300)", 300),
        ("INSERT INTO events BY NAME SELECT * REPLACE (5000 AS seq) FROM events WHERE seq = 299", 5000),
        ("INSERT INTO events BY NAME SELECT * REPLACE ('another host' AS host) FROM events WHERE seq = 299", 299),
        ("INSERT INTO events BY NAME SELECT * REPLACE ('x' AS host, 7 AS seq) FROM events WHERE seq = 299", 7),
        ("ALTER TABLE events ADD COLUMN note VARCHAR DEFAULT 'x'", 101),
    ];
    for (sql, seq) in cases {
        let bench = Bench::new().await;
        let host = bench.open().await;
        host.projection.wait_for(331).await.unwrap();
        host.projection.execute(sql).await;
        let finding = host.verify(Some(bench.head())).await.finding.unwrap();
        assert_eq!((finding.seq, finding.place.as_str()), (seq, "duckdb"), "{sql}: {finding:?}");
    }
}

#[tokio::test]
async fn edited_segments_manifests_and_tombstones_are_found() {
    type Damage = fn(&Bench);
    fn rewrite(path: PathBuf, from: &str, to: &str) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
    let cases: [(&str, Damage, u64, &str); 9] = [
        (
            "a byte of a Parquet file",
            |bench| {
                let path = bench.segment(201, 300, "parquet");
                let mut content = std::fs::read(&path).unwrap();
                content[77] ^= 1;
                std::fs::write(path, content).unwrap();
            },
            201,
            "segment",
        ),
        (
            "a Parquet file is gone",
            |bench| std::fs::remove_file(bench.segment(101, 200, "parquet")).unwrap(),
            101,
            "segment",
        ),
        (
            "one in the place of another",
            |bench| {
                std::fs::copy(bench.segment(101, 200, "parquet"), bench.segment(201, 300, "parquet"))
                    .map(drop)
                    .unwrap();
            },
            201,
            "segment",
        ),
        ("a manifest is gone", |bench| std::fs::remove_file(bench.segment(201, 300, "json")).unwrap(), 201, "outbox"),
        (
            "a manifest's time",
            |bench| rewrite(bench.segment(101, 200, "json"), "\"sealed_at\":\"2026", "\"sealed_at\":\"2025"),
            101,
            "segment",
        ),
        (
            "a manifest's predecessor",
            |bench| rewrite(bench.segment(201, 300, "json"), "\"prev\":\"", "\"prev\":\"00"),
            201,
            "segment",
        ),
        (
            "the tombstone is gone",
            |bench| std::fs::remove_file(bench.path("segments/tombstone.json")).unwrap(),
            1,
            "outbox",
        ),
        (
            "the tombstone's reach",
            |bench| rewrite(bench.path("segments/tombstone.json"), "\"to\":100", "\"to\":99"),
            1,
            "tombstone",
        ),
        (
            "the tombstone's reason",
            |bench| rewrite(bench.path("segments/tombstone.json"), "retention", "spite"),
            1,
            "tombstone",
        ),
    ];
    for (what, damage, seq, place) in cases {
        let bench = Bench::new().await;
        damage(&bench);
        let host = bench.open().await;
        let finding = host.verify(Some(bench.head())).await.finding.unwrap();
        assert_eq!((finding.seq, finding.place.as_str()), (seq, place), "{what}: {finding:?}");
    }
}

#[tokio::test]
async fn an_edited_outbox_is_found() {
    type Damage = fn(&MemoryOutbox);
    let cases: [(&str, Damage, u64); 4] = [
        ("content", |outbox| outbox.tamper(310, |record| record.record = record.record.replace("note", "NOTE")), 310),
        ("time", |outbox| outbox.tamper(310, |record| record.recorded_at = Timestamp::from_micros(1)), 310),
        ("id", |outbox| outbox.tamper(310, |record| record.event_id = EventId::fresh(&SequentialIds::default())), 310),
        ("number", |outbox| outbox.tamper(310, |record| record.seq = 3100), 310),
    ];
    for (what, damage, seq) in cases {
        let bench = Bench::new().await;
        // What is projected is no help to whoever edits what it was made of.
        let host = bench.open().await;
        host.projection.wait_for(331).await.unwrap();
        damage(&bench.outbox);
        let finding = host.verify(Some(bench.head())).await.finding.unwrap();
        assert_eq!((finding.seq, finding.place.as_str()), (seq, "outbox"), "{what}: {finding:?}");
    }
}

#[tokio::test]
async fn a_record_that_was_cut_off_or_written_anew_does_not_fit_an_outside_head() {
    let bench = Bench::new().await;
    let key = SigningKey::load_or_create(&bench.path("key.pem"), &*bench.ids).unwrap();
    let real = bench.head();
    let host = bench.open().await;
    let longer = Head { seq: 340, ..real.body.clone() };
    let finding = host.verify(Some(key.sign(longer).unwrap())).await.finding.unwrap();
    assert_eq!((finding.seq, finding.place.as_str()), (332, "outside head"));
    for seq in [150, 300, 320, 331] {
        let other = Head { seq, hash: Digest::of(b"another"), ..real.body.clone() };
        let finding = host.verify(Some(key.sign(other).unwrap())).await.finding.unwrap();
        assert_eq!((finding.seq, finding.place.as_str()), (seq, "outside head"));
    }
    let elsewhere = Head { host: HostId::fresh(&*bench.ids), ..real.body.clone() };
    assert_eq!(host.verify(Some(key.sign(elsewhere).unwrap())).await.finding.unwrap().place, "outside head");

    // Whoever has no key cannot make a head, and whoever exchanges the key is noticed by those who have the old one's.
    let forged = Signed { body: Head { seq: 320, ..real.body.clone() }, ..real.clone() };
    assert!(host.verify(Some(forged)).await.finding.unwrap().reason.contains("signature"));
    host.projection.close().await.unwrap();
    std::fs::remove_file(bench.path("key.pem")).unwrap();
    let host = bench.open().await;
    assert!(host.verify(Some(real)).await.finding.unwrap().reason.contains("signed with the key"));
}

#[tokio::test]
async fn an_event_is_proved_offline_and_no_other_is() {
    let bench = Bench::new().await;
    let host = bench.open().await;
    let page = host.projection.events(&crate::EventQuery { limit: 1000, ..Default::default() }).await.unwrap();
    let key = host.keeper.public_key().clone();
    for seq in [101, 102, 163, 200, 300, 331] {
        let event = page.events.iter().find(|event| event.seq == seq).unwrap();
        let id: EventId = event.event["event_id"].as_str().unwrap().parse().unwrap();
        let proof = host.keeper.prove(&host.projection, id).await.unwrap();
        // It is what somebody else gets as a file.
        let proof: crate::Proof = serde_json::from_slice(&serde_json::to_vec(&proof).unwrap()).unwrap();
        let proved = check_proof(&proof, &key).unwrap();
        assert_eq!((proved.event_id, proved.seq, proved.hash), (id, seq, event.hash));

        let mut other = proof.clone();
        other.record = other.record.replace("note", "NOTE");
        assert!(seq == 331 || matches!(check_proof(&other, &key), Err(ProofError::NotInSegment)));
        let mut other = proof.clone();
        other.manifest.body.merkle_root = Digest::ZERO;
        assert!(matches!(check_proof(&other, &key), Err(ProofError::Signature(_))));
        let mut other = proof.clone();
        other.record = other.record.replace(&format!("\"seq\":{seq}}}"), &format!("\"seq\":{}}}", seq - 1));
        assert!(check_proof(&other, &key).is_err());
        let mut other = proof.clone();
        other.path.pop();
        assert!(check_proof(&other, &key).is_err());
        assert!(check_proof(&crate::Proof { schema: 2, ..proof.clone() }, &key).is_err());
        let stranger = tempfile::tempdir().unwrap();
        let ids = SequentialIds::default();
        handshake_core::Ids::uuid(&ids);
        handshake_core::Ids::uuid(&ids);
        let stranger = SigningKey::load_or_create(&stranger.path().join("k.pem"), &ids).unwrap();
        assert!(matches!(check_proof(&proof, stranger.public()), Err(ProofError::Signature(_))));
    }
    assert!(host.keeper.prove(&host.projection, EventId::fresh(&*bench.ids)).await.is_err());
    assert_eq!(host.verify(Some(bench.head())).await.finding, None, "sealing for a proof harms nothing");
}
