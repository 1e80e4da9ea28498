//! The ports of the janitor: finding finished jobs that need not be kept, and deleting them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StorageError;
use crate::event::AdmittedEvent;
use crate::job::JobState;
use crate::{HostId, JobId, ReportId, Timestamp};

/// The most jobs that are deleted in one transaction, for which others wait.
pub const MOST_PRUNED: usize = 100;

/// Which finished jobs are kept. Pinned ones always are, and those with a run that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RetentionPolicy {
    /// A job is kept for so many days after its last change.
    pub days: u32,
    /// The newest jobs of each workflow are kept, so many, however old they are.
    pub keep: u32,
    /// Bytes of artifacts beyond which the oldest jobs go before their time; none for no bound.
    pub quota: Option<u64>,
}

/// Why a job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PruneReason {
    /// It was kept long enough.
    Window,
    /// Artifacts need more room than they may have.
    Quota,
}

/// A job that need not be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Candidate {
    /// The job.
    pub job_id: JobId,
    /// Its workflow.
    pub protocol_id: String,
    /// Its state.
    pub state: JobState,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Why it goes.
    pub reason: PruneReason,
    /// Bytes of artifacts that nobody lists any more once it and all before it are gone.
    pub artifact_bytes: u64,
}

/// What was deleted with some jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pruned {
    /// Jobs.
    pub jobs: u64,
    /// Their runs.
    pub runs: u64,
}

/// Stored content that no run lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Swept {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What the janitor found and did in one go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PruneReport {
    /// Its id.
    pub report_id: ReportId,
    /// The host whose janitor it was.
    pub host: HostId,
    /// Whether it only looked.
    pub dry_run: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was done; none while it deletes, or when it never came to an end.
    pub finished_at: Option<Timestamp>,
    /// What it went by.
    pub policy: RetentionPolicy,
    /// The jobs to delete, in this order. The list is stored before the first of them is deleted.
    pub candidates: Vec<Candidate>,
    /// What was deleted. Less than the candidates when some were pinned or retried meanwhile.
    pub pruned: Pruned,
    /// Files that were deleted from this host's artifacts; in a dry run those that nobody lists already.
    pub swept: Swept,
}

/// Finished jobs and what becomes of them.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// Jobs that need not be kept any more, the longest unchanged first, at most `limit`.
    async fn prunable(
        &self,
        policy: &RetentionPolicy,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Candidate>, StorageError>;
    /// Stores a report, new or changed, with its events. One that is neither finished nor a dry run makes its host
    /// the only one that deletes, for ten minutes from its last deletion; `Conflict` while another host is.
    /// Finishing it ends that.
    async fn store_report(&self, report: PruneReport, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
    /// Deletes jobs with everything that belongs to them, at most [`MOST_PRUNED`], in one transaction. Jobs that may
    /// not go (any more) stay. `Conflict` without a stored report that gives the right to.
    async fn prune(&self, report: ReportId, jobs: &[JobId]) -> Result<Pruned, StorageError>;
    /// Reports, newest first, at most `limit`.
    async fn reports(&self, limit: u32) -> Result<Vec<PruneReport>, StorageError>;
}

/// Stored content of this host.
#[async_trait]
pub trait ContentSweeper: Send + Sync {
    /// Deletes content that no run lists, which is what deleted jobs and crashes leave behind; a dry run only looks
    /// for it. Content whose listing is on its way stays.
    async fn sweep(&self, dry_run: bool) -> Result<Swept, StorageError>;
}
