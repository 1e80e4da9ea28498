//! `handshake jobs logs`: what the steps of a job have logged.

use clap::Args;
use handshake_core::node::AttemptLog;
use handshake_core::{JobId, RunId, StepId};

use super::Context;
use crate::access::{Access, Need, with_parameters};
use crate::api::logs::LogPage;
use crate::error::CliError;
use crate::output::Output;

/// Arguments of `handshake jobs logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The job
    id: JobId,
    /// Of an earlier run, which `jobs show` lists, instead of the latest
    #[arg(long)]
    run: Option<RunId>,
    /// Of this step alone
    #[arg(long)]
    step: Option<StepId>,
}

/// Prints all of it, attempt by attempt.
pub(super) async fn logs(context: &Context<'_>, args: &LogsArgs) -> Result<(), CliError> {
    let access = context.access(Need::Answers).await?;
    let printed = print(&access, context.output, args).await;
    access.finish(context.output, printed).await
}

async fn print(access: &Access, output: &Output, args: &LogsArgs) -> Result<(), CliError> {
    let path = format!("/api/v1/jobs/{}/logs", args.id);
    let (run, step) = (args.run.map(|run| run.to_string()), args.step.as_ref().map(ToString::to_string));
    let mut after = None;
    loop {
        let parameters = [("run", run.clone()), ("step", step.clone()), ("after", after.map(|n: u32| n.to_string()))];
        let page: LogPage = access.get(&with_parameters(&path, parameters)).await?;
        if page.logs.is_empty() && after.is_none() && !output.is_json() {
            output.note("no attempt that has ended has logged anything; jobs watch shows what running ones say");
        }
        for log in &page.logs {
            if output.is_json() {
                output.json_line(log)?;
            } else {
                attempt(output, log)?;
            }
        }
        after = page.next;
        if after.is_none() || output.is_closed() {
            return Ok(());
        }
    }
}

fn attempt(output: &Output, log: &AttemptLog) -> Result<(), CliError> {
    let which = if log.attempt > 1 { format!(" attempt {}", log.attempt) } else { String::new() };
    log.lines
        .iter()
        .try_for_each(|said| output.line(&format!("{} {}{which}: {}: {}", said.at, log.node, said.level, said.line)))
}
