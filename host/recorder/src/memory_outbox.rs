//! An outbox in memory, for this crate's tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::event::{AdmittedEvent, DueEvent};
use handshake_core::recorder::EffectNote;
use handshake_core::storage::{EventOutbox, OutboxSlot, StorageError};
use handshake_core::testing::SequentialIds;
use handshake_core::{HostId, Timestamp};
use tokio::sync::Notify;

type Failure = Box<dyn Fn() -> StorageError + Send>;

struct Chain {
    head: ChainHead,
    records: Vec<StampedEvent>,
    now: Timestamp,
}

/// Stamps at once; time goes on by one microsecond with each record.
#[derive(Clone)]
pub(crate) struct MemoryOutbox {
    chain: Arc<Mutex<Chain>>,
    failure: Arc<Mutex<Option<Failure>>>,
    grown: Arc<Notify>,
}

impl Default for MemoryOutbox {
    fn default() -> Self {
        let host = HostId::fresh(&SequentialIds::default());
        let start = Timestamp::from_micros(1_767_225_600_000_000);
        Self {
            chain: Arc::new(Mutex::new(Chain { head: ChainHead::empty(host), records: Vec::new(), now: start })),
            failure: Arc::default(),
            grown: Arc::default(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryOutbox {
    pub(crate) fn records(&self) -> Vec<StampedEvent> {
        locked(&self.chain).records.clone()
    }

    pub(crate) fn fail_with(&self, failure: impl Fn() -> StorageError + Send + 'static) {
        *locked(&self.failure) = Some(Box::new(failure));
    }

    pub(crate) fn recover(&self) {
        *locked(&self.failure) = None;
    }

    /// Changes the wall clock.
    pub(crate) fn set_time(&self, now: Timestamp) {
        locked(&self.chain).now = now;
    }

    /// Changes a stored record behind the recorder's back.
    pub(crate) fn tamper(&self, seq: u64, change: impl FnOnce(&mut StampedEvent)) {
        if let Some(record) = locked(&self.chain).records.iter_mut().find(|record| record.seq == seq) {
            change(record);
        }
    }

    /// Changes all that is stored behind the recorder's back.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Vec<StampedEvent>)) {
        change(&mut locked(&self.chain).records);
    }

    fn push(&self, event: &AdmittedEvent) -> Result<(), StorageError> {
        self.failing()?;
        let mut chain = locked(&self.chain);
        chain.now = chain.now.plus(std::time::Duration::from_micros(1));
        let now = chain.now;
        let stamped = chain.head.append(event, now);
        chain.records.push(stamped);
        drop(chain);
        self.grown.notify_waiters();
        Ok(())
    }

    fn failing(&self) -> Result<(), StorageError> {
        locked(&self.failure).as_ref().map_or(Ok(()), |failure| Err(failure()))
    }
}

#[async_trait]
impl EventOutbox for MemoryOutbox {
    fn enqueue(&self, event: AdmittedEvent) -> Result<(), StorageError> {
        self.push(&event)
    }
    fn reserve(&self) -> Result<Box<dyn OutboxSlot>, StorageError> {
        self.failing()?;
        Ok(Box::new(self.clone()))
    }
    async fn append(&self, event: AdmittedEvent) -> Result<(), StorageError> {
        self.push(&event)
    }
    async fn append_effect(&self, _: EffectNote, event: AdmittedEvent) -> Result<(), StorageError> {
        self.push(&event)
    }
    async fn read_after(&self, seq: u64, limit: u32) -> Result<Vec<StampedEvent>, StorageError> {
        self.failing()?;
        Ok(locked(&self.chain).records.iter().filter(|record| record.seq > seq).take(limit as usize).cloned().collect())
    }
    async fn release(&self, up_to: u64) -> Result<u64, StorageError> {
        self.failing()?;
        let mut chain = locked(&self.chain);
        if up_to > chain.head.seq {
            return Err(StorageError::Conflict("the chain is not that long".into()));
        }
        let before = chain.records.len();
        chain.records.retain(|record| record.seq > up_to);
        Ok((before - chain.records.len()) as u64)
    }
    async fn flush(&self) -> Result<ChainHead, StorageError> {
        self.failing()?;
        Ok(locked(&self.chain).head)
    }
    async fn grown_past(&self, seq: u64) {
        loop {
            let grown = self.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if locked(&self.chain).head.seq > seq {
                return;
            }
            grown.await;
        }
    }
}

impl OutboxSlot for MemoryOutbox {
    fn fill(self: Box<Self>, event: DueEvent) -> Result<(), StorageError> {
        // Like the real one: what is not admitted after all is a fault of the host, which is told in its log.
        event.admitted().map_or(Ok(()), |event| self.push(&event))
    }
}
