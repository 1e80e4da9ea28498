//! Walks a host's whole record from its beginning to its head, and compares it with everything that speaks of it: the
//! tombstone, the segments' manifests, signed heads, and the rows of the DuckDB file.
//!
//! It holds one page of records at a time. The record may grow, be sealed and be dropped meanwhile; it is checked up to
//! where it stood at the start.

use std::collections::BTreeSet;
use std::sync::Arc;

use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::recorder::RecorderError;
use handshake_core::storage::{EventOutbox, StorageError};
use handshake_core::{Digest, HostId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::head::Head;
use crate::log::RecordLog;
use crate::projection::{Projection, Rows};
use crate::segments::manifest::Manifest;
use crate::segments::merkle::MerkleTree;
use crate::segments::{Segment, open_checked, told};
use crate::signing::Signed;

/// Records that are checked at a time.
const PAGE: u32 = 2048;
/// Text of records whose rows are compared at a time, bytes: a result takes some times as much of DuckDB's 48 MB.
const COMPARED: usize = 2 << 20;

/// What was found wrong first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    /// Number of the first record that is wrong, missing or too much.
    pub seq: u64,
    /// Where: `tombstone`, `segment`, `outbox`, `head`, `outside head` or `duckdb`.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

/// What was checked, up to the first finding if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Verification {
    /// The host.
    pub host: HostId,
    /// What was found wrong; none if everything is as it was recorded.
    pub finding: Option<Finding>,
    /// Records up to this number were dropped by retention; 0 for none.
    pub dropped_to: u64,
    /// Segments whose file, signature, chain and Merkle root are right.
    pub segments: u64,
    /// Records in them.
    pub segment_records: u64,
    /// Records in the outbox.
    pub outbox_records: u64,
    /// Rows of the DuckDB file that say what the record says.
    pub rows: u64,
    /// Number of the last record that was checked.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Number in the head that came from outside, if one was given and could be compared.
    pub outside_head: Option<u64>,
    /// Whether no head from outside was compared: whoever has the key and the files could have written all of it anew.
    pub self_consistent_only: bool,
}

/// A signed head to compare the chain with.
struct Expected {
    place: &'static str,
    head: Head,
}

pub(crate) struct Verifier<'a> {
    log: &'a RecordLog,
    projection: &'a Projection,
    expected: Vec<Expected>,
    chain: ChainHead,
    visited: BTreeSet<u64>,
    result: Verification,
}

/// Why the walk ended before its end.
enum End {
    Finding(Finding),
    Failed(RecorderError),
}

impl From<StorageError> for End {
    fn from(error: StorageError) -> Self {
        Self::Failed(RecorderError::Sink(error))
    }
}

impl From<RecorderError> for End {
    fn from(error: RecorderError) -> Self {
        Self::Failed(error)
    }
}

fn wrong<T>(seq: u64, place: &str, reason: impl Into<String>) -> Result<T, End> {
    Err(End::Finding(Finding { seq, place: place.to_owned(), reason: reason.into() }))
}

impl<'a> Verifier<'a> {
    /// `published` is the head in this host's own file, `outside` one that was kept elsewhere.
    pub(crate) async fn verify(
        log: &'a RecordLog,
        projection: &'a Projection,
        published: Option<Signed<Head>>,
        outside: Option<Signed<Head>>,
    ) -> Result<Verification, RecorderError> {
        let target = log.flush().await.map_err(RecorderError::Sink)?;
        let chain = ChainHead::empty(target.host);
        let result = Verification {
            host: target.host,
            finding: None,
            dropped_to: 0,
            segments: 0,
            segment_records: 0,
            outbox_records: 0,
            rows: 0,
            seq: 0,
            hash: chain.hash,
            recorded_at: chain.recorded_at,
            outside_head: None,
            self_consistent_only: outside.is_none(),
        };
        let mut this = Self { log, projection, expected: Vec::new(), chain, visited: BTreeSet::new(), result };
        let ended = this.walk(target, published, outside).await;
        this.result.seq = this.chain.seq;
        this.result.hash = this.chain.hash;
        this.result.recorded_at = this.chain.recorded_at;
        match ended {
            Ok(()) => Ok(this.result),
            Err(End::Finding(finding)) => Ok(Verification { finding: Some(finding), ..this.result }),
            Err(End::Failed(error)) => Err(error),
        }
    }

