//! The local API: what every command that needs the data directory speaks, in its own process or through the
//! owner's socket. Its JSON is what `--output json` prints.

pub(crate) mod audit;
pub(crate) mod bundle;
mod caller;
pub(crate) mod database;
pub(crate) mod documents;
pub(crate) mod grants;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod pins;
pub(crate) mod plugins;
pub(crate) mod policy;
pub(crate) mod proposals;
pub(crate) mod recorder;
mod request;
mod response;
pub(crate) mod server;
pub(crate) mod tokens;
pub(crate) mod triggers;
pub(crate) mod workflows;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::map_response_with_state;
use axum::routing::get;
use axum::{Json, Router};
use handshake_core::token::Right;
use serde::{Deserialize, Serialize};

pub(crate) use caller::{Caller, Routes};
pub(crate) use request::{Document, IdempotencyKey, Parameters};
pub(crate) use response::Refusal;

use crate::error::CliError;
use crate::host::HostState;

/// The largest request, in bytes.
pub(crate) const MAX_REQUEST_BYTES: usize = 4 << 20;

/// What every handler works with.
pub(crate) type Host = State<Arc<HostState>>;
/// What every handler answers.
pub(crate) type Answer<T> = Result<Json<T>, Refusal>;

/// The whole API. Whoever lets a request in adds the [`Caller`].
pub(crate) fn router(state: Arc<HostState>) -> Router {
    let routes = Routes::new()
        .on(Right::See, "/health", get(health))
        .merge(jobs::routes())
        .merge(proposals::routes())
        .merge(pins::routes())
        .merge(grants::routes())
        .merge(documents::routes())
        .merge(audit::routes())
        .merge(bundle::routes())
        .merge(recorder::routes())
        .merge(models::routes())
        .merge(plugins::routes())
        .merge(policy::routes())
        .merge(database::routes())
        .merge(workflows::routes())
        .merge(triggers::routes())
        .merge(tokens::routes());
    routes
        .below("/api/v1")
        .fallback(|| async { Refusal(CliError::not_found("there is no such resource")) })
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(map_response_with_state(state.redaction.clone(), response::say))
        .with_state(state)
}

/// Who answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Health {
    /// The process.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// Whether it takes jobs; a process that only looks something up does not.
    pub(crate) accepts_jobs: bool,
}

async fn health(State(host): Host) -> Json<Health> {
    Json(Health {
        pid: std::process::id(),
        version: crate::VERSION.to_owned(),
        accepts_jobs: host.executions.accepts(),
    })
}
