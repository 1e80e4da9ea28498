//! Driving one run to its end: what is ready (`progress`, pure), attempts, retries, checkpoints and the loop.

mod attempt;
mod child;
mod driver;
mod ending;
mod envelope;
mod history;
mod prepared;
mod progress;
mod retry;
mod starting;
mod waiting;

pub(crate) use envelope::Envelope;
pub(crate) use prepared::compile;

use std::sync::Arc;

use handshake_core::RunId;
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{AiJob, JobState};
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::storage::Payloads;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::engine::{EngineError, Inner};

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
    loop {
        let (summary, again) = once(inner, id, by, control).await?;
        if !again {
            return Ok(summary);
        }
    }
}

async fn once(inner: &Arc<Inner>, id: RunId, by: &Actor, control: &Control) -> Result<(RunSummary, bool), EngineError> {
    let services = &inner.services;
    let run = services.database.run(id).await?;
    if !matches!(run.state, RunState::Queued | RunState::Stalled | RunState::Waiting) {
        return Err(EngineError::NotWaiting { run: id, state: run.state });
    }
    let job = services.database.job(run.job_id).await?;
    // A run that knows when it goes on waits for answers, not for a word that it may.
    if job.state == JobState::AwaitingUser && by.kind != ActorKind::Human && run.wake_at.is_none() {
        return Err(EngineError::NeedsPerson { run: id, reason: job.status_reason });
    }
    let plan = compile(&run)?;
    let prepared = prepared::prepare(services, &plan, &run, &job);
    let history = history::History::of(services.database.nodes(id, Payloads::Read).await?);
    driver::Driver::new(inner, plan, prepared, history, (run, job), (by, control)).drive().await
}
