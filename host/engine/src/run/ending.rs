//! How runs end: the final forms of run and job, with metrics, proposals and the sentence that says why.

use handshake_core::Timestamp;
use handshake_core::document::Proposal;
use handshake_core::event::Actor;
use handshake_core::job::{AiJob, JobEvent};
use handshake_core::node::NodeKey;
use handshake_core::run::{RunEvent, WorkflowRun};
use handshake_core::step::{Plugin, StepFailure, StepOutcome};
use handshake_core::storage::RunChange;
use handshake_core::workflow::Step;
use serde_json::Value;
use std::time::Duration;

use super::poison::Violation;
use super::{Envelope, MAX_MESSAGE, bounded_to};
use crate::engine::EngineError;
use crate::proposals;
use crate::workflow::PlannedStep;

/// Why and how a run ends.
pub(super) enum Ending {
    /// Every step is done.
    Completed {
        /// Of the workflow.
        outputs: Value,
        /// Of all steps, in the order of steps and items.
        proposals: Vec<Proposal>,
    },
    /// Something failed for good.
    Failed(String),
    /// It cannot go on until a person has decided.
    AskUser {
        /// What it waits for.
        reason: String,
        /// Who made it wait.
        by: Actor,
        /// When it goes on by itself; none if somebody has to say so.
        wake_at: Option<Timestamp>,
    },
    /// Somebody cancelled it.
    Cancelled,
    /// The host was attacked.
    Poisoned(Violation),
}

/// Moves run and job to their final states and adds them and their events to a change.
pub(super) fn end(
    envelope: &Envelope<'_>,
    ending: Ending,
    run: &mut WorkflowRun,
    job: &mut AiJob,
    lasted: Duration,
    change: &mut RunChange,
) -> Result<(), EngineError> {
    let mut by = Actor::system();
    let (run_event, job_event, result, reason) = match ending {
        Ending::Completed { outputs, proposals } => {
            job.job_outputs = Some(outputs);
            // Those of an earlier run were made again, or are not wanted any more.
            job.planned_operations = proposals.into_iter().flat_map(|proposal| proposal.operations).collect();
            // What the job of a step proposes, the job answers for that started it.
            let (event, reason) = if job.planned_operations.is_empty() || job.parent_job_id.is_some() {
                (JobEvent::Complete, "every step is done".to_owned())
            } else {
                (JobEvent::Validate, "every step is done; what they propose is being validated".to_owned())
            };
            (RunEvent::Complete, event, "ok", reason)
        }
        Ending::Failed(reason) => {
            let reason = envelope.services.words().message(reason);
            run.error = Some(reason.clone());
            job.error_message = Some(reason.clone());
            (RunEvent::Fail, JobEvent::Fail, "failed", reason)
        }
        Ending::AskUser { reason, by: who, wake_at } => {
            by = who;
            run.wake_at = wake_at;
            (RunEvent::Wait, JobEvent::AskUser, "waiting", reason)
        }
        Ending::Poisoned(violation) => {
            let reason = envelope.services.words().message(violation.to_string());
            run.error = Some(reason.clone());
            job.error_message = Some(reason.clone());
            change.events.push(violation.event(envelope)?);
            (RunEvent::Fail, JobEvent::Poison, "poisoned", reason)
        }
        Ending::Cancelled => {
            (RunEvent::Cancel, JobEvent::Cancel, "cancelled", "cancelled while it was executed".to_owned())
        }
    };
    run.state = run.state.after(run_event)?;
    run.updated_at = envelope.services.clock.now();
    job.metrics.duration_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
    let moved = envelope.moves(job, job_event, reason, &by)?;
    if run.state.is_final() {
        change.events.push(envelope.run_span_end(job, result, lasted)?);
    }
    change.events.push(moved);
    if job.state.is_final() {
        change.events.push(envelope.job_span_end(job, result)?);
    }
    change.run = Some(run.clone());
    change.job = Some(job.clone());
    Ok(())
}

/// What a validator has come to; its failure when that is no verdict.
pub(super) fn verdict(mut outcome: StepOutcome) -> Result<StepOutcome, StepFailure> {
    if !outcome.proposals.is_empty() {
        return Err(StepFailure::Contract("a validator looks at proposals, and this one made some".into()));
    }
    if let Some(problem) = proposals::problem(&outcome.output) {
        return Err(StepFailure::Contract(problem));
    }
    // Counted like all that a node costs, so that it is there again when the run goes on elsewhere.
    outcome.metrics.validators_run_count = 1;
    Ok(outcome)
}

/// What failed, why, and what to do.
pub(super) fn failure_reason(
    node: &NodeKey,
    attempts: u32,
    failure: &StepFailure,
    planned: &PlannedStep,
    plugin: &Plugin,
) -> String {
    let what = if planned.validates {
        format!("nothing of what is proposed was applied: validator `{}`", plugin.label())
    } else {
        format!("step `{node}`")
    };
    let tried = if attempts > 1 { format!(" after {attempts} attempts") } else { String::new() };
    format!(
        "{what} failed{tried}: {}; {}",
        bounded_to(failure.to_string(), MAX_MESSAGE - 512),
        remedy(failure, &planned.step, plugin)
    )
}

fn remedy(failure: &StepFailure, step: &Step, plugin: &Plugin) -> String {
    let id = &plugin.manifest.id;
    match failure {
        StepFailure::InvalidInput(_) => "correct `with` of the step in the workflow file".into(),
        StepFailure::Denied(_) => "grant what it needs, or let it do without".into(),
        StepFailure::Transient(_) if step.retry.is_none() => {
            "it may pass: add `retry` to the step, or run the workflow again".into()
        }
        StepFailure::Transient(_) => "it may pass: run the workflow again later".into(),
        StepFailure::Permanent(_) => format!("see what plugin `{id}` says it needs"),
        StepFailure::Trap(_) => format!("report it to the author of plugin `{id}`"),
        StepFailure::Limit { .. } => format!("give the step less to do, or raise the limit in plugin.toml of `{id}`"),
        StepFailure::Timeout(_) => match step.timeout {
            Some(_) => "raise `timeout` of the step or `limits.wall_ms` in plugin.toml, whichever is smaller".into(),
            None => format!("raise `limits.wall_ms` in plugin.toml of `{id}`"),
        },
        StepFailure::Contract(_) => format!("`handshake plugin check` tells what is wrong with `{id}`"),
        StepFailure::Violation { .. } => "find out who did it before anything is run again".into(),
        StepFailure::NeedsApproval(_) => "answer the question".into(),
        StepFailure::Cancelled => "run the workflow again".into(),
        StepFailure::Host(_) => "`handshake doctor` looks for what is wrong with the host".into(),
    }
}
