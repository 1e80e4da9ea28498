//! Driving one run to its end: what is ready (`progress`, pure), attempts, retries, checkpoints and the loop.

mod attempt;
mod driver;
mod ending;
mod envelope;
mod prepared;
mod progress;
mod retry;
mod starting;

pub(crate) use envelope::Envelope;

use std::sync::Arc;

use handshake_core::RunId;
use handshake_core::job::AiJob;
use handshake_core::run::{RunState, WorkflowRun};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

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

fn bounded_to(mut message: String, most: usize) -> String {
    if message.len() > most {
        let end = (0..=most.saturating_sub(3)).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

pub(crate) async fn execute(
    inner: &Arc<Inner>,
    id: RunId,
    cancel: CancellationToken,
) -> Result<RunSummary, EngineError> {
    let services = &inner.services;
    let run = services.database.run(id).await?;
    if run.state != RunState::Queued {
        return Err(EngineError::NotQueued { run: id, state: run.state });
    }
    let job = services.database.job(run.job_id).await?;
    let plan = prepared::compile(&run)?;
    let prepared = prepared::prepare(services, &plan, &run, &job);
    driver::Driver::new(inner, plan, prepared, run, job).drive(cancel).await
}
