//! Triggers: adding, looking, removing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use handshake_core::storage::{Page, StorageError};
use handshake_core::token::Right;
use handshake_core::trigger::{Trigger, TriggerRef};
use handshake_core::{TriggerId, TriggerName};
use handshake_engine::{InputValue, Submission, TriggerError};
use serde::{Deserialize, Serialize};

use super::jobs::base_of;
use super::workflows::WorkflowText;
use super::{Answer, Caller, Document, Host, Parameters, Refusal, Routes};
use crate::error::CliError;

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::See, "/triggers", "Triggers, newest first", list)
        .post(Right::Operate, "/triggers", "Runs a workflow at the times that it says", add)
        .get(Right::See, "/triggers/{name}", "A trigger", show)
        .post(Right::Operate, "/triggers/{name}/remove", "Removes a trigger", remove)
}

/// A trigger to be added.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddRequest {
    /// The workflow, which says when.
    pub(crate) workflow: WorkflowText,
    /// The trigger's name; by default one that is made of the workflow's.
    #[serde(default)]
    pub(crate) name: Option<TriggerName>,
    /// Inputs as text, converted to the types that the workflow declares.
    #[serde(default)]
    pub(crate) text_inputs: BTreeMap<String, String>,
    /// Folder that relative mount paths start from; absolute.
    #[serde(default)]
    pub(crate) base: Option<PathBuf>,
}

/// Triggers, newest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct TriggerList {
    /// The triggers.
    pub(crate) triggers: Vec<Trigger>,
    /// What to give as `after` for the next page.
    pub(crate) next: Option<TriggerId>,
}

impl From<TriggerError> for CliError {
    fn from(error: TriggerError) -> Self {
        match error {
            TriggerError::Submit(error) => error.into(),
            TriggerError::Storage(StorageError::Conflict(problem)) => {
                Self::conflict(problem).hint("take another --name, or `handshake triggers remove` it first")
            }
            TriggerError::Storage(error @ StorageError::NotFound { .. }) => unknown(error),
            TriggerError::Storage(error) => error.into(),
            TriggerError::Recorder(error) => error.into(),
            TriggerError::NoSchedule { .. } => Self::bad_input(&error)
                .hint("add to the file: `trigger: { every: 15m }`, or `trigger: { cron: \"0 6 * * *\" }`, in UTC"),
            TriggerError::NoName { .. } => Self::bad_input(&error).hint("say one with --name"),
            TriggerError::TimeIsGiven => Self::bad_input(&error).hint("leave it out"),
        }
    }
}

fn unknown(error: StorageError) -> CliError {
    CliError::from(error).hint("handshake triggers list shows those that there are")
}

fn reference(text: &str) -> Result<TriggerRef, CliError> {
    text.parse().map_err(|error| CliError::bad_input(&error).hint("handshake triggers list shows the names"))
}

async fn list(State(host): Host, Parameters(page): Parameters<Page<TriggerId>>) -> Answer<TriggerList> {
    let triggers = host.database.triggers(&page).await?;
    let full = triggers.len() >= usize::try_from(page.size()).unwrap_or(usize::MAX);
    let next = triggers.last().filter(|_| full).map(|trigger| trigger.trigger_id);
    Ok(Json(TriggerList { triggers, next }))
}

async fn show(State(host): Host, Path(name): Path<String>) -> Answer<Trigger> {
    match host.database.trigger(&reference(&name)?).await {
        Ok(trigger) => Ok(Json(trigger)),
        Err(error @ StorageError::NotFound { .. }) => Err(Refusal(unknown(error))),
        Err(error) => Err(error.into()),
    }
}

async fn add(
    State(host): Host,
    caller: Caller,
    Document(request): Document<AddRequest>,
) -> Result<(StatusCode, Json<Trigger>), Refusal> {
    let base = base_of(&host, &caller, request.base)?;
    let inputs = request.text_inputs.into_iter().map(|(name, text)| (name, InputValue::Text(text)));
    let submission = Submission {
        source: request.workflow.into(),
        inputs: inputs.collect(),
        base,
        idempotency_key: None,
        actor: caller.actor,
    };
    let trigger = host.engine.add_trigger(request.name, submission).await?;
    host.trigger_added.notify_one();
    Ok((StatusCode::CREATED, Json(trigger)))
}

async fn remove(State(host): Host, caller: Caller, Path(name): Path<String>) -> Answer<Trigger> {
    Ok(Json(host.engine.remove_trigger(&reference(&name)?, &caller.actor).await?))
}
