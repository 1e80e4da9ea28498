//! The operator's policy: read again.

use axum::Json;
use axum::extract::State;
use handshake_core::token::Right;

use super::{Answer, Caller, Host, Routes};
use crate::error::CliError;
use crate::policy_keeper::Reloaded;

pub(super) fn routes() -> Routes {
    Routes::new().post(Right::Own, "/policy/reload", "Puts a changed policy in force", reload)
}

/// Answers when the new policy is in force. It comes to that although whoever asked may go away.
async fn reload(State(host): Host, caller: Caller) -> Answer<Reloaded> {
    let reloaded = tokio::spawn(async move { host.policy_keeper.reload(caller.actor).await }).await;
    Ok(Json(reloaded.map_err(|error| CliError::internal("reading the policy again failed").because(&error))??))
}
