//! Driving one run to its end: what is ready (`progress`, pure), attempts, retries, checkpoints and the loop.

mod attempt;
mod budget;
mod child;
mod driver;
mod ending;
mod envelope;
mod history;
mod permission;
mod poison;
mod prepared;
mod progress;
mod retry;
mod starting;
mod waiting;

pub(crate) use envelope::Envelope;
pub(crate) use poison::Violation;
pub(crate) use prepared::{compile, rights};
pub use prepared::{graph_of, steps_of};
pub(crate) use waiting::given_up;

use std::sync::Arc;

use handshake_core::RunId;
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{AiJob, JobState};
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::storage::Payloads;
use serde::{Deserialize, Serialize};

use crate::control::{Control, latest_run};
use crate::engine::{EngineError, Inner};
use crate::submission::{self, NewJob, Submission, SubmittedJob};

use self::budget::Budget;
use self::driver::Driver;
use self::history::History;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its job, with outputs, metrics and state.
    pub job: AiJob,
    /// The run.
    pub run: WorkflowRun,
}

/// The longest error message that is stored, in bytes. Messages carry text from plugins.
const MAX_MESSAGE: usize = 4 << 10;

/// Bounds a message.
pub(crate) fn bounded(message: String) -> String {
    bounded_to(message, MAX_MESSAGE)
}

/// Bounds a message to so many bytes.
pub(crate) fn bounded_to(mut message: String, most: usize) -> String {
    if message.len() > most {
        let end = (0..=most.saturating_sub(3)).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Drives a run that waits for a host: from its beginning, or from where a lost host or an earlier run left it.
pub(crate) async fn execute(
    inner: &Arc<Inner>,
    id: RunId,
    by: &Actor,
    control: &Control,
) -> Result<RunSummary, EngineError> {
    execute_within(inner, id, (by, control), None).await
}

/// The same for a run that belongs to another, and spends what that one has.
async fn execute_within(
    inner: &Arc<Inner>,
    id: RunId,
    word: (&Actor, &Control),
    parent: Option<&Arc<Budget>>,
) -> Result<RunSummary, EngineError> {
    loop {
        let (summary, again) = once(inner, id, word, parent).await?;
        if !again {
            return Ok(summary);
        }
    }
}

async fn once(
    inner: &Arc<Inner>,
    id: RunId,
    (by, control): (&Actor, &Control),
    parent: Option<&Arc<Budget>>,
) -> Result<(RunSummary, bool), EngineError> {
    let services = &inner.services;
    let run = services.database.run(id).await?;
    if !matches!(run.state, RunState::Queued | RunState::Stalled | RunState::Waiting) {
        return Err(EngineError::NotWaiting { run: id, state: run.state });
    }
    let (job, attempts) = (services.database.job(run.job_id), services.database.nodes(id, Payloads::Read));
    let (job, attempts) = futures::try_join!(job, attempts)?;
    // A run that knows when it goes on waits for answers, not for a word that it may.
    if job.state == JobState::AwaitingUser && by.kind != ActorKind::Human && run.wake_at.is_none() {
        return Err(EngineError::NeedsPerson { run: id, reason: job.status_reason });
    }
    let plan = Arc::new(compile(&run)?);
    let prepared = prepared::prepare(services, &plan, (&run, &job), by);
    let budget = Budget::of(services, &plan.workflow, (&run, &job), by, &attempts, parent).await?;
    let history = History::of(attempts);
    let mut driver = Driver::new(inner, plan, prepared, (history, budget), (run, job), (by, control));
    driver.claim().await?;
    drive(driver).await
}

/// Stores a job with its run already claimed, tells `begun` what became of that, and drives the run to its end. None
/// when there is nothing to drive: it was refused, or the idempotency key was used before.
pub(crate) async fn run(
    inner: &Arc<Inner>,
    submission: Submission,
    control: &Control,
    begun: impl FnOnce(Result<SubmittedJob, EngineError>) + Send,
) -> Result<Option<RunSummary>, EngineError> {
    let by = Actor::system();
    let (submitted, driver) = match begin(inner, submission, (&by, control)).await {
        Ok(begun) => begun,
        Err(error) => {
            begun(Err(error));
            return Ok(None);
        }
    };
    let id = submitted.run_id;
    begun(Ok(submitted));
    let Some(driver) = driver else { return Ok(None) };
    let (summary, again) = drive(driver).await?;
    if again { execute(inner, id, &by, control).await.map(Some) } else { Ok(Some(summary)) }
}

async fn begin<'a>(
    inner: &'a Arc<Inner>,
    submission: Submission,
    (by, control): (&Actor, &Control),
) -> Result<(SubmittedJob, Option<Driver<'a>>), EngineError> {
    let services = &inner.services;
    let new = submission::new(services, submission).await.map_err(|error| EngineError::Submit(Box::new(error)))?;
    let NewJob { job, run, plan, key, events, warnings } = new;
    let (job_id, run_id) = (job.job_id, run.run_id);
    let prepared = prepared::prepare(services, &plan, (&run, &job), by);
    let budget = Budget::of(services, &plan.workflow, (&run, &job), by, &[], None).await?;
    let first = (History::default(), budget);
    let mut driver = Driver::new(inner, plan, prepared, first, (run, job), (by, control));
    let (ids, driver) = match driver.begin(key.as_deref(), events).await? {
        None => ((job_id, run_id), Some(driver)),
        Some(job) => ((job.job_id, latest_run(services, &job).await?), None),
    };
    let (existing, (job_id, run_id)) = (driver.is_none(), ids);
    Ok((SubmittedJob { job_id, run_id, existing, warnings }, driver))
}

/// Drives a run that is claimed, and settles what its job proposes.
async fn drive(driver: Driver<'_>) -> Result<(RunSummary, bool), EngineError> {
    let services = &driver.inner.services;
    let (mut summary, again) = driver.drive().await?;
    if summary.job.state == JobState::AwaitingValidation {
        summary.job = crate::proposals::settle(services, summary.job.job_id).await?;
    }
    Ok((summary, again))
}
