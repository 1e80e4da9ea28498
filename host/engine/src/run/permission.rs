//! Attempts that came upon a rule which wants a person asked: the question, and what follows from the answer.
//!
//! Such an attempt is interrupted and waits for nothing, so its row says all there is to know: whoever goes on with the
//! run finds the question that belongs to it. After a yes the step runs again from its beginning, as another attempt.

use handshake_core::approval::{Approval, ApprovalState};
use handshake_core::capability::{Asked, Asking, PermissionRequest};
use handshake_core::gate::AttemptPlace;
use handshake_core::node::{NodeError, NodeExecution, NodeState};
use handshake_core::step::StepFailure;
use handshake_core::storage::StorageError;
use handshake_core::{ApprovalId, RunId, Timestamp};

use super::attempt::Attempt;
use super::bounded;
use super::driver::{Driver, Position, finished};
use super::progress::Happening;
use super::waiting::{Pending, WaitsOn, named, refusal};
use crate::approvals;
use crate::engine::EngineError;
use crate::grants;
use crate::recovery::lasting_effects;
use crate::updates::RunUpdateKind;

/// How a node is called whose call was refused.
const DENIED: &str = "denied";

/// An attempt that waits for a person's word.
pub(super) struct Permission {
    pub(super) approval: ApprovalId,
    /// The attempt as it is stored.
    row: NodeExecution,
    /// How many tries it was.
    tries: u32,
    /// What for; none when an earlier process has asked.
    asked: Option<Asked>,
}

impl Permission {
    /// What it waits for, for a person.
    pub(super) fn words(&self) -> &str {
        self.row.error.as_ref().map_or("", |error| error.message.as_str())
    }
}

/// The question of an attempt, whoever asks it.
fn question_of(run: RunId, row: &NodeExecution) -> ApprovalId {
    ApprovalId::from_uuid(named(run, &row.node, &format!("permission {}", row.attempt)).uuid())
}

