#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use handshake_core::event::{Actor, AdmittedEvent, Event, EventBody};
use handshake_core::testing::{NoRedaction, SequentialIds};
use handshake_core::{EventId, TraceId};

use super::*;
use crate::log::{Found, Jump, RecordLog};
use crate::memory_outbox::MemoryOutbox;

struct Bench {
    folder: tempfile::TempDir,
    outbox: Arc<MemoryOutbox>,
    ids: SequentialIds,
    key: Arc<SigningKey>,
    disk: Disk,
}

impl Bench {
    fn new() -> Self {
        let (folder, ids) = (tempfile::tempdir().unwrap(), SequentialIds::default());
        let key = Arc::new(SigningKey::load_or_create(&folder.path().join("key.pem"), &ids).unwrap());
        Self { folder, outbox: Arc::default(), ids, key, disk: Disk::default() }
    }

    async fn fill(&self, count: usize) {
        for n in 0..count {
            let body = EventBody::System { kind: "note".into(), detail: format!("note {n} ä\u{1F600}\u{0}") };
            let (id, trace) = (EventId::fresh(&self.ids), TraceId::fresh(&self.ids));
            let event = Event::new(id, trace, Timestamp::from_micros(7), Actor::system(), body);
            self.outbox.append(AdmittedEvent::admit(&event, &NoRedaction, event.timestamp).unwrap()).await.unwrap();
        }
    }

    fn segments(&self) -> PathBuf {
        self.folder.path().join("segments")
    }

    async fn archive(&self) -> Arc<Archive> {
        let host = self.outbox.flush().await.unwrap().host;
        Arc::new(Archive::on(self.disk.clone(), self.segments(), host, Arc::clone(&self.key)).unwrap())
    }

    async fn log(&self) -> RecordLog {
        RecordLog::new(Arc::clone(&self.outbox) as _, self.archive().await)
    }

    async fn seal(&self, archive: &Arc<Archive>, up_to: u64, most: u32) -> Result<Option<Manifest>, ArchiveError> {
        let sealed = archive.seal(&*self.outbox, up_to, most, Timestamp::from_micros(9)).await?;
        Ok(sealed.map(|signed| signed.body))
    }
}

