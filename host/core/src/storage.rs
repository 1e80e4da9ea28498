//! The storage ports: small traits per subject and one [`Database`] that is all of them.
//!
//! What holds after a crash: a method that returned `Ok` is durable; one that did not may or may not have
//! happened as a whole, never in part.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::chain::{ChainHead, StampedEvent};
use crate::event::AdmittedEvent;
use crate::job::{AiJob, JobKind, JobState};
use crate::node::NodeExecution;
use crate::recorder::EffectNote;
use crate::run::{FencingToken, WorkflowRun};
use crate::{HostId, JobId, RunId, Timestamp};

/// Why storage did not do what was asked (R3.1). Errors of the driver stay inside as a source.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such thing.
    #[error("{what} `{id}` does not exist")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// Somebody else got there first.
    #[error("{0}")]
    Conflict(String),
    /// The arguments are not acceptable.
    #[error("{0}")]
    Validation(String),
    /// A rule of the host forbids it.
    #[error("{0}")]
    Guard(String),
    /// A stored value cannot be read, or one to be stored cannot be written.
    #[error("{what}: stored value does not have the expected form")]
    Serialization {
        /// Which value.
        what: &'static str,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database did not do it.
    #[error("{operation}: the database failed")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The queue of the writer is full.
    #[error("{operation}: too much is waiting to be written")]
    Overloaded {
        /// What was tried.
        operation: &'static str,
    },
    /// A migration failed.
    #[error("cannot bring the database to this version's schema")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<crate::gate::WrongPermit> for StorageError {
    fn from(error: crate::gate::WrongPermit) -> Self {
        Self::Guard(error.to_string())
    }
}

/// Which jobs to list; newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobFilter {
    /// Only this state.
    pub state: Option<JobState>,
    /// Only this kind.
    pub kind: Option<JobKind>,
    /// At most so many; 0 means 50, and 1,000 is the most.
    pub limit: u32,
    /// Continues behind this job.
    pub after: Option<JobId>,
}

/// Jobs.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Stores a new job with its first run and their events. With an idempotency key that was used before,
    /// nothing is stored and the first job is returned.
    async fn submit(
        &self,
        job: AiJob,
        run: WorkflowRun,
        key: Option<&str>,
        events: Vec<AdmittedEvent>,
    ) -> Result<Submitted, StorageError>;
    /// One job.
    async fn job(&self, id: JobId) -> Result<AiJob, StorageError>;
    /// Jobs, newest first by creation, then by id.
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<AiJob>, StorageError>;
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// The job is new.
    New,
    /// The key was used before, for this job.
    Existing(Box<AiJob>),
}

/// A host's right to execute a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The run, as it is now.
    pub run: WorkflowRun,
    /// Its job.
    pub job: AiJob,
    /// What every later write must show.
    pub fence: FencingToken,
}

/// Everything that changes together when a run moves on: one transaction.
#[derive(Debug, Clone, Default)]
pub struct RunChange {
    /// The job's new form.
    pub job: Option<AiJob>,
    /// The run's new form; its `fence` and `host` are not written.
    pub run: Option<WorkflowRun>,
    /// Attempts, new or changed.
    pub nodes: Vec<NodeExecution>,
    /// Events of it all.
    pub events: Vec<AdmittedEvent>,
}

/// Whether the inputs and outputs of attempts are read with them: those of a large run do not fit into memory twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// They are read.
    Read,
    /// They are left out: every input is null and no attempt has an output.
    LeftOut,
}

/// Runs and their nodes.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// One run.
    async fn run(&self, id: RunId) -> Result<WorkflowRun, StorageError>;
    /// All runs of a job, oldest first.
    async fn runs_of(&self, job: JobId) -> Result<Vec<WorkflowRun>, StorageError>;
    /// Claims a run for this host: it and its job become running. Raises the fencing token.
    async fn claim(&self, id: RunId, change: RunChange) -> Result<Claim, StorageError>;
    /// Writes a change; `Conflict` when the token is outdated, and then nothing is written.
    async fn commit(&self, id: RunId, fence: FencingToken, change: RunChange) -> Result<(), StorageError>;
    /// Renews the run's sign of life; `Conflict` when the token is outdated.
    async fn heartbeat(&self, id: RunId, fence: FencingToken) -> Result<(), StorageError>;
    /// Every attempt of every node of a run, by step, index and attempt.
    async fn nodes(&self, run: RunId, payloads: Payloads) -> Result<Vec<NodeExecution>, StorageError>;
    /// Effects that a run's attempts were permitted, in order.
    async fn effects(&self, run: RunId) -> Result<Vec<EffectNote>, StorageError>;
    /// Runs that are running by the books of this host, although it has just started.
    async fn interrupted(&self) -> Result<Vec<WorkflowRun>, StorageError>;
}

/// Room in the writer's queue for one event.
pub trait OutboxSlot: Send + Sync {
    /// Hands over the event; it becomes durable with the next durable write.
    fn fill(self: Box<Self>, event: AdmittedEvent);
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
    /// Records behind `seq`, oldest first, at most `limit`.
    async fn read_after(&self, seq: u64, limit: u32) -> Result<Vec<StampedEvent>, StorageError>;
    /// Where the durable chain stands, everything that was queued before this call included.
    async fn flush(&self) -> Result<ChainHead, StorageError>;
    /// Returns when the durable chain has grown past `seq`.
    async fn grown_past(&self, seq: u64);
}

/// The database as a whole.
#[async_trait]
pub trait Database: JobStore + RunStore + EventOutbox {
    /// The host whose data this is.
    fn host(&self) -> HostId;
    /// Answers when the database does.
    async fn ping(&self) -> Result<(), StorageError>;
    /// The latest applied migration; none before the first.
    async fn migration_version(&self) -> Result<Option<i64>, StorageError>;
    /// What is stored, in numbers.
    async fn statistics(&self) -> Result<Statistics, StorageError>;
    /// Writes what is queued and closes. Later calls fail.
    async fn close(&self) -> Result<(), StorageError>;
}

/// What is stored, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// `sqlite` or `postgres`.
    pub backend: String,
    /// Jobs.
    pub jobs: u64,
    /// Runs.
    pub runs: u64,
    /// Attempts.
    pub node_executions: u64,
    /// Events in the outbox.
    pub outbox_events: u64,
    /// Size of the database, bytes.
    pub bytes: u64,
    /// When the newest event was recorded.
    pub last_recorded_at: Option<Timestamp>,
}
