//! The port to the flight recorder. Every event goes through it, or rides in a state-change transaction after
//! [`FlightRecorder::admit`]; there is no third path (R6.1).

use async_trait::async_trait;

use crate::event::{AdmittedEvent, Event, InvalidEvent};
use crate::run::FencingToken;
use crate::storage::StorageError;
use crate::{RunId, StepId};

/// Why an event was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The event itself is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidEvent),
    /// There is no room left in the queue; the caller must not go on as if it had been recorded.
    #[error("HSK-500-DB: the recorder's queue is full")]
    Full,
    /// The host that asks no longer holds the run.
    #[error("the run's fencing token is outdated: another host has taken it over")]
    Fenced,
    /// It could not be stored or read.
    #[error("HSK-500-DB: the flight recorder cannot reach its store")]
    Sink(#[source] StorageError),
    /// The query is not acceptable.
    #[error("{0}")]
    Query(String),
}

/// The effect that an effectful permit is about to have, noted in the transaction that makes the permit durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectNote {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// Position within `for_each`.
    pub index: Option<u32>,
    /// The attempt.
    pub attempt: u32,
    /// The token that the run must still have.
    pub fence: FencingToken,
    /// Number of the call within the attempt.
    pub call: u64,
    /// Capability id.
    pub capability: String,
    /// Canonical resource.
    pub resource: String,
}

/// Room in the recorder's queue for one event that is written later, perhaps from a destructor.
pub trait OutcomeSlot: Send + Sync {
    /// Hands over the event. It becomes durable with the next durable write.
    fn fill(self: Box<Self>, event: Event);
}

/// Takes events. Whatever it accepted is never lost once durable, never doubled, and keeps its order.
#[async_trait]
pub trait FlightRecorder: Send + Sync {
    /// Validates and redacts an event that rides in a state-change transaction.
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, RecorderError>;
    /// Takes an event without waiting. It is durable at the latest with the next durable write of this host,
    /// before which it comes. Fails when the queue is full.
    fn enqueue(&self, event: &Event) -> Result<(), RecorderError>;
    /// Reserves room for an event that follows later.
    fn reserve(&self) -> Result<Box<dyn OutcomeSlot>, RecorderError>;
    /// Records an event; durable on return.
    async fn record_event(&self, event: &Event) -> Result<(), RecorderError>;
    /// Records the decision that allows an effect, checks the fencing token and notes the effect with its
    /// attempt, in one transaction; durable on return.
    async fn record_effect(&self, note: EffectNote, event: &Event) -> Result<(), RecorderError>;
    /// Waits until everything that was taken so far is durable.
    async fn flush(&self) -> Result<(), RecorderError>;
}