impl Driver<'_> {
    /// An attempt has ended because a person has to be asked.
    pub(super) fn needs_approval(
        &mut self,
        position: Position,
        attempt: &Attempt,
        asked: &Asked,
    ) -> Result<(), EngineError> {
        let failure = StepFailure::NeedsApproval(Box::new(asked.clone()));
        let why = NodeError { kind: failure.label().to_owned(), message: bounded(failure.to_string()) };
        let (row, event) = attempt.stopped(&self.envelope(), why)?;
        self.news.push(finished(attempt, NodeState::Interrupted, row.error.clone(), false));
        self.change.nodes.push(row.clone());
        self.change.events.push(event);
        self.await_word(position, row, attempt.tries, Some(asked.clone()))
    }

    /// Waits for a person's word; `asked` is none when an earlier process has asked.
    pub(super) fn await_word(
        &mut self,
        position: Position,
        row: NodeExecution,
        tries: u32,
        asked: Option<Asked>,
    ) -> Result<(), EngineError> {
        let approval = question_of(self.run.run_id, &row);
        let (node, attempt, input) = (row.node.clone(), row.attempt, row.input.clone());
        let permission = Permission { approval, row, tries, asked };
        let on = permission.words().to_owned();
        self.news.push(RunUpdateKind::NodeWaits { node: node.clone(), on, until: None });
        let started_at = self.inner.services.clock.now();
        let pending = Pending { node, attempt, input, started_at, on: WaitsOn::Permission(Box::new(permission)) };
        self.happened(Happening::Rested { step: position.0, item: position.1 })?;
        self.pending.insert(position, pending);
        self.begin_waits.push(position);
        self.has_asked = true;
        Ok(())
    }

    fn permission(&self, position: Position) -> Option<&Permission> {
        match &self.pending.get(&position)?.on {
            WaitsOn::Permission(permission) => Some(permission),
            _ => None,
        }
    }

    /// Puts the question to people, with what they should know before they answer.
    pub(super) async fn ask_for_permission(&mut self, position: Position) -> Result<(), EngineError> {
        let Some(permission) = self.permission(position) else { return Ok(()) };
        if let Some(asked) = permission.asked.clone() {
            let (approval_id, row) = (permission.approval, permission.row.clone());
            let noted = self.inner.services.database.effects(self.run.run_id).await?;
            let plugin = &self.resources(position.0)?.plugin;
            let declared = plugin.manifest.capabilities.iter().find(|declared| declared.id.meets(&asked.capability));
            let request = PermissionRequest {
                plugin: plugin.manifest.id.clone(),
                version: plugin.manifest.version.clone(),
                reason: declared.map(|declared| declared.reason.clone()),
                attempt: row.attempt,
                workspace: self.run.base.display().to_string(),
                effects: lasting_effects(&row, &noted),
                asked,
            };
            let prompt = format!(
                "may plugin `{}` use `{}` for `{}`?",
                plugin.label(),
                request.asked.capability,
                request.asked.resource
            );
            let approval = Approval {
                approval_id,
                job_id: self.run.job_id,
                run_id: self.run.run_id,
                step_id: row.node.step.clone(),
                index: row.node.index,
                state: ApprovalState::Pending,
                prompt,
                approvers: Default::default(),
                quorum: 1,
                permission: Some(request),
                votes: Vec::new(),
                expires_at: None,
                created_at: self.inner.services.clock.now(),
                decided_at: None,
            };
            approvals::request(&self.inner.services, self.envelope(), approval).await?;
        }
        self.look_for_permission(position).await
    }

    /// Goes on when somebody has answered.
    pub(super) async fn look_for_permission(&mut self, position: Position) -> Result<(), EngineError> {
        let Some((id, began)) = self.permission(position).map(|asks| (asks.approval, asks.row.started_at)) else {
            return Ok(());
        };
        let services = &self.inner.services;
        let found = match approvals::current(services, id).await {
            Ok(found) => found,
            // The host was lost before it could ask; the next attempt does.
            Err(EngineError::Storage(StorageError::NotFound { .. })) => return self.try_again(position),
            Err(error) => return Err(error),
        };
        match found.state {
            ApprovalState::Pending if !self.is_granted(&found, began) => Ok(()),
            ApprovalState::Pending => {
                approvals::withdraw_one(services, found).await?;
                self.try_again(position)
            }
            ApprovalState::Approved => {
                // Another host may have taken the answer.
                grants::refresh(services).await?;
                self.try_again(position)
            }
            ApprovalState::Cancelled => self.try_again(position),
            ApprovalState::Rejected | ApprovalState::Expired => self.not_permitted(position, &found),
        }
    }

    /// Whether what is asked was granted meanwhile, by the answer to another question. An attempt that has done something
    /// which would be done again waits for its own answer.
    fn is_granted(&self, approval: &Approval, began: Timestamp) -> bool {
        let Some(request) = approval.permission.as_ref().filter(|request| request.effects.is_empty()) else {
            return false;
        };
        let services = &self.inner.services;
        let place = AttemptPlace {
            job: approval.job_id,
            run: approval.run_id,
            step: approval.step_id.clone(),
            index: approval.index,
            attempt: request.attempt.saturating_add(1),
            fence: self.run.fence,
        };
        let now = services.clock.now();
        let asking = Asking { place: Some(&place), workspace: Some(&request.workspace), began, now };
        services.policy.current().answers(&request.plugin, &request.asked.capability, &asking)
    }

    fn try_again(&mut self, position: Position) -> Result<(), EngineError> {
        if !self.may_begin() {
            // It waits on; whoever goes on with the run finds the answer.
            return Ok(());
        }
        let Some(Pending { node, on: WaitsOn::Permission(permission), input, .. }) = self.pending.remove(&position)
        else {
            return Ok(());
        };
        self.happened(Happening::Resumed { step: position.0, item: position.1 })?;
        self.checkpoint(position, node, (permission.row.attempt.saturating_add(1), permission.tries), input)
    }

    fn not_permitted(&mut self, position: Position, approval: &Approval) -> Result<(), EngineError> {
        let Some(Pending { on: WaitsOn::Permission(permission), .. }) = self.pending.remove(&position) else {
            return Ok(());
        };
        let mut row = permission.row;
        let what = approval.permission.as_ref().map(|request| request.asked.capability.to_string());
        let message = format!("`{}`: {}", what.unwrap_or_default(), refusal(approval));
        let error = NodeError { kind: DENIED.to_owned(), message: self.inner.services.words().message(message) };
        self.failure.get_or_insert(format!("step `{}`: {}", row.node, error.message));
        row.state = NodeState::Failed;
        row.error = Some(error.clone());
        self.news.push(RunUpdateKind::NodeFinished {
            node: row.node.clone(),
            attempt: row.attempt,
            result: row.state,
            error: Some(error),
            will_retry: false,
        });
        self.change.nodes.push(row);
        self.happened(Happening::Failed { step: position.0, item: position.1 })
    }
}
