//! `handshake recorder`: how the flight recorder's files stand, and looking after them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use handshake_recorder::{Compaction, KeeperStatus, Rebuilt, SealReport, probe_file, run_query};
use serde_json::json;

use super::Context;
use crate::access::Need;
use crate::api::recorder::PublicKeyDocument;
use crate::error::{CliError, Exit};
use crate::output::{Output, Tone};

/// `handshake recorder …`
#[derive(Debug, Subcommand)]
pub(crate) enum RecorderCommand {
    /// Shows what is recorded and sealed, how large the files are, and what is
    /// wrong with them
    Status,
    /// Seals everything that is recorded into a signed file, without waiting until
    /// there is enough of it
    Seal,
    /// Returns space that dropped events have left in the recorder's DuckDB file
    Compact,
    /// Makes the recorder's DuckDB file anew from segments and database; the old
    /// one is kept under another name
    Rebuild,
    /// Prints the public key that checks what the recorder has signed
    PublicKey,
    /// Tries out whether a DuckDB file can be opened
    #[command(hide = true)]
    Probe(ProbeArgs),
    /// Answers one query over copies of the record, which it reads from standard
    /// input
    #[command(hide = true)]
    Query,
}

/// Arguments of `recorder probe`, which the host calls itself.
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// The file
    path: PathBuf,
}

/// Does what was asked.
pub(crate) async fn recorder(context: &Context<'_>, command: &RecorderCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        RecorderCommand::Status => show_status(output, &get(context, "/api/v1/recorder").await?)?,
        RecorderCommand::Seal => show_seal(output, &post(context, "/api/v1/recorder/seal").await?)?,
        RecorderCommand::Compact => show_compaction(output, &post(context, "/api/v1/recorder/compact").await?)?,
        RecorderCommand::Rebuild => show_rebuilt(output, &post(context, "/api/v1/recorder/rebuild").await?)?,
        RecorderCommand::PublicKey => {
            let key: PublicKeyDocument = get(context, "/api/v1/recorder/public-key").await?;
            if output.is_json() { output.json(&key)? } else { output.lines(&key.public_key)? }
        }
        RecorderCommand::Probe(args) => {
            let problem = probe_file(&args.path);
            if !problem.is_empty() {
                output.line(&problem)?;
            }
        }
        RecorderCommand::Query => run_query(&mut std::io::stdin().lock(), &mut std::io::stdout().lock()),
    }
    Ok(Exit::Done)
}

async fn get<T: serde::de::DeserializeOwned>(context: &Context<'_>, path: &str) -> Result<T, CliError> {
    let access = context.access(Need::Answers).await?;
    let answer = access.get(path).await;
    access.finish(context.output, answer).await
}

async fn post<T: serde::de::DeserializeOwned>(context: &Context<'_>, path: &str) -> Result<T, CliError> {
    let access = context.access(Need::Answers).await?;
    let answer = access.post(path, &json!({})).await;
    access.finish(context.output, answer).await
}

fn kilobytes(bytes: u64) -> String {
    format!("{} kB", bytes.div_ceil(1000))
}

fn show_status(output: &Output, status: &KeeperStatus) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(status);
    }
    let projection = &status.projection;
    let recorded = projection.recorded.unwrap_or(projection.projected);
    output.field("host", &projection.host.to_string())?;
    if recorded < projection.first {
        output.field("events", "none yet")?;
    } else {
        output.field("events", &format!("{} to {recorded}", projection.first))?;
    }
    let lag = recorded.saturating_sub(projection.projected);
    output.field("queries", &format!("up to {}, {lag} to come", projection.projected))?;
    output.field("duckdb", &kilobytes(projection.bytes))?;
    output.field("outbox", &format!("{} not sealed", status.unsealed))?;
    let segments =
        &format!("{} with {} events, {}", status.segments, status.segment_records, kilobytes(status.segment_bytes));
    output.field("segments", segments)?;
    let sealed = status.last_sealed_at.map_or_else(|| "never".to_owned(), |time| time.to_string());
    output.field("last seal", &sealed)?;
    match &status.head {
        Some(head) => output.field("head", &format!("{}, signed {}", head.seq, head.signed_at))?,
        None => output.toned_field("head", "not published yet", Tone::Odd)?,
    }
    output.field("head file", &status.head_file)?;
    output.field("key", &status.key_id.to_string())?;
    let days = status.retention_days;
    output.field("kept", &format!("{days} {}", if days == 1 { "day" } else { "days" }))?;
    if let Some(dropped) = &status.tombstone {
        output.field("dropped", &format!("{} to {}, at {}", dropped.from, dropped.to, dropped.dropped_at))?;
    }
    if let Some(file) = &projection.set_aside {
        output.field("set aside", file)?;
    }
    for problem in &status.problems {
        output.toned_field("problem", problem, Tone::Bad)?;
    }
    Ok(())
}

fn show_seal(output: &Output, report: &SealReport) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(report);
    }
    match report.records {
        0 => output.line(&format!("everything is sealed, up to event {}", report.sealed_to)),
        records => output.line(&format!(
            "sealed {records} {} in {} {}, up to event {}",
            plural(records, "event"),
            report.segments,
            plural(report.segments, "segment"),
            report.sealed_to
        )),
    }
}

fn show_compaction(output: &Output, done: &Compaction) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(done);
    }
    output.line(&format!("{} before, {} now", kilobytes(done.before), kilobytes(done.after)))
}

fn show_rebuilt(output: &Output, rebuilt: &Rebuilt) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(rebuilt);
    }
    output.line(&format!("rebuilt with {} {}", rebuilt.records, plural(rebuilt.records, "event")))?;
    for gap in &rebuilt.gaps {
        let gap = format!("{} to {}: {}", gap.first, gap.last, gap.reason);
        output.toned_line("missing", Tone::Bad, &gap)?;
    }
    if let Some(file) = &rebuilt.set_aside {
        output.note(&format!("the old file is kept as {file}"));
    }
    Ok(())
}

fn plural(number: u64, one: &str) -> String {
    if number == 1 { one.to_owned() } else { format!("{one}s") }
}
