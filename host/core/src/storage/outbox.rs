//! The port for events on their way into the flight recorder.

use async_trait::async_trait;

use super::StorageError;
use crate::chain::{ChainHead, StampedEvent};
use crate::event::{AdmittedEvent, DueEvent};
use crate::recorder::EffectNote;

/// Room in the writer's queue for one event.
pub trait OutboxSlot: Send + Sync {
    /// Hands over the event; it becomes durable with the next durable write. Fails when the database is closed.
    fn fill(self: Box<Self>, event: DueEvent) -> Result<(), StorageError>;
}

/// The outbox: events on their way into the flight recorder, stamped by the one writer.
#[async_trait]
pub trait EventOutbox: Send + Sync {
    /// Takes an event without waiting; it is written before anything that is queued later.
    fn enqueue(&self, event: AdmittedEvent) -> Result<(), StorageError>;
    /// Reserves room for one event.
    fn reserve(&self) -> Result<Box<dyn OutboxSlot>, StorageError>;
    /// Writes an event; durable on return.
    async fn append(&self, event: AdmittedEvent) -> Result<(), StorageError>;
    /// Writes an event and notes the effect, if the run's token is still the note's; `Conflict` otherwise.
    async fn append_effect(&self, note: EffectNote, event: AdmittedEvent) -> Result<(), StorageError>;
    /// Records behind `seq`, oldest first, at most `limit`. What was released is not among them.
    async fn read_after(&self, seq: u64, limit: u32) -> Result<Vec<StampedEvent>, StorageError>;
    /// Deletes this host's records up to and with `up_to`, oldest first, because they are kept elsewhere: durably, or the
    /// record has a hole. `Conflict`, and nothing is deleted, if the durable chain does not reach so far. Returns how
    /// many there were. It is done in pieces between which other writes go on; when it fails, the newer of the records
    /// are still there. The chain itself stands where it stood.
    async fn release(&self, up_to: u64) -> Result<u64, StorageError>;
    /// Where the durable chain stands, everything that was queued before this call included.
    async fn flush(&self) -> Result<ChainHead, StorageError>;
    /// Returns when the durable chain has grown past `seq`.
    async fn grown_past(&self, seq: u64);
}
