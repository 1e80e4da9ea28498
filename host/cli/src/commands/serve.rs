//! `handshake serve`: owns the data directory, executes what is submitted, and goes on with what can.

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::access::{Access, Need};
use crate::api::Health;
use crate::error::{CliError, Exit};
use crate::signals::Signals;

/// Arguments of `handshake serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {}

/// What is said once it serves.
#[derive(Debug, Serialize)]
struct Serving {
    pid: u32,
    data_dir: std::path::PathBuf,
}

/// Serves until a signal comes.
pub(crate) async fn serve(context: &Context<'_>, _: &ServeArgs) -> Result<Exit, CliError> {
    let output = context.output;
    let settings = context.settings()?;
    // Before anything is owned, so that no signal finds it half open.
    let mut signals = Signals::new()?;
    let access = Access::open(&settings, Need::Jobs, output).await?;
    let host = match access {
        Access::Owner(host) => host,
        Access::Remote(_) => {
            let health: Health = access.get("/api/v1/health").await?;
            let problem = format!("process {} has the data directory and takes jobs already", health.pid);
            return Err(
                CliError::busy(problem).hint("other commands reach it by themselves; end it first to serve here")
            );
        }
    };
    let serving = Serving { pid: std::process::id(), data_dir: settings.data_dir.clone() };
    if output.is_json() {
        output.json(&serving)?;
    } else {
        output.note(&format!(
            "process {} serves {}; other commands reach it by themselves, Ctrl-C ends it",
            serving.pid,
            serving.data_dir.display()
        ));
    }
    signals.next().await;
    output.note("ending: steps that run end first, and everything else waits for the next process");
    tokio::select! {
        left = host.leave() => left?,
        () = signals.next() => {}
    }
    Ok(Exit::Done)
}
