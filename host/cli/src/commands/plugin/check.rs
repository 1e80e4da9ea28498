//! `handshake plugin check`: manifest, component, and whether they agree.

use std::path::Path;

use clap::Args;

use super::kilobytes;
use crate::access::Need;
use crate::api::plugins::{CheckRequest, PluginCheck};
use crate::commands::Context;
use crate::directory::canonical;
use crate::error::{CliError, Exit};
use crate::output::{Output, Tone};

/// Arguments of `handshake plugin check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A plugin's folder, or its id with or without version
    #[arg(value_name = "DIR|ID")]
    plugin: String,
}

/// Checks a plugin.
pub(crate) async fn check(context: &Context<'_>, args: &CheckArgs) -> Result<Exit, CliError> {
    let request = request(&args.plugin)?;
    let access = context.access(Need::Answers).await?;
    let checked = access.post::<PluginCheck>("/api/v1/plugins/check", &request).await;
    show(context.output, &access.finish(context.output, checked).await?)
}

/// What looks like a path is one; a bare name is an id, even if there is a folder of that name.
pub(super) fn request(plugin: &str) -> Result<CheckRequest, CliError> {
    if !plugin.contains('/') && plugin != "." && plugin != ".." {
        return Ok(CheckRequest::Uses(plugin.to_owned()));
    }
    Ok(CheckRequest::Folder(canonical(Path::new(plugin))?))
}

fn show(output: &Output, check: &PluginCheck) -> Result<Exit, CliError> {
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
        output.field("size", &kilobytes(check.component_bytes))?;
        output.field("sha256", plugin.component_sha256.as_deref().unwrap_or(""))?;
        for import in &check.imports {
            let needs = if import.axes.is_empty() { String::new() } else { format!("  {}", import.axes.join(", ")) };
            output.field("imports", &format!("{}@{}{needs}", import.interface, import.version))?;
        }
    }
    show_findings(output, check)?;
    Ok(exit)
}

/// What a person should know, or mend.
pub(super) fn show_findings(output: &Output, check: &PluginCheck) -> Result<(), CliError> {
    if !output.quiet {
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
    Ok(())
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
