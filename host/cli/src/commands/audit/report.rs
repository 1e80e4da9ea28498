//! `handshake audit report`: all about a run in one page.

use std::path::PathBuf;

use clap::Args;
use handshake_core::RunId;
use serde::Serialize;

use super::filters;
use crate::access::Need;
use crate::commands::Context;
use crate::error::CliError;
use crate::page;
use crate::review::report::ReportData;
use crate::unfinished;

/// Arguments of `handshake audit report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The run; `handshake jobs show JOB` shows ids
    #[arg(value_parser = filters::run)]
    run: RunId,
    /// The file [default: RUN.html]
    #[arg(long, short = 'o', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
}

/// What was written.
#[derive(Serialize)]
struct Written {
    file: String,
    decisions: u64,
    bytes: u64,
}

/// Writes a report.
pub(super) async fn report(context: &Context<'_>, args: &ReportArgs) -> Result<(), CliError> {
    let output = context.output;
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.html", args.run)));
    unfinished::check(&file, args.force)?;
    let access = context.access(Need::Answers).await?;
    let data = access.get::<ReportData>(&format!("/api/v1/audit/reports/{}", args.run)).await;
    let data = access.finish(output, data).await?;
    let page = page::render(&data)?;
    unfinished::write_text(&file, args.force, &page).await?;
    let written =
        Written { file: file.display().to_string(), decisions: data.decisions.len() as u64, bytes: page.len() as u64 };
    if output.is_json() {
        return output.json(&written);
    }
    output.note(&format!("{} decisions in {}", written.decisions, written.file));
    Ok(())
}
