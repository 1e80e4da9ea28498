//! The port for approvals.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Page, StorageError};
use crate::approval::{Approval, ApprovalState};
use crate::event::AdmittedEvent;
use crate::{ApprovalId, JobId};

/// Which approvals to list; newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApprovalFilter {
    /// Only this state.
    pub state: Option<ApprovalState>,
    /// Only this job's.
    pub job: Option<JobId>,
    /// Which part of the list.
    pub page: Page<ApprovalId>,
}

/// Approvals. They go with their run.
#[async_trait]
pub trait ApprovalStore: Send + Sync {
    /// Stores a new approval of an existing run with its events.
    async fn request_approval(&self, approval: Approval, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
    /// One approval.
    async fn approval(&self, id: ApprovalId) -> Result<Approval, StorageError>;
    /// Approvals, newest first by creation, then by id.
    async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>, StorageError>;
    /// Stores an approval's new form with its events, if the stored one is pending and has `expected_votes` votes,
    /// with which the new ones begin; `Conflict` otherwise. Only its state, votes and time of decision change. When it
    /// is decided, its run is due if it waits.
    async fn decide(
        &self,
        approval: Approval,
        expected_votes: usize,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), StorageError>;
}
