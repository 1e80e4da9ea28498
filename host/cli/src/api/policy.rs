//! The operator's policy: read again.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};

use super::{Answer, Host};
use crate::error::CliError;
use crate::host::{HostState, person};
use crate::policy_keeper::Reloaded;

pub(super) fn routes() -> Router<Arc<HostState>> {
    Router::new().route("/v1/policy/reload", post(reload))
}

/// Answers when the new policy is in force. It comes to that although whoever asked may go away.
async fn reload(State(host): Host) -> Answer<Reloaded> {
    let reloaded = tokio::spawn(async move { host.policy_keeper.reload(person()).await }).await;
    Ok(Json(reloaded.map_err(|error| CliError::internal("reading the policy again failed").because(&error))??))
}
