//! The port for jobs.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Claim, RunChange, StorageError};
use crate::event::AdmittedEvent;
use crate::job::{AiJob, JobKind, JobState};
use crate::node::NodeExecution;
use crate::run::WorkflowRun;
use crate::{JobId, Timestamp};

/// Which jobs to list; newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobFilter {
    /// Only this state.
    pub state: Option<JobState>,
    /// Only this kind.
    pub kind: Option<JobKind>,
    /// Only this workflow's or protocol's.
    pub protocol_id: Option<String>,
    /// Only those of this workspace: the folder that their relative paths start from.
    pub workspace: Option<String>,
    /// Only those that this job started.
    pub parent: Option<JobId>,
    /// Only those created at this time or later.
    pub since: Option<Timestamp>,
    /// Only those created before this time.
    pub until: Option<Timestamp>,
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
    /// Likewise, and claims the run for this host as [`RunStore::claim`](super::RunStore::claim) does, in the same
    /// transaction. `change` is what the claim changes of what is stored with it.
    async fn begin(
        &self,
        job: AiJob,
        run: WorkflowRun,
        key: Option<&str>,
        events: Vec<AdmittedEvent>,
        change: RunChange,
    ) -> Result<Begun, StorageError>;
    /// Stores a job's new form with its events, if its state is still `from`; `Conflict` otherwise. What its runs
    /// write goes through [`RunStore::commit`](super::RunStore::commit).
    async fn transition(&self, job: AiJob, from: JobState, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
    /// Stores another run of a job together with the job's new form, if its state is still `from`. `nodes` are the
    /// results of earlier runs that this one starts with; it may read the artifacts that those list.
    async fn rerun(
        &self,
        job: AiJob,
        from: JobState,
        run: WorkflowRun,
        nodes: Vec<NodeExecution>,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), StorageError>;
    /// Pins a job, which keeps the janitor from it, or lets go of it.
    async fn pin(&self, id: JobId, pinned: bool, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
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

/// What became of a submission that was to begin at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// The job is new, and its run is claimed.
    Claimed(Box<Claim>),
    /// The key was used before, for this job.
    Existing(Box<AiJob>),
}
