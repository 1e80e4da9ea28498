//! The whole record of a host, wherever its parts are: dropped, sealed in segments, or in the outbox.

use std::sync::Arc;

use async_trait::async_trait;
use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::AdmittedEvent;
use handshake_core::recorder::EffectNote;
use handshake_core::storage::{EventOutbox, OutboxSlot, StorageError};

use crate::segments::{Archive, Manifest, Segment};

/// What comes behind a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The next records; none at the end.
    Records(Vec<StampedEvent>),
    /// Records that are not there any more.
    Jump(Jump),
}

/// A range that is not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jump {
    /// Where the chain stands behind it.
    pub(crate) to: ChainHead,
    /// Why they are missing; none for what retention has dropped on purpose.
    pub(crate) missing: Option<String>,
}

/// Where the part of the record is that was asked for.
enum Place {
    Here(Found),
    In(Box<Manifest>),
    End,
}

/// An outbox that still has what it has handed over to segments: reading from it goes through them first. What
/// retention has dropped, and what cannot be read, is passed over.
///
/// So whoever follows the record needs to know nothing of segments, and loses nothing when records are sealed.
pub struct RecordLog {
    outbox: Arc<dyn EventOutbox>,
    archive: Arc<Archive>,
}

impl RecordLog {
    /// The record in this outbox and these segments, which must be of the same host.
    pub fn new(outbox: Arc<dyn EventOutbox>, archive: Arc<Archive>) -> Self {
        Self { outbox, archive }
    }

    pub(crate) fn outbox(&self) -> &Arc<dyn EventOutbox> {
        &self.outbox
    }

    pub(crate) fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// What comes behind a record, at most `limit` records.
    pub(crate) async fn next_after(&self, seq: u64, limit: u32) -> Result<Found, StorageError> {
        let mut head = None;
        loop {
            // The outbox first: what is released meanwhile is in a segment by then.
            let batch = self.outbox.read_after(seq, limit).await?;
            if batch.first().is_some_and(|first| first.seq == seq + 1) {
                return Ok(Found::Records(batch));
            }
            match self.locate(seq, &batch, head).await? {
                Place::Here(Found::Records(_)) => return Ok(Found::Records(batch)),
                Place::Here(jump) => return Ok(jump),
                Place::In(manifest) => return self.read(*manifest, seq, limit).await,
                // Nothing comes behind it, or what came only now: that is known by a head that was there before the
                // outbox was read.
                Place::End => {
                    let now = self.outbox.flush().await?;
                    if now.seq <= seq {
                        return Ok(Found::Records(Vec::new()));
                    }
                    head = Some(now);
                }
            }
        }
    }

    /// Finds out where the records behind `seq` are, which the outbox does not begin with. `head` is where the chain
    /// stood before `batch` was read, if that is known.
    async fn locate(&self, seq: u64, batch: &[StampedEvent], head: Option<ChainHead>) -> Result<Place, StorageError> {
        let (damage, next) = {
            let contents = self.archive.contents();
            if let Some(tombstone) = contents.tombstone.as_ref().filter(|tombstone| tombstone.body.to > seq) {
                return Ok(Place::Here(Found::Jump(Jump { to: tombstone.body.end(), missing: None })));
            }
            let damage = match contents.holding(seq + 1) {
                Some(Segment::Sealed(manifest)) => return Ok(Place::In(Box::new(manifest.body.clone()))),
                Some(Segment::Damaged { problem, .. }) => problem.clone(),
                // Nothing was ever released, so what is missing is not a matter of segments.
                None if contents.is_empty() => return Ok(Place::Here(Found::Records(Vec::new()))),
                None => "neither the outbox nor a segment has them".to_owned(),
            };
            (damage, contents.next_sealed(seq).map(Manifest::start))
        };
        let behind = match (next, batch.first(), head) {
            (Some(start), ..) => Some(start),
            (None, Some(first), _) if self.outbox_begins_with(first.seq).await? => {
                let start = ChainHead::before(first);
                Some(start.map_err(|error| StorageError::Guard(error.to_string()))?)
            }
            // A hole within the outbox is not a matter of segments either.
            (None, Some(_), _) => None,
            (None, None, None) => return Ok(Place::End),
            (None, None, Some(head)) => Some(head),
        };
        Ok(Place::Here(match behind {
            Some(to) => Found::Jump(Jump { to, missing: Some(damage) }),
            None => Found::Records(Vec::new()),
        }))
    }

    async fn outbox_begins_with(&self, seq: u64) -> Result<bool, StorageError> {
        Ok(self.outbox.read_after(0, 1).await?.first().is_none_or(|first| first.seq >= seq))
    }

    async fn read(&self, manifest: Manifest, seq: u64, limit: u32) -> Result<Found, StorageError> {
        let (archive, end) = (Arc::clone(&self.archive), manifest.end());
        let read = tokio::task::spawn_blocking(move || archive.read_after(&manifest, seq, limit)).await;
        match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(records) => Ok(Found::Records(records)),
            Err(problem) => {
                // It may have been dropped since.
                let tombstone = self.archive.tombstone().filter(|tombstone| tombstone.body.to > seq);
                Ok(Found::Jump(match tombstone {
                    Some(tombstone) => Jump { to: tombstone.body.end(), missing: None },
                    None => Jump { to: end, missing: Some(problem) },
                }))
            }
        }
    }
}

#[async_trait]
impl EventOutbox for RecordLog {
    fn enqueue(&self, event: AdmittedEvent) -> Result<(), StorageError> {
        self.outbox.enqueue(event)
    }
    fn reserve(&self) -> Result<Box<dyn OutboxSlot>, StorageError> {
        self.outbox.reserve()
    }
    async fn append(&self, event: AdmittedEvent) -> Result<(), StorageError> {
        self.outbox.append(event).await
    }
    async fn append_effect(&self, note: EffectNote, event: AdmittedEvent) -> Result<(), StorageError> {
        self.outbox.append_effect(note, event).await
    }
    async fn read_after(&self, seq: u64, limit: u32) -> Result<Vec<StampedEvent>, StorageError> {
        let mut seq = seq;
        loop {
            match self.next_after(seq, limit).await? {
                Found::Records(records) => return Ok(records),
                Found::Jump(jump) => seq = jump.to.seq.max(seq + 1),
            }
        }
    }
    async fn release(&self, up_to: u64) -> Result<u64, StorageError> {
        self.outbox.release(up_to).await
    }
    async fn flush(&self) -> Result<ChainHead, StorageError> {
        self.outbox.flush().await
    }
    async fn grown_past(&self, seq: u64) {
        self.outbox.grown_past(seq).await;
    }
}
