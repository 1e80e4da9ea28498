//! `handshake run`: executes a workflow to its end and shows how it goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use handshake_core::JobId;
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::{NodeExecution, NodeState};
use handshake_engine::{RunUpdate, SubmittedJob};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Context;
use crate::access::{Access, Lines, Need};
use crate::api::jobs::{Cancelled, Ended, JobDetails, SubmitRequest};
use crate::api::workflows::WorkflowText;
use crate::error::{CliError, Exit};
use crate::output::{Output, Tone};
use crate::progress::Progress;
use crate::signals::Signals;

/// The largest workflow file, in bytes; the engine takes no more.
const MAX_WORKFLOW_BYTES: u64 = 1 << 20;
/// How often a submission is tried again while its owner is about to end.
const MOST_OWNERS: u32 = 5;

/// Arguments of `handshake run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The workflow: YAML, TOML or JSON
    file: PathBuf,
    /// An input of the workflow; may be repeated
    #[arg(short, long = "input", value_name = "NAME=VALUE", value_parser = parse_input)]
    input: Vec<(String, String)>,
    /// Hand it to the process that serves, and do not wait for its end
    #[arg(long)]
    detach: bool,
    /// The same key gives the same job: nothing is run twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) fn parse_input(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Reads a workflow file.
pub(super) fn read_workflow(path: &Path) -> Result<WorkflowText, CliError> {
    let failed =
        |error: &std::io::Error| CliError::usage(format!("cannot read workflow `{}`", path.display())).because(error);
    let metadata = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        return Err(CliError::usage(format!("`{}` is not a file", path.display())).hint("name a workflow file"));
    }
    if metadata.len() > MAX_WORKFLOW_BYTES {
        return Err(CliError::usage(format!(
            "workflow `{}` has {} bytes; at most {MAX_WORKFLOW_BYTES} are read",
            path.display(),
            metadata.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        CliError::usage(format!("{}:{line}: the file is not UTF-8 text", path.display())).hint("save it as UTF-8")
    })?;
    Ok(WorkflowText { file: path.display().to_string(), text })
}

/// Runs the workflow.
pub(crate) async fn run(context: &Context<'_>, args: &RunArgs) -> Result<Exit, CliError> {
    let mut text_inputs = BTreeMap::new();
    for (name, value) in &args.input {
        if text_inputs.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::usage(format!("input `{name}` is given twice")));
        }
    }
    let request = SubmitRequest {
        workflow: read_workflow(&args.file)?,
        inputs: BTreeMap::new(),
        text_inputs,
        base: Some(
            std::env::current_dir()
                .map_err(|error| CliError::usage("cannot find the current folder").because(&error))?,
        ),
        idempotency_key: args.idempotency_key.clone(),
    };
    if args.detach {
        return detach(context, &request).await;
    }
    start(context, "/api/v1/jobs?watch=true", &request).await
}

/// Hands a job to the process that serves.
async fn detach(context: &Context<'_>, request: &SubmitRequest) -> Result<Exit, CliError> {
    let access = context.access(Need::Jobs).await?;
    if matches!(access, Access::Owner(_)) {
        let nobody = CliError::usage("nobody serves this data directory, so nobody would run the job");
        let nobody = nobody.hint("start `handshake serve`, or run it without --detach");
        return access.finish(context.output, Err(nobody)).await;
    }
    let submitted: SubmittedJob = access.post("/api/v1/jobs", request).await?;
    if context.output.is_json() {
        context.output.json(&submitted)?;
    } else {
        context.output.line(&submitted.job_id.to_string())?;
        context.output.note(&format!("handshake jobs watch {} follows it", submitted.job_id));
    }
    Ok(Exit::Done)
}

/// Starts something that runs, and follows it to its end.
pub(super) async fn start(context: &Context<'_>, path: &str, request: &impl Serialize) -> Result<Exit, CliError> {
    let (access, lines) = post(context, path, request).await?;
    to_the_end(context, access, lines, true).await
}

/// Follows a job that somebody else started.
pub(super) async fn watch(context: &Context<'_>, job: JobId) -> Result<Exit, CliError> {
    let access = context.access(Need::Answers).await?;
    let lines = access.get_lines(&format!("/api/v1/jobs/{job}/watch")).await;
    to_the_end(context, access, lines, false).await
}

pub(super) async fn to_the_end(
    context: &Context<'_>,
    access: Access,
    lines: Result<Lines, CliError>,
    own: bool,
) -> Result<Exit, CliError> {
    let result = match lines {
        Ok(lines) => follow(context.output, &access, lines, own).await,
        Err(error) => Err(error),
    };
    let details = access.finish(context.output, result).await?;
    show_result(context.output, &details)?;
    outcome(&details)
}

/// Asks. An owner that was about to end when it was asked takes no more jobs; its successor does.
pub(super) async fn post(
    context: &Context<'_>,
    path: &str,
    request: &impl Serialize,
) -> Result<(Access, Result<Lines, CliError>), CliError> {
    let mut tried = 0;
    loop {
        let access = context.access(Need::Jobs).await?;
        tried += 1;
        match access.post_for_lines(path, request).await {
            Err(error) if error.code == "busy" && tried < MOST_OWNERS && matches!(access, Access::Remote(_)) => {}
            lines => return Ok((access, lines)),
        }
    }
}

/// One line of the stream behind the first, but for the last.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Update(Box<RunUpdate>),
    Failed { error: CliError },
}

