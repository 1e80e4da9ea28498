//! `handshake plugin add` and `remove`: plugins in the data directory, added once somebody has seen what they ask for.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::kilobytes;
use crate::access::Need;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::output::{Output, Tone};
use crate::plugins::added::{AddRequest, Offer, RemoveRequest, Removed};

/// Arguments of `handshake plugin add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// A built plugin: its folder, its plugin.toml, or its component beside plugin.toml
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// Add it without asking
    #[arg(long, short)]
    yes: bool,
}

/// Arguments of `handshake plugin remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The plugin, with its version if several were added
    #[arg(value_name = "ID[@VERSION]")]
    plugin: String,
}

/// Shows what a plugin asks for, asks whether it is to be added, and adds exactly what was shown.
pub(crate) async fn add(context: &Context<'_>, args: &AddArgs) -> Result<Exit, CliError> {
    let output = context.output;
    let path = args.path.canonicalize().map_err(|error| CliError::file("open", &args.path, &error))?;
    let access = context.access(Need::Answers).await?;
    let added = async {
        let offer: Offer = access.post("/api/v1/plugins/offer", &json!({ "path": path })).await?;
        show(output, &offer)?;
        if let Some(problem) = offer.problems.first() {
            let mut error = CliError::usage(format!("plugin `{}@{}` is not added: {problem}", offer.id, offer.version));
            error.why = offer.problems.iter().skip(1).cloned().collect();
            return Err(error.code("invalid_plugin"));
        }
        if !offer.already_added && !args.yes {
            agree(output, &offer)?;
        }
        let request = AddRequest { path, manifest_sha256: offer.manifest_sha256 };
        access.post::<Offer>("/api/v1/plugins/add", &request).await
    };
    let added = added.await;
    let offer = access.finish(output, added).await?;
    if output.is_json() {
        output.json(&offer)?;
    } else if !output.quiet {
        let done = if offer.already_added { "is there already" } else { "added" };
        output.toned_line("ok", Tone::Good, &format!("{}@{} {done}", offer.id, offer.version))?;
    }
    Ok(Exit::Done)
}

/// What somebody is to agree to.
fn show(output: &Output, offer: &Offer) -> Result<(), CliError> {
    if output.is_json() || output.quiet {
        return Ok(());
    }
    output.field("plugin", &format!("{}@{}", offer.id, offer.version))?;
    output.field("does", &offer.description)?;
    output.field("size", &kilobytes(offer.component_bytes))?;
    output.field("sha256", &offer.component_sha256.to_string())?;
    output.field("manifest", &offer.manifest_sha256.to_string())?;
    if offer.asks.is_empty() {
        output.field("asks for", "nothing")?;
    }
    for asked in &offer.asks {
        let new = if asked.new { "  (new)" } else { "" };
        output.field("asks for", &format!("{}  {}{new}", asked.id, asked.reason))?;
    }
    if let Some(earlier) = &offer.earlier {
        let more = offer.asks.iter().filter(|asked| asked.new).count();
        output.field("beyond", &format!("{more} more than {}@{earlier}", offer.id))?;
    }
    for limit in &offer.wider {
        output.field("wider", limit)?;
    }
    offer.notes.iter().try_for_each(|note| output.toned_line("note", Tone::Odd, note))
}

/// Asks the person at the terminal.
fn agree(output: &Output, offer: &Offer) -> Result<(), CliError> {
    let label = format!("{}@{}", offer.id, offer.version);
    let person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !person || output.is_json() || output.quiet {
        return Err(CliError::usage(format!("plugin `{label}` is not added: nobody has agreed to it"))
            .code("not_confirmed")
            .hint("look at what it asks for, then run the command again with --yes"));
    }
    let mut stderr = std::io::stderr().lock();
    let mut answer = String::new();
    let read = write!(stderr, "add {label}? [y/N] ")
        .and_then(|()| stderr.flush())
        .and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    read.map_err(|error| CliError::usage("cannot ask at the terminal").because(&error))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(CliError::usage(format!("plugin `{label}` is not added")).code("not_confirmed").hint("nothing was changed"))
}

/// Removes an added plugin.
pub(crate) async fn remove(context: &Context<'_>, args: &RemoveArgs) -> Result<Exit, CliError> {
    let output = context.output;
    let access = context.access(Need::Answers).await?;
    let request = RemoveRequest { plugin: args.plugin.clone() };
    let removed = access.post::<Removed>("/api/v1/plugins/remove", &request).await;
    let removed = access.finish(output, removed).await?;
    if output.is_json() {
        output.json(&removed)?;
    } else if !output.quiet {
        output.toned_line("ok", Tone::Good, &format!("{} removed", removed.plugin))?;
    }
    Ok(Exit::Done)
}
