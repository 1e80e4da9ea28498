//! `handshake plugin build`: compiles plugins, checks what came out, and does both again when a source changes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{check, kilobytes};
use crate::access::Need;
use crate::api::plugins::{CheckRequest, PluginCheck};
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::guest_build::{self, Built, Sources};
use crate::output::Output;
use crate::signals::Signals;

/// How often sources are looked at. A person who saves a file does not wait for longer than that.
const LOOK: Duration = Duration::from_millis(300);

/// Arguments of `handshake plugin build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Folders with plugin.toml and Cargo.toml, step.py or step.js
    #[arg(value_name = "DIR", default_value = ".")]
    folders: Vec<PathBuf>,
    /// Builds again whenever a source changes, until it is interrupted
    #[arg(long)]
    watch: bool,
    /// Leaves out what `plugin check` looks at afterwards
    #[arg(long)]
    no_check: bool,
}

#[derive(Serialize)]
struct BuiltList {
    built: Vec<Built>,
    /// What `plugin check` says of each; empty when that was left out.
    checks: Vec<PluginCheck>,
}

/// Builds, once or until it is interrupted.
pub(crate) async fn build(context: &Context<'_>, args: &BuildArgs) -> Result<Exit, CliError> {
    if !args.watch {
        return build_once(context, args).await;
    }
    let mut signals = Signals::new()?;
    loop {
        let before = Sources::of(&args.folders);
        // What is wrong with a source is said, and mended in the next round.
        if let Err(error) = build_once(context, args).await {
            context.output.error(&error);
        }
        context.output.note("waiting for changes; Ctrl-C ends this");
        while Sources::of(&args.folders) == before {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = signals.next() => return Ok(Exit::Done),
            }
        }
    }
}

async fn build_once(context: &Context<'_>, args: &BuildArgs) -> Result<Exit, CliError> {
    let output = context.output;
    let built = guest_build::build(&args.folders, output.quiet || output.is_json(), &|text| output.note(text))?;
    if !output.is_json() {
        show_built(output, &built)?;
    }
    let checks = if args.no_check { Vec::new() } else { check_built(context, &built).await? };
    let exit = if checks.iter().all(|check| check.problems.is_empty()) { Exit::Done } else { Exit::Usage };
    if output.is_json() {
        output.json(&BuiltList { built, checks })?;
        return Ok(exit);
    }
    for checked in &checks {
        check::show_findings(output, checked)?;
    }
    Ok(exit)
}

/// Checks what was built, with the data directory of the project: a component that is compiled now need not be compiled
/// again when a workflow uses it.
async fn check_built(context: &Context<'_>, built: &[Built]) -> Result<Vec<PluginCheck>, CliError> {
    let access = context.access(Need::Answers).await?;
    let checked = async {
        let mut checks = Vec::with_capacity(built.len());
        for plugin in built {
            let folder = plugin.folder.parent().unwrap_or(&plugin.folder).to_owned();
            checks.push(access.post::<PluginCheck>("/api/v1/plugins/check", &CheckRequest::Folder(folder)).await?);
        }
        Ok(checks)
    }
    .await;
    access.finish(context.output, checked).await
}

fn show_built(output: &Output, built: &[Built]) -> Result<(), CliError> {
    if output.quiet {
        return Ok(());
    }
    let rows = built.iter().map(|plugin| {
        vec![plugin.id.clone(), plugin.version.clone(), kilobytes(plugin.bytes), plugin.folder.display().to_string()]
    });
    output.table(&["PLUGIN", "VERSION", "SIZE", "FOLDER"], rows.collect())
}
