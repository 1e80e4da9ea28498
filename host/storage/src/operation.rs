//! Writes that somebody waits for: what they do inside a transaction, and how they are answered after it.

use async_trait::async_trait;
use handshake_core::event::AdmittedEvent;
use handshake_core::storage::StorageError;
use handshake_core::{HostId, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::sql::Connection;

/// Where an operation is carried out: inside the writer's open transaction.
pub(crate) struct Step<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) host: HostId,
    pub(crate) now: Timestamp,
    /// The number that the operation's first event will have in the chain.
    pub(crate) next_seq: u64,
}

/// What an operation did.
#[derive(Debug)]
pub(crate) enum Applied<A> {
    /// It wrote; its events go on record with it.
    Wrote(A),
    /// It found that there is nothing to write; its events do not go on record.
    Unchanged(A),
}

/// Why an operation did nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It decided so from what it read, before it wrote anything; its neighbours are not concerned.
    Answer(StorageError),
    /// A statement failed: the transaction must be rolled back.
    Failure(StorageError),
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        Self::Failure(error)
    }
}

/// One kind of write. It may be carried out more than once, each time after a rollback.
#[async_trait]
pub(crate) trait Operation: Send + Sync + 'static {
    type Answer: Send + 'static;
    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<Self::Answer>, Refusal>;
    /// Events that go on record when it wrote.
    fn events(&self) -> &[AdmittedEvent] {
        &[]
    }
}

/// An operation in the queue, whatever its kind.
#[async_trait]
pub(crate) trait Queued: Send {
    /// Carries it out. An error means that the transaction must be rolled back.
    async fn apply(&mut self, step: &mut Step<'_>) -> Result<(), StorageError>;
    /// Whether it wrote.
    fn wrote(&self) -> bool;
    /// Events that go on record.
    fn events(&self) -> &[AdmittedEvent];
    /// Answers, now that the transaction is durable.
    fn answer(self: Box<Self>);
    /// Answers that it was not done.
    fn fail(self: Box<Self>, error: StorageError);
}

/// An operation together with whoever waits for it.
pub(crate) struct Pending<O: Operation> {
    operation: O,
    verdict: Option<Result<Applied<O::Answer>, StorageError>>,
    reply: oneshot::Sender<Result<O::Answer, StorageError>>,
    /// Free before the answer: whoever has it may ask for as much room at once.
    room: Option<OwnedSemaphorePermit>,
}

impl<O: Operation> Pending<O> {
    pub(crate) fn new(
        operation: O,
        reply: oneshot::Sender<Result<O::Answer, StorageError>>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { operation, verdict: None, reply, room }
    }
}

#[async_trait]
impl<O: Operation> Queued for Pending<O> {
    async fn apply(&mut self, step: &mut Step<'_>) -> Result<(), StorageError> {
        self.verdict = None;
        self.verdict = Some(match self.operation.apply(step).await {
            Ok(applied) => Ok(applied),
            Err(Refusal::Answer(error)) => Err(error),
            Err(Refusal::Failure(error)) => return Err(error),
        });
        Ok(())
    }

    fn wrote(&self) -> bool {
        matches!(self.verdict, Some(Ok(Applied::Wrote(_))))
    }

    fn events(&self) -> &[AdmittedEvent] {
        if self.wrote() { self.operation.events() } else { &[] }
    }

    fn answer(self: Box<Self>) {
        let answer = match self.verdict {
            Some(Ok(Applied::Wrote(answer) | Applied::Unchanged(answer))) => Ok(answer),
            Some(Err(error)) => Err(error),
            // Never carried out: dropping the reply tells the caller that the writer is gone.
            None => return,
        };
        drop(self.room);
        // Whoever waited may have gone; what was written stays written.
        drop(self.reply.send(answer));
    }

    fn fail(self: Box<Self>, error: StorageError) {
        drop(self.room);
        drop(self.reply.send(Err(error)));
    }
}
