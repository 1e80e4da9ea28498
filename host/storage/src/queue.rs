//! The way to the writer: one queue, whose order is the order of the chain.
//!
//! Events take up room until they are durable, not only until the writer has picked them up; so when the database
//! cannot be written, the queue fills and callers are refused instead of the host's memory growing. Operations
//! without events of guests take no room: their callers wait, which bounds them, and a full queue must not keep a
//! run from being ended.

use std::sync::Arc;

use handshake_core::event::{AdmittedEvent, DueEvent};
use handshake_core::storage::{OutboxSlot, StorageError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::error::{Unreachable, unreachable};
use crate::operation::{Operation, Pending, Queued};

/// What is sent to the writer.
pub(crate) enum Sent {
    /// An event that nobody waits for, perhaps not admitted yet.
    Due { event: DueEvent, room: OwnedSemaphorePermit },
    /// Anything else.
    Item(Item),
}

impl Sent {
    /// What is to be written of it.
    pub(crate) fn item(self) -> Option<Item> {
        match self {
            Self::Item(item) => Some(item),
            Self::Due { event, room } => match event.admitted() {
                Ok(event) => Some(Item::Event { event, _room: room }),
                Err(error) => {
                    tracing::error!(%error, "an event was not recorded");
                    None
                }
            },
        }
    }
}

/// What waits for the writer.
pub(crate) enum Item {
    /// An event that nobody waits for. It keeps its room until it is durable.
    Event { event: AdmittedEvent, _room: OwnedSemaphorePermit },
    /// A write that somebody waits for.
    Operation(Box<dyn Queued>),
    /// The last thing the writer does.
    Close(oneshot::Sender<Result<(), StorageError>>),
}

/// The sending side.
#[derive(Clone)]
pub(crate) struct Queue {
    sender: mpsc::UnboundedSender<Sent>,
    room: Arc<Semaphore>,
}

impl Queue {
    /// A queue with room for so many events, at least one.
    pub(crate) fn new(size: usize) -> (Self, mpsc::UnboundedReceiver<Sent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, room: Arc::new(Semaphore::new(size.clamp(1, Semaphore::MAX_PERMITS))) }, receiver)
    }

    /// Takes room for one event, without waiting.
    pub(crate) fn room(&self, operation: &'static str) -> Result<OwnedSemaphorePermit, StorageError> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| StorageError::Overloaded { operation })
    }

    /// Queues an event that nobody waits for.
    pub(crate) fn enqueue(&self, event: AdmittedEvent) -> Result<(), StorageError> {
        let operation = "record an event";
        let room = self.room(operation)?;
        self.send(operation, Item::Event { event, _room: room })
    }

    /// Reserves room for an event that comes later.
    pub(crate) fn reserve(&self) -> Result<Slot, StorageError> {
        let operation = "reserve room for an event";
        let room = self.room(operation)?;
        if self.sender.is_closed() {
            return Err(unreachable(operation, Unreachable::Closed));
        }
        Ok(Slot { sender: self.sender.clone(), room })
    }

    /// Queues an operation and waits until it is durable.
    pub(crate) async fn perform<O: Operation>(
        &self,
        name: &'static str,
        operation: O,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<O::Answer, StorageError> {
        let (reply, answer) = oneshot::channel();
        self.send(name, Item::Operation(Box::new(Pending::new(operation, reply, room))))?;
        answer.await.unwrap_or_else(|_| Err(unreachable(name, Unreachable::Closed)))
    }

    /// Lets the writer write what is queued and end.
    pub(crate) async fn close(&self) -> Result<(), StorageError> {
        let (reply, answer) = oneshot::channel();
        self.send("close the database", Item::Close(reply))?;
        answer.await.unwrap_or_else(|_| Err(unreachable("close the database", Unreachable::Closed)))
    }

    fn send(&self, operation: &'static str, item: Item) -> Result<(), StorageError> {
        self.sender.send(Sent::Item(item)).map_err(|_| unreachable(operation, Unreachable::Closed))
    }
}

/// Room for one event.
pub(crate) struct Slot {
    sender: mpsc::UnboundedSender<Sent>,
    room: OwnedSemaphorePermit,
}

impl OutboxSlot for Slot {
    // Does not wait, because it is called from destructors. Admission leaves no U+0000 in an event, so the check for it
    // that others go through would find nothing.
    fn fill(self: Box<Self>, event: DueEvent) -> Result<(), StorageError> {
        let sent = self.sender.send(Sent::Due { event, room: self.room });
        sent.map_err(|_| unreachable("record an event", Unreachable::Closed))
    }
}
