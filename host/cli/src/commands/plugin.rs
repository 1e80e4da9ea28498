//! `handshake plugin`: makes, builds, checks, runs, tests, adds, lists and removes plugins.

mod add;
mod build;
mod check;
mod new;
mod run;
mod test;

use clap::Subcommand;

use super::Context;
use crate::access::Need;
use crate::api::plugins::{PluginLine, PluginList, PluginState};
use crate::error::{CliError, Exit};
use crate::output::{ALERT, Output};

/// `handshake plugin …`
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Makes a small plugin to start from
    New(new::NewArgs),
    /// Builds plugins from their sources, and checks them
    Build(build::BuildArgs),
    /// Checks a plugin: manifest, component, and whether they agree
    Check(check::CheckArgs),
    /// Runs one step without a workflow
    Run(run::RunArgs),
    /// Runs a plugin's tests: the real runtime and gate, with fakes behind them
    Test(test::TestArgs),
    /// Adds a plugin to the data directory, once somebody has seen what it asks for
    Add(add::AddArgs),
    /// Lists the plugins that workflows can use
    List,
    /// Removes a plugin from the data directory
    Remove(add::RemoveArgs),
}

/// Makes, builds, checks, runs, tests, adds, lists or removes.
pub(crate) async fn plugin(context: &Context<'_>, command: &PluginCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        PluginCommand::New(args) => return new::new(context, args),
        PluginCommand::Build(args) => return build::build(context, args).await,
        PluginCommand::Check(args) => return check::check(context, args).await,
        PluginCommand::Run(args) => return run::run(context, args).await,
        PluginCommand::Test(args) => return test::test(context, args).await,
        PluginCommand::Add(args) => return add::add(context, args).await,
        PluginCommand::Remove(args) => return add::remove(context, args).await,
        PluginCommand::List => {
            let access = context.access(Need::Answers).await?;
            let list = access.get::<PluginList>("/api/v1/plugins").await;
            show_list(output, &access.finish(output, list).await?)?;
        }
    }
    Ok(Exit::Done)
}

fn kilobytes(bytes: u64) -> String {
    format!("{} kB", bytes.div_ceil(1000))
}

fn show_list(output: &Output, list: &PluginList) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(list);
    }
    if list.plugins.is_empty() {
        output.note("no plugins; `plugins` in handshake.toml names the folders that are searched");
        return Ok(());
    }
    output.table(&["PLUGIN", "VERSION", "STATE", "FROM", "MAY ASK FOR", "WHAT"], list.plugins.iter().map(row).collect())
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
        if plugin.added { "added" } else { "project" }.to_owned(),
        plugin.capabilities.join(", "),
        what,
    ]
}