/// The whole record, in pages of an odd size.
async fn whole(log: &RecordLog) -> Vec<StampedEvent> {
    let mut records: Vec<StampedEvent> = Vec::new();
    loop {
        let after = records.last().map_or(0, |last| last.seq);
        let page = log.read_after(after, 7).await.unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

#[tokio::test]
async fn sealed_records_are_read_from_segments_as_they_were() {
    let bench = Bench::new();
    bench.fill(100).await;
    let records = bench.outbox.records();
    let archive = bench.archive().await;
    let first = bench.seal(&archive, 90, 40).await.unwrap().unwrap();
    assert_eq!((first.from, first.to, first.records, first.prev), (1, 40, 40, Digest::ZERO));
    assert_eq!(
        (first.hash, first.recorded_from, first.recorded_to),
        (records[39].hash, records[0].recorded_at, records[39].recorded_at)
    );
    let mut tree = MerkleTree::default();
    records[..40].iter().for_each(|record| tree.push(&record.hash));
    assert_eq!(first.merkle_root, tree.root());
    let file = parquet_path(&bench.segments(), &first.name());
    assert_eq!((first.file_sha256, first.bytes), file_digest(&file).unwrap());
    assert_eq!(bench.outbox.records(), records[40..], "they are released");

    assert_eq!(bench.seal(&archive, 90, 1000).await.unwrap().unwrap().to, 90);
    assert_eq!(bench.seal(&archive, 90, 1000).await.unwrap(), None);
    assert_eq!(archive.sealed_to(), 90);
    for archive in [archive, bench.archive().await] {
        let log = RecordLog::new(Arc::clone(&bench.outbox) as _, archive);
        assert_eq!(whole(&log).await, records);
        assert_eq!(log.read_after(38, 5).await.unwrap(), records[38..40], "a page ends with its segment");
    }
    for manifest in bench.archive().await.manifests() {
        manifest.verify(bench.key.public()).unwrap();
    }
}

#[tokio::test]
async fn a_crash_after_any_step_of_sealing_loses_and_doubles_nothing() {
    let mut steps = 0;
    loop {
        let bench = Bench::new();
        bench.fill(30).await;
        let records = bench.outbox.records();
        bench.seal(&bench.archive().await, 10, 10).await.unwrap().unwrap();

        bench.disk.fail_after(Some(steps));
        let done = bench.seal(&bench.archive().await, 25, 100).await.is_ok();
        bench.disk.fail_after(None);
        assert_eq!(whole(&bench.log().await).await, records, "after step {steps}");
        // The next process may seal another range, as more has been recorded meanwhile.
        let archive = bench.archive().await;
        while bench.seal(&archive, 30, 100).await.unwrap().is_some() {}
        assert_eq!(whole(&bench.log().await).await, records, "after step {steps} and another attempt");
        assert!(bench.outbox.records().is_empty());
        assert_eq!(archive.problems(), Vec::<String>::new());
        let files = std::fs::read_dir(bench.segments()).unwrap().count();
        assert_eq!(files, 2 * archive.manifests().len(), "nothing is left over");
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 10, "each of {steps} steps was the last one once");
}

#[tokio::test]
async fn a_segment_is_no_larger_than_it_may_be_and_a_full_disk_is_recovered_from() {
    let bench = Bench::new();
    bench.fill(5000).await;
    let records = bench.outbox.records();
    let archive = bench.archive().await;
    bench.disk.fail_after(Some(3));
    assert!(bench.seal(&archive, 5000, 5000).await.is_err());
    assert_eq!(bench.outbox.records().len(), 5000);
    bench.disk.fail_after(None);
    assert_eq!(bench.seal(&archive, 5000, 5000).await.unwrap().unwrap().records, 5000);
    assert_eq!(whole(&bench.log().await).await, records);
}

#[tokio::test]
async fn a_broken_chain_is_not_sealed() {
    let bench = Bench::new();
    bench.fill(20).await;
    bench.outbox.tamper(12, |record| record.record = record.record.replace("note 11", "note XX"));
    let archive = bench.archive().await;
    let error = bench.seal(&archive, 20, 100).await.unwrap_err();
    assert!(matches!(&error, ArchiveError::Broken(broken) if broken.seq == 12), "{error:?}");
    assert_eq!((bench.outbox.records().len(), archive.sealed_to()), (20, 0));
}

/// Two segments of ten records each and five in the outbox.
async fn sealed() -> (Bench, Vec<StampedEvent>) {
    let bench = Bench::new();
    bench.fill(25).await;
    let records = bench.outbox.records();
    let archive = bench.archive().await;
    bench.seal(&archive, 10, 10).await.unwrap();
    bench.seal(&archive, 20, 10).await.unwrap();
    (bench, records)
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_is_passed_over_and_named() {
    let parquet = |from, to| format!("{}.parquet", name(from, to));
    let manifest = |from, to| format!("{}.json", name(from, to));
    type Damage = fn(&Path);
    let gone: Damage = |path| std::fs::remove_file(path).unwrap();
    let torn: Damage = |path| {
        let content = std::fs::read(path).unwrap();
        std::fs::write(path, &content[..content.len() / 2]).unwrap();
    };
    let flipped: Damage = |path| {
        let mut content = std::fs::read(path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(path, content).unwrap();
    };
    for (file, lost) in
        [(parquet(1, 10), 0..10), (parquet(11, 20), 10..20), (manifest(1, 10), 0..10), (manifest(11, 20), 10..20)]
    {
        for damage in [gone, torn, flipped] {
            let (bench, records) = sealed().await;
            damage(&bench.segments().join(&file));
            let log = bench.log().await;
            let found = log.next_after(lost.start as u64, 100).await.unwrap();
            let Found::Jump(Jump { to, missing: Some(reason) }) = found else { unreachable!("{file}: {found:?}") };
            assert_eq!((to.seq, to.hash), (lost.end as u64, records[lost.end - 1].hash), "{file}");
            assert!(!reason.is_empty());
            let rest: Vec<_> = [&records[..lost.start], &records[lost.end..]].concat();
            assert_eq!(whole(&log).await, rest, "{file}");
            // What comes is sealed all the same.
            let archive = bench.archive().await;
            bench.fill(5).await;
            assert_eq!(bench.seal(&archive, 30, 100).await.unwrap().unwrap().to, 30, "{file}");
        }
    }
}

#[tokio::test]
async fn records_of_the_tail_that_are_nowhere_are_a_gap_up_to_the_head() {
    let (bench, records) = sealed().await;
    bench.outbox.release(25).await.unwrap();
    for file in ["parquet", "json"] {
        std::fs::remove_file(bench.segments().join(format!("{}.{file}", name(11, 20)))).unwrap();
    }
    let log = bench.log().await;
    assert_eq!(whole(&log).await, records[..10]);
    let found = log.next_after(10, 5).await.unwrap();
    assert!(matches!(&found, Found::Jump(Jump { to, missing: Some(_) }) if to.seq == 25), "{found:?}");
}

#[tokio::test]
async fn files_of_others_are_left_alone() {
    let (bench, _) = sealed().await;
    let other = bench.segments().join("notes.json");
    std::fs::write(&other, "mine").unwrap();
    let archive = bench.archive().await;
    bench.seal(&archive, 25, 100).await.unwrap().unwrap();
    assert!(other.exists() && bench.archive().await.problems().is_empty());
}

/// An outbox to which an event is added right after each time that it was read.
struct Growing {
    bench: Bench,
    left: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl EventOutbox for Growing {
    fn enqueue(&self, _: AdmittedEvent) -> Result<(), StorageError> {
        Ok(())
    }
    fn reserve(&self) -> Result<Box<dyn handshake_core::storage::OutboxSlot>, StorageError> {
        self.bench.outbox.reserve()
    }
    async fn append(&self, _: AdmittedEvent) -> Result<(), StorageError> {
        Ok(())
    }
    async fn append_effect(
        &self,
        _: handshake_core::recorder::EffectNote,
        _: AdmittedEvent,
    ) -> Result<(), StorageError> {
        Ok(())
    }
    async fn read_after(&self, seq: u64, limit: u32) -> Result<Vec<StampedEvent>, StorageError> {
        let records = self.bench.outbox.read_after(seq, limit).await;
        if self.left.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            self.left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            self.bench.fill(1).await;
        }
        records
    }
    async fn release(&self, up_to: u64) -> Result<u64, StorageError> {
        self.bench.outbox.release(up_to).await
    }
    async fn flush(&self) -> Result<ChainHead, StorageError> {
        self.bench.outbox.flush().await
    }
    async fn grown_past(&self, seq: u64) {
        self.bench.outbox.grown_past(seq).await;
    }
}

#[tokio::test]
async fn what_is_recorded_while_the_end_is_looked_for_is_not_missing() {
    let (bench, _) = sealed().await;
    let archive = bench.archive().await;
    bench.seal(&archive, 25, 100).await.unwrap().unwrap();
    let outbox = Arc::new(Growing { bench, left: 3.into() });
    let log = RecordLog::new(Arc::clone(&outbox) as _, archive);
    let found = log.next_after(25, 10).await.unwrap();
    assert!(matches!(&found, Found::Records(records) if records[0].seq == 26), "{found:?}");
}
