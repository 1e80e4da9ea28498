//! `handshake audit bundle`: what is known about a job in one file.

use std::fs::File;
use std::io::Seek;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use handshake_core::event::RedactionMode;
use handshake_core::{BundleId, Digest, JobId};
use serde::Serialize;

use super::filters;
use crate::access::{Access, Need};
use crate::api::bundle::{BUNDLE_ID, BUNDLE_SHA256, BundleRequest};
use crate::commands::Context;
use crate::error::CliError;
use crate::{hashed, unfinished};

/// Arguments of `handshake audit bundle`.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// The job
    #[arg(value_parser = filters::job)]
    job: JobId,
    /// The file [default: JOB.zip]
    #[arg(long, short = 'o', value_name = "FILE")]
    file: Option<PathBuf>,
    /// How much it shows
    #[arg(long, value_enum, default_value = "SAFE_DEFAULT")]
    mode: Mode,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
}

/// How much a bundle shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// No payloads; nothing that a detector finds, host paths included
    #[value(name = "SAFE_DEFAULT", alias = "safe_default")]
    SafeDefault,
    /// Also inputs, outputs and the workflow, without what a detector finds
    #[value(name = "WORKSPACE", alias = "workspace")]
    Workspace,
    /// Everything, exactly; for this host's own operator alone
    #[value(name = "FULL_LOCAL", alias = "full_local")]
    FullLocal,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Bundle {
    file: String,
    bundle_id: BundleId,
    sha256: Digest,
    bytes: u64,
}

/// Writes a bundle.
pub(super) async fn bundle(context: &Context<'_>, args: &BundleArgs) -> Result<(), CliError> {
    let output = context.output;
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.zip", args.job)));
    // What can be told without the data directory is told before it is opened.
    unfinished::check(&file, args.force)?;
    let access = context.access(Need::Answers).await?;
    let written = write(&access, args, &file).await;
    let written = access.finish(output, written).await?;
    if args.mode == Mode::FullLocal {
        output
            .note("the bundle holds exact inputs and outputs, secrets among them if there are any; do not pass it on");
    }
    if output.is_json() {
        return output.json(&written);
    }
    output.field("bundle", &written.bundle_id.to_string())?;
    output.field("file", &written.file)?;
    output.field("sha256", &written.sha256.to_string())
}

async fn write(access: &Access, args: &BundleArgs, file: &std::path::Path) -> Result<Bundle, CliError> {
    let mode = match args.mode {
        Mode::SafeDefault => RedactionMode::SafeDefault,
        Mode::Workspace => RedactionMode::Workspace,
        Mode::FullLocal => RedactionMode::FullLocal,
    };
    let path = format!("/api/v1/audit/bundles/{}", args.job);
    let fill = async |target: &mut File| {
        let headers = access.post_for_file(&path, &BundleRequest { mode }, target, file).await?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let missing = || CliError::internal("the local API does not say which bundle this is");
        let bundle_id = header(BUNDLE_ID).and_then(|id| id.parse().ok()).ok_or_else(missing)?;
        let sha256 = header(BUNDLE_SHA256).and_then(|sum| sum.parse().ok()).ok_or_else(missing)?;
        // A stream that ended early is no bundle.
        let content = target.rewind().and_then(|()| hashed::digest(&*target));
        if content.map_err(|error| CliError::file("write", file, &error))? != sha256 {
            return Err(CliError::internal("the bundle did not arrive as it was sent").hint("try again"));
        }
        Ok((bundle_id, sha256))
    };
    let ((bundle_id, sha256), bytes) = unfinished::write(file, args.force, fill).await?;
    Ok(Bundle { file: file.display().to_string(), bundle_id, sha256, bytes })
}