/// Shows the updates until the run is over, then asks how it ended. A signal cancels one's own job, and ends the
/// watching of another's.
pub(super) async fn follow(
    output: &Output,
    access: &Access,
    mut lines: Lines,
    own: bool,
) -> Result<JobDetails, CliError> {
    let not_understood =
        |error: serde_json::Error| CliError::internal("a line of the local API cannot be understood").because(&error);
    let first = lines.next().await.ok_or_else(|| CliError::internal("the local API gave no answer"))??;
    let submitted: SubmittedJob = serde_json::from_slice(&first).map_err(not_understood)?;
    let job = format!("/api/v1/jobs/{}", submitted.job_id);
    if submitted.existing {
        output.note(&format!("the idempotency key was used before, for job {}", submitted.job_id));
    }
    submitted.warnings.iter().for_each(|warning| output.note(warning));
    let mut progress = Progress::new(output);
    let mut signals = Signals::new()?;
    let mut ended = None;
    loop {
        tokio::select! {
            line = lines.next() => {
                let Some(line) = line else { break };
                let line = line?;
                // It names every node; an enum without a tag would be read into a tree first.
                if line.starts_with(br#"{"ended":"#) {
                    ended = Some(serde_json::from_slice::<Ended>(&line).map_err(not_understood)?.ended);
                    continue;
                }
                match serde_json::from_slice(&line).map_err(not_understood)? {
                    Line::Update(update) => progress.show(&update),
                    Line::Failed { error } => {
                        progress.clear();
                        return Err(error);
                    }
                }
            }
            () = signals.next() => {
                if !own {
                    break;
                }
                progress.say("cancelling the job; once more ends at once");
                access.post::<Cancelled>(&format!("{job}/cancel"), &()).await?;
            }
        }
    }
    progress.clear();
    match ended {
        Some(details) => Ok(details),
        None => access.get(&job).await,
    }
}

fn show_result(output: &Output, details: &JobDetails) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(details);
    }
    let job = &details.job;
    if output.quiet {
        return show_outputs(output, job, "");
    }
    output.toned_field("state", job.state.as_str(), tone(job.state))?;
    if job.state == JobState::AwaitingUser {
        output.field("reason", &job.status_reason)?;
    }
    if job.job_outputs.as_ref().and_then(Value::as_object).is_some_and(|outputs| !outputs.is_empty()) {
        output.line("outputs")?;
        show_outputs(output, job, "  ")?;
    }
    output.field("time", &seconds(job.metrics.duration_ms))?;
    output.field("job", &job.job_id.to_string())?;
    output.field("next", &format!("handshake jobs show {}", job.job_id))?;
    let asks = !details.questions.is_empty() || details.runs.last().is_some_and(|run| run.run.state.is_final());
    if job.state == JobState::AwaitingUser && asks {
        output.field("", &format!("handshake jobs approve {}, or reject", job.job_id))?;
    }
    output.field("", &format!("handshake audit matrix --job {}", job.job_id))?;
    output.field("", &format!("handshake audit decisions --job {}", job.job_id))
}

fn show_outputs(output: &Output, job: &AiJob, indent: &str) -> Result<(), CliError> {
    for (name, value) in job.job_outputs.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        output.field(&format!("{indent}{name}"), &value)?;
    }
    Ok(())
}

/// The tone of a job's state.
pub(super) fn tone(state: JobState) -> Tone {
    match state {
        JobState::Completed => Tone::Good,
        JobState::Failed | JobState::Poisoned => Tone::Bad,
        JobState::Queued | JobState::Running | JobState::Cancelled => Tone::Faint,
        _ => Tone::Odd,
    }
}

/// Milliseconds for a person.
pub(super) fn seconds(milliseconds: u64) -> String {
    if milliseconds < 1000 {
        format!("{milliseconds} ms")
    } else {
        format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
    }
}

/// How the process ends: by the job's state, and for a failed job by whether a denial was the reason.
pub(super) fn outcome(details: &JobDetails) -> Result<Exit, CliError> {
    let job = &details.job;
    let reason = || job.error_message.clone().unwrap_or_else(|| job.status_reason.clone());
    match job.state {
        JobState::Completed | JobState::CompletedWithIssues => Ok(Exit::Done),
        JobState::AwaitingUser | JobState::AwaitingValidation | JobState::Stalled => Ok(Exit::Waiting),
        JobState::Queued | JobState::Running => {
            Err(CliError::internal(format!("job {} is still `{}`", job.job_id, job.state))
                .hint("handshake jobs list shows how it stands"))
        }
        JobState::Failed | JobState::Cancelled | JobState::Poisoned => {
            let nodes = details.runs.last().map(|run| run.nodes.as_slice()).unwrap_or_default();
            // A failed attempt that a later one made good does not count; attempts come in order.
            let last: BTreeMap<_, _> = nodes.iter().map(|node| (&node.node, node.attempt)).collect();
            let is_last = |node: &NodeExecution| last.get(&node.node) == Some(&node.attempt);
            let is_denied = |node: &NodeExecution| node.error.as_ref().is_some_and(|error| error.kind == "denied");
            let denied = nodes.iter().any(|node| node.state == NodeState::Failed && is_denied(node) && is_last(node));
            let exit = if denied { Exit::Denied } else { Exit::JobFailed };
            let message = format!("job {} {}: {}", job.job_id, job.state, reason());
            Err(CliError {
                exit,
                code: if denied { "denied" } else { "job_failed" }.to_owned(),
                message,
                why: Vec::new(),
                hint: Some(format!("handshake jobs show {}", job.job_id)),
            })
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