    async fn walk(
        &mut self,
        target: ChainHead,
        published: Option<Signed<Head>>,
        outside: Option<Signed<Head>>,
    ) -> Result<(), End> {
        for (place, head) in [("head", published), ("outside head", outside)] {
            if let Some(head) = head {
                self.expect(place, &head, target)?;
            }
        }
        self.begin()?;
        while self.chain.seq < target.seq {
            self.step(target).await?;
        }
        if self.chain != target {
            let reason =
                format!("the database says that the record ends with {} as record {}", target.hash, target.seq);
            return wrong(self.chain.seq, "outbox", reason);
        }
        self.no_other_segments()?;
        self.no_other_rows(target).await
    }

    /// Takes a signed head as what the chain must come by.
    fn expect(&mut self, place: &'static str, signed: &Signed<Head>, target: ChainHead) -> Result<(), End> {
        let head = &signed.body;
        if let Err(error) = signed.verify(self.log.archive().key().public()) {
            return wrong(head.seq, place, error.to_string());
        }
        if head.host != target.host {
            return wrong(head.seq, place, format!("it is about another host, {}", head.host));
        }
        if head.seq > target.seq {
            let reason = format!("the record ends with {}, and record {} was signed", target.seq, head.seq);
            return wrong(target.seq + 1, place, reason);
        }
        self.expected.push(Expected { place, head: head.clone() });
        self.compare_heads()
    }

    /// Begins with the tombstone, if there is one.
    fn begin(&mut self) -> Result<(), End> {
        let archive = self.log.archive();
        if let Some(problem) = archive.tombstone_problem() {
            return wrong(1, "tombstone", problem);
        }
        let Some(tombstone) = archive.tombstone() else { return Ok(()) };
        if let Err(error) = tombstone.verify(archive.key().public()) {
            return wrong(1, "tombstone", error.to_string());
        }
        self.jump(tombstone.body.end())
    }

    fn jump(&mut self, to: ChainHead) -> Result<(), End> {
        self.chain = to;
        self.result.dropped_to = to.seq;
        self.compare_heads()
    }

    /// Compares the heads that the chain has just reached, and forgets those that it has passed: what retention has
    /// dropped cannot be compared any more.
    fn compare_heads(&mut self) -> Result<(), End> {
        let chain = self.chain;
        for Expected { place, head } in &self.expected {
            if head.seq == chain.seq {
                if head.hash != chain.hash {
                    let reason = format!("the record has {} here, and {} was signed", chain.hash, head.hash);
                    return wrong(chain.seq, place, reason);
                }
                if *place == "outside head" {
                    self.result.outside_head = Some(head.seq);
                }
            }
        }
        self.result.self_consistent_only = self.result.outside_head.is_none();
        self.expected.retain(|expected| expected.head.seq > chain.seq);
        Ok(())
    }

    /// Checks the next part: a segment, or a page of the outbox.
    async fn step(&mut self, target: ChainHead) -> Result<(), End> {
        let (archive, next) = (Arc::clone(self.log.archive()), self.chain.seq + 1);
        let segment = archive.contents().holding(next).cloned();
        match segment {
            Some(Segment::Sealed(manifest)) => self.segment(&manifest, target).await,
            Some(Segment::Damaged { problem, .. }) => wrong(next, "segment", problem),
            None => {
                let left = u32::try_from(target.seq - self.chain.seq).unwrap_or(PAGE).min(PAGE);
                let records = self.log.outbox().read_after(self.chain.seq, left).await?;
                if records.first().is_none_or(|first| first.seq != next) {
                    if self.was_moved(next)? {
                        return Ok(());
                    }
                    return wrong(next, "outbox", "the record is missing");
                }
                self.result.outbox_records += self.page("outbox", records).await?;
                Ok(())
            }
        }
    }

    /// Whether records that were there have been sealed or dropped since.
    fn was_moved(&mut self, next: u64) -> Result<bool, End> {
        let tombstone = self.log.archive().tombstone().filter(|tombstone| tombstone.body.to >= next);
        match tombstone {
            Some(tombstone) if tombstone.verify(self.log.archive().key().public()).is_ok() => {
                self.jump(tombstone.body.end())?;
                Ok(true)
            }
            _ => Ok(self.log.archive().contents().holding(next).is_some()),
        }
    }

