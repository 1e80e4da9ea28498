//! The port for triggers.

use async_trait::async_trait;

use super::{Page, StorageError};
use crate::event::AdmittedEvent;
use crate::trigger::{Trigger, TriggerRef};
use crate::{Timestamp, TriggerId};

/// Triggers. They belong to the database: whichever host looks first fires them.
#[async_trait]
pub trait TriggerStore: Send + Sync {
    /// Stores a new trigger with its events; `Conflict` when its name is taken.
    async fn create_trigger(&self, trigger: Trigger, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
    /// One trigger.
    async fn trigger(&self, which: &TriggerRef) -> Result<Trigger, StorageError>;
    /// Triggers, newest first by creation, then by id.
    async fn triggers(&self, page: &Page<TriggerId>) -> Result<Vec<Trigger>, StorageError>;
    /// Triggers whose next time is not after `now`, the longest overdue first; at most `limit`.
    async fn due_triggers(&self, now: Timestamp, limit: u32) -> Result<Vec<Trigger>, StorageError>;
    /// Stores a trigger's new form with its events, if the next time of the stored one is `expected`; `Conflict`
    /// otherwise. Only its next and last time, last job and last error change.
    async fn advance_trigger(
        &self,
        trigger: Trigger,
        expected: Timestamp,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), StorageError>;
    /// Deletes a trigger and stores the events of it. Jobs that it has submitted stay.
    async fn remove_trigger(&self, id: TriggerId, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
}
