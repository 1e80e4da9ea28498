//! `handshake audit suggest`: the smallest rights that would have been enough.

use std::path::{Path, PathBuf};

use clap::Args;
use handshake_core::RunId;

use super::filters;
use crate::access::Need;
use crate::commands::Context;
use crate::error::CliError;
use crate::output::Output;
use crate::review::suggest::{SuggestRequest, Suggested, SuggestedGrants};
use crate::unfinished;

/// Arguments of `handshake audit suggest`.
#[derive(Debug, Args)]
pub(crate) struct SuggestArgs {
    /// The runs; `handshake jobs show JOB` shows ids
    #[arg(required = true, value_parser = filters::run, value_name = "RUN")]
    runs: Vec<RunId>,
    /// Let through what was denied, too
    #[arg(long)]
    with_denied: bool,
    /// Write manifests, workflows and policy into this folder; without it they are
    /// only shown
    #[arg(long, short = 'o', value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Suggests.
pub(super) async fn suggest(context: &Context<'_>, args: &SuggestArgs) -> Result<(), CliError> {
    let output = context.output;
    let access = context.access(Need::Answers).await?;
    let request = SuggestRequest { runs: args.runs.clone(), with_denied: args.with_denied };
    let suggested = access.post::<Suggested>("/api/v1/audit/suggest", &request).await;
    let suggested = access.finish(output, suggested).await?;
    if let Some(folder) = &args.folder {
        write(&suggested, folder, args.force).await?;
    }
    if output.is_json() {
        return output.json(&suggested);
    }
    show(output, &suggested, args.folder.as_deref())
}

fn show(output: &Output, suggested: &Suggested, folder: Option<&Path>) -> Result<(), CliError> {
    output.table(&["WORKFLOW", "STEP", "PLUGIN", "GRANTED", "ENOUGH"], suggested.grants.iter().map(row).collect())?;
    suggested.notes.iter().for_each(|note| output.note(note));
    for file in &suggested.files {
        match folder {
            Some(folder) => output.note(&format!("wrote {}", folder.join(&file.path).display())),
            None if file.path == "policy.toml" => {
                output.line("")?;
                output.lines(&file.text)?;
            }
            None => {}
        }
    }
    if folder.is_none() {
        output.note("-o DIR writes this policy, the manifests and the workflows as files");
    }
    Ok(())
}

fn row(grants: &SuggestedGrants) -> Vec<String> {
    let ids = |ids: &[String]| if ids.is_empty() { "-".to_owned() } else { ids.join(", ") };
    let now = ids(&grants.now);
    let enough = if grants.now == grants.enough { "the same".to_owned() } else { ids(&grants.enough) };
    vec![grants.workflow.clone(), grants.step.clone(), grants.plugin.clone(), now, enough]
}

async fn write(suggested: &Suggested, folder: &Path, force: bool) -> Result<(), CliError> {
    let paths: Vec<_> = suggested.files.iter().map(|file| folder.join(&file.path)).collect();
    // All or nothing, as far as that can be told beforehand.
    paths.iter().try_for_each(|path| unfinished::check(path, force))?;
    for (file, path) in suggested.files.iter().zip(&paths) {
        std::fs::create_dir_all(path.parent().unwrap_or(folder))
            .map_err(|error| CliError::file("write", path, &error))?;
        unfinished::write_text(path, force, &file.text).await?;
    }
    Ok(())
}
