//! `handshake jobs artifacts`: the large values that a job's steps stored.

use std::fs::File;
use std::path::PathBuf;

use clap::Args;
use handshake_core::{Digest, JobId};
use serde::Serialize;

use super::Context;
use crate::access::Need;
use crate::api::artifacts::ArtifactList;
use crate::error::CliError;
use crate::unfinished;

/// Arguments of `handshake jobs artifacts`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactsArgs {
    /// The job
    id: JobId,
    /// The artifact to write to a file: its SHA-256; without it they are listed
    #[arg(requires = "file")]
    artifact: Option<Digest>,
    /// The file
    #[arg(long, short = 'o', value_name = "FILE", requires = "artifact")]
    file: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "file")]
    force: bool,
}

#[derive(Serialize)]
struct Written {
    file: String,
    bytes: u64,
}

/// Lists them, or writes one to a file.
pub(super) async fn artifacts(context: &Context<'_>, args: &ArtifactsArgs) -> Result<(), CliError> {
    let output = context.output;
    let path = format!("/api/v1/jobs/{}/artifacts", args.id);
    let (Some(artifact), Some(file)) = (args.artifact, &args.file) else {
        let access = context.access(Need::Answers).await?;
        let list = access.get::<ArtifactList>(&path).await;
        let list = access.finish(output, list).await?;
        if output.is_json() {
            return output.json(&list);
        }
        if list.artifacts.is_empty() {
            output.note("the job has no artifacts");
            return Ok(());
        }
        let rows =
            list.artifacts.iter().map(|one| vec![one.id.to_string(), one.size.to_string(), one.media_type.clone()]);
        return output.table(&["SHA-256", "BYTES", "MEDIA TYPE"], rows.collect());
    };
    // What can be told without the data directory is told before it is opened.
    unfinished::check(file, args.force)?;
    let access = context.access(Need::Answers).await?;
    let path = format!("{path}/{artifact}");
    let fill = async |target: &mut File| access.get_for_file(&path, target, file).await;
    let written = unfinished::write(file, args.force, fill).await;
    let (_, bytes) = access.finish(output, written).await?;
    let written = Written { file: file.display().to_string(), bytes };
    if output.is_json() {
        return output.json(&written);
    }
    output.field("file", &written.file)?;
    output.field("bytes", &written.bytes.to_string())
}
