//! `handshake backup` and `handshake restore`.

use std::fs::File;
use std::path::PathBuf;

use clap::Args;
use handshake_core::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::access::Need;
use crate::api::backup::Released;
use crate::backup;
use crate::error::{CliError, Exit};
use crate::unfinished;

/// Arguments of `handshake backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write
    file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
}

/// Arguments of `handshake restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup; the data directory must not be there
    #[arg(required_unless_present = "release")]
    file: Option<PathBuf>,
    /// Let what was restored go on by itself: unfinished jobs, timers, triggers
    #[arg(long, conflicts_with = "file")]
    release: bool,
}

#[derive(Serialize)]
struct Made {
    file: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Back {
    data_dir: String,
    taken_at: Timestamp,
    files: usize,
}

/// Writes a backup.
pub(crate) async fn backup(context: &Context<'_>, args: &BackupArgs) -> Result<Exit, CliError> {
    // What can be told without the data directory is told before it is opened.
    unfinished::check(&args.file, args.force)?;
    let access = context.access(Need::Answers).await?;
    let fill = async |target: &mut File| access.post_for_file("/api/v1/backup", &json!({}), target, &args.file).await;
    let written = unfinished::write(&args.file, args.force, fill).await;
    let (_, bytes) = access.finish(context.output, written).await?;
    let made = Made { file: args.file.display().to_string(), bytes };
    let output = context.output;
    if output.is_json() {
        output.json(&made)?;
        return Ok(Exit::Done);
    }
    output.note("it holds the host's keys, and what jobs read and wrote: keep it as safe as the data directory");
    output.field("file", &made.file)?;
    output.field("bytes", &made.bytes.to_string())?;
    Ok(Exit::Done)
}

/// Makes a data directory from a backup, or lets one go on.
pub(crate) async fn restore(context: &Context<'_>, args: &RestoreArgs) -> Result<Exit, CliError> {
    let output = context.output;
    let Some(file) = args.file.as_deref() else {
        let access = context.access(Need::Answers).await?;
        let released = access.post::<Released>("/api/v1/restored/release", &json!({})).await;
        let released = access.finish(output, released).await?;
        if output.is_json() {
            output.json(&released)?
        } else {
            output.line("what was restored goes on")?
        }
        return Ok(Exit::Done);
    };
    let settings = context.settings()?;
    let Some(database) = settings.database.url.file() else {
        return Err(CliError::usage("the database is PostgreSQL, which a backup does not hold")
            .hint("restore it with pg_restore, and the data directory's files with it"));
    };
    let list = backup::restore(file, &settings.data_dir, database)?;
    let back =
        Back { data_dir: settings.data_dir.display().to_string(), taken_at: list.taken_at, files: list.files.len() };
    if output.is_json() {
        output.json(&back)?;
        return Ok(Exit::Done);
    }
    output.field("data directory", &back.data_dir)?;
    output.field("taken at", &back.taken_at.to_string())?;
    output.note(
        "what happened after that is not known here. Unfinished jobs and triggers wait: look what became of them, resume or \
         cancel jobs one by one, then run `handshake restore --release`",
    );
    Ok(Exit::Done)
}
