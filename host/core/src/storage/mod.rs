//! The storage ports: small traits per subject and one [`Database`] that is all of them.
//!
//! What holds after a crash: a method that returned `Ok` is durable; one that did not may or may not have
//! happened as a whole, never in part.

mod approvals;
mod content;
mod fault;
mod grants;
mod jobs;
mod outbox;
mod page;
mod retention;
mod runs;
mod tokens;
mod triggers;

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::approvals::{ApprovalFilter, ApprovalStore};
pub use self::content::ContentStore;
pub use self::fault::{Fault, FaultKind, Migration, Schema};
pub use self::grants::{GrantFilter, GrantStore};
pub use self::jobs::{Begun, JobFilter, JobStore, Submitted};
pub use self::outbox::{EventOutbox, OutboxSlot};
pub use self::page::Page;
pub use self::retention::{
    Candidate, ContentSweeper, MOST_PRUNED, PruneReason, PruneReport, Pruned, RetentionPolicy, RetentionStore, Swept,
};
pub use self::runs::{Arrivals, Claim, LogQuery, Logs, OnClaim, Payloads, RunChange, RunStore, WorkQueue};
pub use self::tokens::TokenStore;
pub use self::triggers::TriggerStore;
use crate::{HostId, Timestamp};

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
    /// The database cannot be reached, or was too busy. Nothing was done; trying again later may help.
    #[error("{operation}: the database cannot be reached now")]
    Unavailable {
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

/// What executing workflows needs.
pub trait Workflows: JobStore + RunStore + WorkQueue + ApprovalStore + GrantStore + TriggerStore {}

impl<T: JobStore + RunStore + WorkQueue + ApprovalStore + GrantStore + TriggerStore + ?Sized> Workflows for T {}

/// The database as a whole.
#[async_trait]
pub trait Database: Workflows + EventOutbox + RetentionStore + ContentStore + TokenStore {
    /// The host whose data this is.
    fn host(&self) -> HostId;
    /// Answers when the database does.
    async fn ping(&self) -> Result<(), StorageError>;
    /// The latest applied migration; none before the first.
    async fn migration_version(&self) -> Result<Option<i64>, StorageError>;
    /// What is stored, in numbers.
    async fn statistics(&self) -> Result<Statistics, StorageError>;
    /// Copies all of it, as it is at one moment, to a file that is not there yet, while everything goes on. `Conflict` on
    /// PostgreSQL, which has tools of its own for that.
    async fn snapshot(&self, to: &Path) -> Result<(), StorageError>;
    /// Writes what is queued and closes. Later calls fail.
    async fn close(&self) -> Result<(), StorageError>;
}

/// What is stored, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