    async fn segment(&mut self, signed: &Signed<Manifest>, target: ChainHead) -> Result<(), End> {
        let (manifest, archive) = (signed.body.clone(), Arc::clone(self.log.archive()));
        let place = "segment";
        let next = self.chain.seq + 1;
        if let Err(error) = signed.verify(archive.key().public()) {
            return wrong(next, place, format!("its manifest: {error}"));
        }
        if manifest.from != next || manifest.prev != self.chain.hash || manifest.to > target.seq {
            return wrong(next, place, "its manifest does not follow what comes before it");
        }
        let (folder, opened) = (archive.folder().to_owned(), manifest.clone());
        let reader = match blocking(move || open_checked(&folder, &opened)).await? {
            Ok(reader) => reader,
            Err(_) if self.was_moved_away(next)? => return Ok(()),
            Err(problem) => return wrong(next, place, problem),
        };
        let mut reader = Some(reader);
        let (mut tree, mut recorded_from) = (MerkleTree::default(), None);
        while self.chain.seq < manifest.to {
            let Some(current) = reader.take() else { break };
            let (after, left) = (self.chain.seq, u32::try_from(manifest.to - self.chain.seq).unwrap_or(PAGE).min(PAGE));
            let (current, records) = blocking(move || {
                let records = current.read_after(after, left).map_err(|error| told(&error));
                (current, records)
            })
            .await?;
            reader = Some(current);
            let records = match records {
                Ok(records) if !records.is_empty() => records,
                Ok(_) => return wrong(after + 1, place, "the record is missing"),
                Err(problem) => return wrong(after + 1, place, problem),
            };
            for record in &records {
                tree.push(&record.hash);
                recorded_from.get_or_insert(record.recorded_at);
            }
            self.result.segment_records += self.page(place, records).await?;
        }
        let found = (tree.size(), tree.root(), self.chain.hash, recorded_from, self.chain.recorded_at);
        let expected =
            (manifest.records, manifest.merkle_root, manifest.hash, Some(manifest.recorded_from), manifest.recorded_to);
        if found != expected {
            return wrong(manifest.from, place, "its manifest does not say what its records say");
        }
        self.visited.insert(manifest.from);
        self.result.segments += 1;
        Ok(())
    }

    fn was_moved_away(&mut self, next: u64) -> Result<bool, End> {
        let dropped = self.log.archive().tombstone().is_some_and(|tombstone| tombstone.body.to >= next);
        if dropped { self.was_moved(next) } else { Ok(false) }
    }

    /// Checks records, and the rows of DuckDB that should say the same. Returns how many there were.
    async fn page(&mut self, place: &str, records: Vec<StampedEvent>) -> Result<u64, End> {
        for record in &records {
            let before = self.chain.recorded_at;
            if let Err(broken) = self.chain.verify(record) {
                return wrong(self.chain.seq + 1, place, broken.problem);
            }
            if record.recorded_at < before {
                return wrong(record.seq, place, "it was recorded before the one before it");
            }
            self.compare_heads()?;
        }
        let count = records.len() as u64;
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&StampedEvent| {
                bytes += record.record.len();
                bytes <= COMPARED
            };
            let some = rest.iter().take_while(fits).count().max(1);
            let later = rest.split_off(some);
            match self.projection.compare(rest).await? {
                Rows::Same { compared } => self.result.rows += compared,
                Rows::Different { seq, reason } => return wrong(seq, "duckdb", reason),
            }
            rest = later;
        }
        Ok(count)
    }

    fn no_other_segments(&self) -> Result<(), End> {
        let contents = self.log.archive().contents();
        let (dropped, end) = (self.result.dropped_to, self.chain.seq);
        let other = contents.segments.iter().find(|(from, segment)| {
            // What was sealed since the walk began was in the outbox when it was checked.
            let is_new = matches!(segment, Segment::Sealed(manifest)
                if manifest.body.to > end || manifest.body.from > end.saturating_sub(self.result.outbox_records));
            **from > dropped && !self.visited.contains(from) && !is_new
        });
        match other {
            Some((from, _)) => wrong(*from, "segment", "there is a segment too many"),
            None => Ok(()),
        }
    }

    async fn no_other_rows(&self, target: ChainHead) -> Result<(), End> {
        match self.projection.surplus(target).await? {
            Some(seq) => wrong(seq, "duckdb", "there is a row that was never recorded"),
            None => Ok(()),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| End::Failed(RecorderError::Sink(StorageError::Guard(error.to_string()))))
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
