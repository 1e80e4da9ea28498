//! Backups of the data directory, and letting one that was made from a backup go on.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use handshake_core::token::Right;
use serde::{Deserialize, Serialize};

use super::{Answer, Caller, Host, Refusal, Routes, response};
use crate::backup;
use crate::error::CliError;

pub(super) fn routes() -> Routes {
    Routes::new()
        .post(Right::Own, "/backup", "What the data directory holds, as it is now, in one ZIP file", make)
        .post(Right::Own, "/restored/release", "Lets a data directory that was made from a backup go on", release)
}

/// Answers with the file. That it is made is on record, and so in the backup itself.
async fn make(State(host): Host, caller: Caller) -> Result<Response, Refusal> {
    let file = backup::write(&host, caller.actor).await?;
    Ok(([(header::CONTENT_TYPE, "application/zip")], response::file(file)).into_response())
}

/// That it goes on.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Released {
    /// Jobs and triggers go on by themselves from now on.
    pub(crate) released: bool,
}

async fn release(State(host): Host, caller: Caller) -> Answer<Released> {
    if !host.is_held() {
        return Err(Refusal(
            CliError::conflict("nothing is held: this data directory is from no backup, or was let go on already")
                .hint("`handshake restore FILE` makes one from a backup"),
        ));
    }
    host.record_system(caller.actor, "restored_released", "what was restored goes on by itself".to_owned()).await?;
    host.release()?;
    Ok(Json(Released { released: true }))
}
