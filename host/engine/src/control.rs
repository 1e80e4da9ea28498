//! What people ask of jobs: to stop a run that is executed, to give one up that is not, to try again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use handshake_core::event::Actor;
use handshake_core::job::{AiJob, JobEvent, JobMetrics, JobState};
use handshake_core::node::NodeState;
use handshake_core::run::{FencingToken, RunEvent, RunState, WorkflowRun};
use handshake_core::storage::{Payloads, RunChange, StorageError};
use handshake_core::{JobId, RunId, StepId};
use tokio_util::sync::CancellationToken;

use crate::approvals;
use crate::engine::{EngineError, EngineServices};
use crate::run::{Envelope, compile, given_up};
use crate::submission::{SubmittedJob, repin};
use crate::workflow::Plan;

/// Stops a run that is being executed. Clones stop the same run.
#[derive(Debug, Clone, Default)]
pub struct Control {
    cancel: CancellationToken,
    pause: CancellationToken,
    paused_by: Arc<OnceLock<Actor>>,
    leaving: Arc<AtomicBool>,
}

impl Control {
    /// One whose run is cancelled by this token, too.
    pub fn new(cancel: CancellationToken) -> Self {
        Self { cancel, ..Self::default() }
    }

    /// Stops running steps; the run and its job become cancelled.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Lets running steps end and begins no more; then the run waits for a person. The first call counts.
    pub fn pause(&self, by: Actor) {
        self.paused_by.get_or_init(|| by);
        self.pause.cancel();
    }

    /// One for something that is done within the run: it is stopped with the run, and can be by itself.
    pub(crate) fn child(&self) -> Self {
        Self { cancel: self.cancel.child_token(), ..self.clone() }
    }

    /// Lets running steps end and begins no more; then the run waits for the next process that executes runs.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        self.pause(Actor::system());
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    pub(crate) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    pub(crate) async fn paused(&self) {
        self.pause.cancelled().await;
    }

    /// Who has paused it.
    pub(crate) fn is_paused(&self) -> Option<Actor> {
        self.pause.is_cancelled().then(|| self.paused_by.get().cloned().unwrap_or_else(Actor::system))
    }
}

/// The latest run of a job.
pub(crate) async fn latest_run(services: &EngineServices, job: &AiJob) -> Result<RunId, StorageError> {
    if let Some(run) = job.workflow_run_id {
        return Ok(run);
    }
    let runs = services.database.runs_of(job.job_id).await?;
    let missing = || StorageError::NotFound { what: "run of job", id: job.job_id.to_string() };
    Ok(runs.last().ok_or_else(missing)?.run_id)
}

/// Refuses what can only be said to the job that started this one.
pub(crate) async fn require_whole(services: &EngineServices, job: &AiJob) -> Result<(), EngineError> {
    if job.parent_job_id.is_none() {
        return Ok(());
    }
    let root = approvals::root(services, job.clone()).await?;
    Err(EngineError::Part { job: job.job_id, parent: root.job_id })
}

/// Refuses what is asked of a job that was poisoned: it is never tried again, and nothing of it is applied (R1.10, R2.5).
pub(crate) fn require_sound(job: &AiJob) -> Result<(), EngineError> {
    match job.state {
        JobState::Poisoned => Err(EngineError::Poisoned { job: job.job_id, reason: job.status_reason.clone() }),
        _ => Ok(()),
    }
}

/// Cancels a job whose run no host executes, and what it has started.
pub(crate) async fn cancel(services: &EngineServices, id: JobId, by: &Actor) -> Result<AiJob, EngineError> {
    let job = services.database.job(id).await?;
    require_whole(services, &job).await?;
    // The job itself last: while it waits, what a crash has left of the others can be cancelled again.
    cancel_parts(services, id, by).await?;
    cancel_one(services, job, by).await
}

/// Cancels what a job has started, directly or not. One that cannot be cancelled keeps none of the others from it; the
/// first error is told.
pub(crate) async fn cancel_parts(services: &EngineServices, id: JobId, by: &Actor) -> Result<(), EngineError> {
    let parts = approvals::family(services, id).await?.into_iter().skip(1).rev();
    let mut first = Ok(());
    for part in parts.filter(|part| !part.state.is_final()) {
        match cancel_one(services, part, by).await {
            Ok(_) => {}
            // Its host is gone, or about to find out: whoever takes it up finds that nobody waits for it.
            Err(EngineError::Elsewhere { run }) => tracing::warn!(%run, "a part of the job is executed elsewhere"),
            Err(error) => first = first.and(Err(error)),
        }
    }
    first
}

