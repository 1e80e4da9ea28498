//! The end of a run in which the host was attacked (R2.5). First the record, then everything else: once job and run are
//! stored as over, the fence refuses what the run's nodes still try to do, and only then they are stopped.

use std::collections::BTreeSet;
use std::fmt;

use handshake_core::event::{Actor, AdmittedEvent, EventBody};
use handshake_core::node::{NodeError, NodeState};
use handshake_core::recorder::RecorderError;
use handshake_core::step::StepFailure;
use handshake_core::storage::Payloads;

use super::attempt::Attempt;
use super::driver::{Driver, Position, finished};
use super::ending::Ending;
use super::{Envelope, bounded};
use crate::approvals;
use crate::control::cancel_parts;
use crate::engine::EngineError;

/// The kind of a parent's violation: one of the workflows that its steps run is poisoned.
const POISONED_CHILD: &str = "poisoned_child";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Stable label.
    pub(crate) kind: String,
    /// In words.
    pub(crate) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "security violation `{}`: {}", self.kind, self.detail)
    }
}

impl Violation {
    /// Its event, for the transaction that poisons the job.
    pub(crate) fn event(&self, envelope: &Envelope<'_>) -> Result<AdmittedEvent, RecorderError> {
        let body = EventBody::SecurityViolation { kind: self.kind.clone(), detail: bounded(self.detail.clone()) };
        envelope.admit(Actor::system(), body)
    }
}

impl Driver<'_> {
    /// Notes that an attempt has ended in a violation. The job is poisoned before anything else is done.
    pub(super) fn violated(&mut self, attempt: &Attempt, failure: &StepFailure) -> Result<(), EngineError> {
        let (row, event) = attempt.failed(&self.envelope(), failure)?;
        self.news.push(finished(attempt, NodeState::Failed, row.error.clone(), false));
        self.change.nodes.push(row);
        self.change.events.push(event);
        if let StepFailure::Violation { kind, detail } = failure {
            let detail = format!("step `{}`: {detail}", attempt.node);
            self.violation.get_or_insert(Violation { kind: kind.clone(), detail });
        }
        Ok(())
    }

    /// Likewise of a workflow that a step runs: it proposes and spends for this job, and would be tried again with it.
    pub(super) fn child_is_poisoned(&mut self, position: Position, why: String) -> Result<(), EngineError> {
        let Some(pending) = self.pending.remove(&position) else { return Ok(()) };
        let (mut row, event) = pending.ended(&self.envelope(), NodeState::Failed, "violation")?;
        let error = NodeError { kind: "violation".to_owned(), message: bounded(why.clone()) };
        row.error = Some(error.clone());
        self.over(row, event, Some(error));
        self.violation.get_or_insert(Violation { kind: POISONED_CHILD.to_owned(), detail: why });
        Ok(())
    }

    /// Commits the end of job and run, then stops what runs, then tells those who are asked.
    pub(super) async fn poison(&mut self, violation: Violation) -> Result<(), EngineError> {
        self.drop_what_would_begin();
        self.end_nodes().await?;
        self.conclude(Ending::Poisoned(violation)).await?;
        self.running.drain(..).for_each(|attempt| attempt.abort());
        self.stop_children().await;
        self.pending.clear();
        // What cannot be stopped is told; the job is poisoned all the same.
        if let Err(error) = cancel_parts(&self.inner.services, self.run.job_id, &Actor::system()).await {
            tracing::warn!(run = %self.run.run_id, %error, "a part of a poisoned job could not be cancelled");
        }
        self.tasks.shutdown().await;
        approvals::withdraw(&self.inner.services, self.run.job_id, self.run.run_id).await
    }

    /// Rows and events of all nodes that are not over, those included that an earlier process has left.
    async fn end_nodes(&mut self) -> Result<(), EngineError> {
        let envelope = self.envelope();
        for attempt in std::mem::take(&mut self.attempts).values() {
            let (row, event) = attempt.cancelled(&envelope)?;
            self.news.push(finished(attempt, NodeState::Cancelled, None, false));
            self.change.nodes.push(row);
            self.change.events.push(event);
        }
        let mut ended = Vec::new();
        for pending in self.pending.values().filter(|pending| !pending.has_ended()) {
            ended.push(pending.ended(&envelope, NodeState::Cancelled, "cancelled")?);
        }
        for (row, event) in ended {
            self.over(row, event, None);
        }
        let written: BTreeSet<_> = self.change.nodes.iter().map(|row| (row.node.clone(), row.attempt)).collect();
        let now = self.inner.services.clock.now();
        let stored = self.inner.services.database.nodes(self.run.run_id, Payloads::Read).await?;
        let open = stored.into_iter().filter(|row| matches!(row.state, NodeState::Running | NodeState::Waiting));
        for mut row in open.filter(|row| !written.contains(&(row.node.clone(), row.attempt))) {
            row.state = NodeState::Cancelled;
            row.finished_at = Some(now);
            self.change.nodes.push(row);
        }
        Ok(())
    }
}
