//! `handshake plugin`: builds, checks and lists plugins.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use crate::access::Need;
use crate::api::plugins::{CheckRequest, PluginCheck, PluginLine, PluginList, PluginState};
use crate::error::{CliError, Exit};
use crate::guest_build::{self, Built};
use crate::output::{ALERT, Output, Tone};

/// `handshake plugin …`
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Builds plugins from their Rust sources
    Build(BuildArgs),
    /// Checks a plugin: manifest, component, and whether they agree
    Check(CheckArgs),
    /// Lists the plugins that workflows can use
    List,
}

/// Arguments of `handshake plugin build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Folders with plugin.toml and Cargo.toml
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
}

/// Arguments of `handshake plugin check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A plugin's folder, or its id with or without version
    #[arg(value_name = "DIR|ID")]
    plugin: String,
}

#[derive(Serialize)]
struct BuiltList {
    built: Vec<Built>,
}

/// Builds, checks or lists.
pub(crate) async fn plugin(context: &Context<'_>, command: &PluginCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        PluginCommand::Build(args) => {
            let built = guest_build::build(&args.folders, output.quiet || output.is_json(), &|text| output.note(text))?;
            show_built(output, built)?;
        }
        PluginCommand::Check(args) => {
            let request = request(&args.plugin)?;
            let access = context.access(Need::Answers).await?;
            let checked = access.post::<PluginCheck>("/v1/plugins/check", &request).await;
            return show_check(output, &access.finish(output, checked).await?);
        }
        PluginCommand::List => {
            let access = context.access(Need::Answers).await?;
            let list = access.get::<PluginList>("/v1/plugins").await;
            show_list(output, &access.finish(output, list).await?)?;
        }
    }
    Ok(Exit::Done)
}

fn show_built(output: &Output, built: Vec<Built>) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(&BuiltList { built });
    }
    if output.quiet {
        return Ok(());
    }
    let rows = built.iter().map(|plugin| {
        vec![plugin.id.clone(), plugin.version.clone(), kilobytes(plugin.bytes), plugin.folder.display().to_string()]
    });
    output.table(&["PLUGIN", "VERSION", "SIZE", "FOLDER"], rows.collect())
}

fn kilobytes(bytes: u64) -> String {
    format!("{} kB", bytes.div_ceil(1000))
}

/// What looks like a path is one; a bare name is an id, even if there is a folder of that name.
fn request(plugin: &str) -> Result<CheckRequest, CliError> {
    let path = Path::new(plugin);
    if !plugin.contains('/') && plugin != "." && plugin != ".." {
        return Ok(CheckRequest::Uses(plugin.to_owned()));
    }
    let folder = path
        .canonicalize()
        .map_err(|error| CliError::usage(format!("cannot open folder `{plugin}`")).because(&error))?;
    // The built form lies in `dist`; its plugin is the folder around it.
    let folder = if folder.ends_with("dist") { folder.parent().map(Path::to_owned).unwrap_or(folder) } else { folder };
    Ok(CheckRequest::Folder(folder))
}

fn show_check(output: &Output, check: &PluginCheck) -> Result<Exit, CliError> {
    let exit = if check.problems.is_empty() { Exit::Done } else { Exit::Usage };
    if output.is_json() {
        output.json(check)?;
        return Ok(exit);
    }
    let plugin = &check.plugin;
    if !output.quiet {
        output.field("plugin", &format!("{}@{}", plugin.id, plugin.version.as_deref().unwrap_or("?")))?;
        output.field("does", plugin.description.as_deref().unwrap_or(""))?;
        output.field("may ask for", &plugin.capabilities.join(", "))?;
        output.field("sha256", plugin.component_sha256.as_deref().unwrap_or(""))?;
        for note in &check.notes {
            output.toned_line("note", Tone::Odd, note)?;
        }
    }
    for problem in &check.problems {
        output.toned_line("wrong", Tone::Bad, problem)?;
    }
    if check.problems.is_empty() && !output.quiet {
        output.toned_line("ok", Tone::Good, "manifest and component agree")?;
    }
    Ok(exit)
}

fn show_list(output: &Output, list: &PluginList) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(list);
    }
    if list.plugins.is_empty() {
        output.note("no plugins; `plugins` in handshake.toml names the folders that are searched");
        return Ok(());
    }
    output.table(&["PLUGIN", "VERSION", "STATE", "MAY ASK FOR", "WHAT"], list.plugins.iter().map(row).collect())
}

fn row(plugin: &PluginLine) -> Vec<String> {
    let state = match plugin.state {
        PluginState::Ready => "ready".to_owned(),
        PluginState::NotBuilt => "not built".to_owned(),
        PluginState::Broken => format!("{ALERT} broken"),
    };
    let what = plugin.problem.clone().or_else(|| plugin.description.clone()).unwrap_or_default();
    vec![
        plugin.id.clone(),
        plugin.version.clone().unwrap_or_else(|| "-".to_owned()),
        state,
        plugin.capabilities.join(", "),
        what,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_an_id_and_a_path_is_a_folder() {
        assert!(matches!(request("summarize@0.1"), Ok(CheckRequest::Uses(id)) if id == "summarize@0.1"));
        assert!(matches!(request("."), Ok(CheckRequest::Folder(folder)) if folder.is_absolute()));
        assert!(request("./no-such-folder").is_err());
    }
}