async fn cancel_one(services: &EngineServices, mut job: AiJob, by: &Actor) -> Result<AiJob, EngineError> {
    let id = job.job_id;
    if crate::proposals::is_waiting(services, &job).await? {
        return crate::proposals::cancel(services, job, by).await;
    }
    let mut run = services.database.run(latest_run(services, &job).await?).await?;
    let envelope = Envelope { services, job: id, run: run.run_id, trace: run.trace_id };
    let moved = envelope.moves(&mut job, JobEvent::Cancel, format!("cancelled by {}", by.id), by)?;
    if run.state == RunState::Running {
        return Err(EngineError::Elsewhere { run: run.run_id });
    }
    let from = run.state;
    run.state = from.after(RunEvent::Cancel)?;
    run.updated_at = job.updated_at;
    let mut events = vec![moved, envelope.job_span_end(&job, "cancelled")?];
    let waiting = services.database.nodes(run.run_id, Payloads::Read).await?;
    let waiting = waiting.into_iter().filter(|node| node.state == NodeState::Waiting);
    let mut nodes = Vec::new();
    for (row, event) in waiting.map(|row| given_up(&envelope, row)).collect::<Result<Vec<_>, _>>()? {
        nodes.push(row);
        events.push(event);
    }
    let change = RunChange { job: Some(job.clone()), run: Some(run.clone()), nodes, events };
    services.database.amend(run.run_id, from, change).await?;
    approvals::withdraw(services, id, run.run_id).await?;
    Ok(job)
}

/// Queues another run of a job. What earlier runs completed is not run again, but for `from` and what depends on it.
pub(crate) async fn retry(
    services: &EngineServices,
    id: JobId,
    from: Option<&StepId>,
    by: &Actor,
) -> Result<SubmittedJob, EngineError> {
    let mut job = services.database.job(id).await?;
    require_whole(services, &job).await?;
    require_sound(&job)?;
    let before = job.state;
    let last = services.database.run(latest_run(services, &job).await?).await?;
    let run_id = RunId::fresh(&*services.ids);
    let envelope = Envelope { services, job: id, run: run_id, trace: last.trace_id };
    let reason = match from {
        Some(step) => format!("{} asked for another run from step `{step}`", by.id),
        None => format!("{} asked for another run", by.id),
    };
    let moved = envelope.moves(&mut job, JobEvent::Retry, reason, by)?;
    let events = vec![envelope.job_span_start(&job, by)?, moved];
    let plan = compile(&last)?;
    let again = from.map(|from| dependents(&plan, from)).transpose()?.unwrap_or_default();
    let mut nodes = services.database.nodes(last.run_id, Payloads::Read).await?;
    // Validators are asked again: it is perhaps another one by now.
    let validates = |step: &StepId| plan.steps.iter().any(|planned| planned.validates && planned.step.id == *step);
    let is_kept = |step: &StepId| !again.contains(step) && !validates(step);
    nodes.retain(|node| node.state == NodeState::Completed && is_kept(&node.node.step));
    for node in &mut nodes {
        node.run_id = run_id;
    }
    let now = job.updated_at;
    let run = WorkflowRun {
        run_id,
        state: RunState::Queued,
        pinned: repin(services, &plan, &last)?,
        host: None,
        fence: FencingToken(0),
        recoveries: 0,
        wake_at: None,
        heartbeat_at: None,
        error: None,
        created_at: now,
        updated_at: now,
        ..last
    };
    job.workflow_run_id = Some(run_id);
    job.metrics = JobMetrics::default();
    job.error_message = None;
    job.job_outputs = None;
    services.database.rerun(job, before, run, nodes, events).await?;
    Ok(SubmittedJob { job_id: id, run_id, existing: false, warnings: Vec::new() })
}

/// A step and every step that needs it, directly or not.
fn dependents(plan: &Plan, from: &StepId) -> Result<BTreeSet<StepId>, EngineError> {
    let position = plan.steps.iter().position(|planned| planned.step.id == *from);
    let position = position.ok_or_else(|| EngineError::UnknownStep {
        step: from.clone(),
        known: plan.steps.iter().map(|planned| planned.step.id.to_string()).collect(),
    })?;
    let mut again = BTreeSet::from([position]);
    for at in &plan.order {
        if plan.steps.get(*at).is_some_and(|planned| !planned.needs.is_disjoint(&again)) {
            again.insert(*at);
        }
    }
    Ok(again.iter().filter_map(|at| Some(plan.steps.get(*at)?.step.id.clone())).collect())
}
