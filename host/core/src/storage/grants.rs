//! The port for grants.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Page, StorageError};
use crate::capability::Grant;
use crate::event::AdmittedEvent;
use crate::{GrantId, PluginId, Timestamp};

/// Which grants to list; newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantFilter {
    /// Only those that had neither expired nor been taken back by then.
    pub live_at: Option<Timestamp>,
    /// Only this plugin's.
    pub plugin: Option<PluginId>,
    /// Which part of the list.
    pub page: Page<GrantId>,
}

/// Grants. They outlive the jobs that led to them.
#[async_trait]
pub trait GrantStore: Send + Sync {
    /// Stores a new grant with its events.
    async fn add_grant(&self, grant: Grant, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
    /// One grant.
    async fn grant(&self, id: GrantId) -> Result<Grant, StorageError>;
    /// Grants, newest first by creation, then by id.
    async fn grants(&self, filter: &GrantFilter) -> Result<Vec<Grant>, StorageError>;
    /// Takes a grant back, with the events of that; `Conflict` when it was taken back before. Only who took it back and
    /// when changes.
    async fn revoke_grant(&self, grant: Grant, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
}
