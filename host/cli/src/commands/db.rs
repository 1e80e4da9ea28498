//! `handshake db`: how the databases stand.

use clap::Subcommand;

use super::Context;
use crate::access::Need;
use crate::api::database::{DatabaseStatus, RecorderStatus};
use crate::error::{CliError, Exit};
use crate::output::Output;

/// `handshake db …`
#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Shows size, schema version and how far the flight recorder is
    Status,
}

/// Shows the status.
pub(crate) async fn db(context: &Context<'_>, command: &DbCommand) -> Result<Exit, CliError> {
    let DbCommand::Status = command;
    let access = context.access(Need::Answers).await?;
    let status = access.get::<DatabaseStatus>("/v1/db").await;
    let status = access.finish(context.output, status).await?;
    show(context.output, &status)?;
    Ok(Exit::Done)
}

fn show(output: &Output, status: &DatabaseStatus) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(status);
    }
    let statistics = &status.statistics;
    output.field("directory", &status.data_dir.display().to_string())?;
    output.field("owner", &format!("process {}", status.owner_pid))?;
    output.field("backend", &statistics.backend)?;
    output
        .field("schema", &status.migration_version.map_or_else(|| "none".to_owned(), |version| version.to_string()))?;
    output.field(
        "jobs",
        &format!("{} jobs, {} runs, {} attempts", statistics.jobs, statistics.runs, statistics.node_executions),
    )?;
    output.field("events", &statistics.outbox_events.to_string())?;
    output.field("size", &format!("{} kB", statistics.bytes.div_ceil(1000)))?;
    output.field("last event", &statistics.last_recorded_at.map_or_else(|| "-".to_owned(), |time| time.to_string()))?;
    match &status.recorder {
        RecorderStatus::Open(recorder) => {
            let recorded = recorder.recorded.unwrap_or(recorder.projected);
            let lag = recorded.saturating_sub(recorder.projected);
            output.field(
                "recorder",
                &format!(
                    "{} of {recorded} records can be queried, {lag} to come, {} kB",
                    recorder.projected,
                    recorder.bytes.div_ceil(1000)
                ),
            )?;
            if let Some(problem) = &recorder.problem {
                output.field("problem", problem)?;
            }
            if let Some(file) = &recorder.set_aside {
                output.field("set aside", file)?;
            }
        }
        RecorderStatus::Failed(error) => output.field("recorder", &format!("cannot be opened: {}", error.message))?,
    }
    Ok(())
}
