//! The local API: what every command that needs the data directory speaks, in its own process or through the
//! owner's socket. Its JSON is what `--output json` prints.

pub(crate) mod artifacts;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod bundle;
mod caller;
pub(crate) mod database;
mod describe;
pub(crate) mod documents;
pub(crate) mod effects;
pub(crate) mod grants;
pub(crate) mod jobs;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod models;
pub(crate) mod openapi;
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
use axum::{Json, Router};

pub(crate) use caller::{Caller, Forbidden, Routes};
pub(crate) use request::{Document, IdempotencyKey, Parameters};
pub(crate) use response::{Refusal, said};

use crate::error::CliError;
use crate::host::HostState;

/// The largest request, in bytes.
pub(crate) const MAX_REQUEST_BYTES: usize = 4 << 20;

/// The type of an answer that comes line by line, each a JSON document.
pub(crate) const LINES: &str = "application/x-ndjson";

/// The type of server-sent events.
pub(crate) const EVENTS: &str = "text/event-stream";

/// What every handler works with.
pub(crate) type Host = State<Arc<HostState>>;
/// What every handler answers.
pub(crate) type Answer<T> = Result<Json<T>, Refusal>;

/// Where all of it is.
const PREFIX: &str = "/api/v1";

/// Every route.
fn everything() -> Routes {
    Routes::new()
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
        .merge(artifacts::routes())
        .merge(logs::routes())
        .merge(backup::routes())
        .merge(workflows::routes())
        .merge(triggers::routes())
        .merge(tokens::routes())
        .merge(live::routes())
        .merge(openapi::routes())
}

/// The whole API. Whoever lets a request in adds the [`Caller`].
pub(crate) fn router(state: Arc<HostState>) -> Router {
    everything()
        .below(PREFIX)
        .fallback(|| async { Refusal(CliError::not_found("there is no such resource")) })
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(map_response_with_state(state.redaction.clone(), response::say))
        .with_state(state)
}
