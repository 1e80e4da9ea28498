//! `handshake jobs`: jobs, their runs, their steps' attempts.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use handshake_core::approval::ApprovalState;
use handshake_core::capability::{Extent, Grant, LONGEST_PERIOD, PermissionRequest};
use handshake_core::job::{JobKind, JobState};
use handshake_core::node::{NodeExecution, NodeState};
use handshake_core::run::RunState;
use handshake_core::workflow::Period;
use handshake_core::{JobId, StepId, Timestamp};
use handshake_engine::{Question, Voted};
use serde::Serialize;

use super::Context;
use super::artifacts::{ArtifactsArgs, artifacts};
use super::audit::filters;
use super::logs::{LogsArgs, logs};
use super::run::{seconds, start, to_the_end, tone, watch};
use crate::access::{Access, Need, with_parameters};
use crate::api::effects::PermittedEffect;
use crate::api::grants::PermissionHistory;
use crate::api::jobs::{Cancelled, JobDetails, JobList, Paused, RetryRequest, VoteRequest};
use crate::api::pins::Pinned;
use crate::api::proposals::{Decided, Verdict};
use crate::directory::canonical;
use crate::error::{CliError, Exit};
use crate::output::{ALERT, Output};

/// Attempts that are shown; JSON has all of them.
const MOST_ROWS: usize = 100;

/// `handshake jobs …`
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Lists jobs, newest first
    List(ListArgs),
    /// Shows a job with its runs and every attempt of its steps
    Show(ShowArgs),
    /// Lists the large values that a job's steps stored, or writes one to a file
    Artifacts(ArtifactsArgs),
    /// Prints what a job's steps have logged; `watch` follows what they log now
    Logs(LogsArgs),
    /// Says yes to what a job asks; it goes on when nobody else is needed
    Approve(ApproveArgs),
    /// Says no to what a job asks
    Reject(VoteArgs),
    /// Goes on with a job that was interrupted or waits for a person, and follows it to its end
    Resume(JobArgs),
    /// Tries a job again that failed or was cancelled; what it completed is not run again
    Retry(RetryArgs),
    /// Follows a job that is executed, to its end; Ctrl-C ends the following and not the job
    Watch(JobArgs),
    /// Lets the steps that run end and begins no more, until the job is resumed
    Pause(JobArgs),
    /// Cancels a job
    Cancel(JobArgs),
    /// Keeps a job, however old it gets
    Pin(JobArgs),
    /// Lets a job go once it is old enough
    Unpin(JobArgs),
}

/// A job.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The job
    id: JobId,
}

/// Arguments of `handshake jobs retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The job
    id: JobId,
    /// Run this step again, and every step that depends on it
    #[arg(long, value_name = "STEP")]
    from: Option<StepId>,
}

/// Arguments of `handshake jobs list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only jobs in this state, for example failed
    #[arg(long)]
    state: Option<JobState>,
    /// Only jobs of this kind, for example workflow_run
    #[arg(long)]
    kind: Option<JobKind>,
    /// Only jobs of this workflow: its name
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only jobs whose relative paths start from this folder
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Only jobs made at this time or later
    #[arg(long, value_parser = filters::time, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only jobs made before this time
    #[arg(long, value_parser = filters::time, value_name = "TIME")]
    to: Option<Timestamp>,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue behind this job
    #[arg(long, value_name = "ID")]
    after: Option<JobId>,
}

/// Arguments of `handshake jobs show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The job
    id: JobId,
    /// With the inputs and outputs of every attempt, in JSON
    #[arg(long)]
    payloads: bool,
}

/// Arguments of `handshake jobs approve` and `reject`.
#[derive(Debug, Args)]
pub(crate) struct VoteArgs {
    /// The job that asks
    id: JobId,
    /// The step that asks, when several do; with its position for a list: `STEP[0]`
    #[arg(long, value_name = "STEP", value_parser = question)]
    step: Option<Question>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
}

/// Arguments of `handshake jobs approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    vote: VoteArgs,
    /// Grant a capability for the next attempt of the step only
    #[arg(long, group = "extent")]
    once: bool,
    /// Grant a capability for the rest of this job, which is what happens unless
    /// something else is said
    #[arg(long, group = "extent")]
    job: bool,
    /// Grant a capability to all jobs of the same folder for so long, at most 24h
    #[arg(long = "for", group = "extent", value_name = "TIME", value_parser = period)]
    period: Option<Period>,
    /// Grant a capability to all jobs, until somebody takes it back
    #[arg(long, group = "extent")]
    until_revoked: bool,
}

impl ApproveArgs {
    /// How far the yes reaches; none when that is not said.
    fn extent(&self) -> Option<Extent> {
        let said = [
            self.once.then_some(Extent::Once),
            self.job.then_some(Extent::Job),
            self.period.map(Extent::For),
            self.until_revoked.then_some(Extent::UntilRevoked),
        ];
        said.into_iter().flatten().next()
    }
}

fn period(text: &str) -> Result<Period, String> {
    let period: Period =
        serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| error.to_string())?;
    if period > LONGEST_PERIOD || period.0 < std::time::Duration::from_secs(1) {
        return Err(format!("a grant holds for 1s to {LONGEST_PERIOD}; --until-revoked says more"));
    }
    Ok(period)
}

/// Does what was asked.
pub(crate) async fn jobs(context: &Context<'_>, command: &JobsCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        JobsCommand::Resume(args) => {
            return start(context, &format!("/api/v1/jobs/{}/resume?watch=true", args.id), &()).await;
        }
        JobsCommand::Retry(args) => {
            let request = RetryRequest { from: args.from.clone() };
            return start(context, &format!("/api/v1/jobs/{}/retry?watch=true", args.id), &request).await;
        }
        JobsCommand::Watch(args) => return watch(context, args.id).await,
        JobsCommand::Approve(args) => return vote(context, &args.vote, true, args.extent()).await,
        JobsCommand::Reject(args) => return vote(context, args, false, None).await,
        JobsCommand::Pause(args) => {
            let path = format!("/api/v1/jobs/{}/pause", args.id);
            let paused = ask(context, async |access| access.post::<Paused>(&path, &()).await).await?;
            said(output, &paused, "pausing: it waits once the steps that run have ended")?;
        }
        JobsCommand::Cancel(args) => {
            let path = format!("/api/v1/jobs/{}/cancel", args.id);
            let cancelled = ask(context, async |access| access.post::<Cancelled>(&path, &()).await).await?;
            if !cancelled.cancelled {
                let problem = format!("job `{}` has ended already", args.id);
                return Err(CliError::conflict(problem).hint(format!("handshake jobs show {}", args.id)));
            }
            said(output, &cancelled, "cancelled")?;
        }
        JobsCommand::Pin(args) => pin(context, args, true).await?,
        JobsCommand::Unpin(args) => pin(context, args, false).await?,
        JobsCommand::Artifacts(args) => artifacts(context, args).await?,
        JobsCommand::Logs(args) => logs(context, args).await?,
        JobsCommand::List(args) => {
            let path = with_parameters(
                "/api/v1/jobs",
                [
                    ("state", args.state.map(|state| state.to_string())),
                    ("kind", args.kind.map(|kind| kind.to_string())),
                    ("protocol_id", args.workflow.clone()),
                    ("workspace", args.workspace.as_deref().map(workspace).transpose()?),
                    ("since", args.from.map(|time| time.to_string())),
                    ("until", args.to.map(|time| time.to_string())),
                    ("limit", Some(args.limit.to_string())),
                    ("after", args.after.map(|id| id.to_string())),
                ],
            );
            show_list(output, &ask(context, async |access| access.get::<JobList>(&path).await).await?)?;
        }
        JobsCommand::Show(args) => {
            let path = format!("/api/v1/jobs/{}?payloads={}", args.id, args.payloads);
            show_details(output, &ask(context, async |access| access.get::<JobDetails>(&path).await).await?)?;
        }
    }
    Ok(Exit::Done)
}

/// Pins a job or lets go of it.
async fn pin(context: &Context<'_>, args: &JobArgs, pinned: bool) -> Result<(), CliError> {
    let (word, meaning) = if pinned { ("pin", "pinned: it is kept") } else { ("unpin", "not pinned any more") };
    let path = format!("/api/v1/jobs/{}/{word}", args.id);
    let answer = ask(context, async |access| access.post::<Pinned>(&path, &()).await).await?;
    said(context.output, &answer, meaning)
}

/// Answers a question, and follows the job if that lets it go on.
async fn vote(context: &Context<'_>, args: &VoteArgs, approve: bool, extent: Option<Extent>) -> Result<Exit, CliError> {
    let output = context.output;
    let request = VoteRequest { question: args.step.clone(), approve, extent, reason: args.reason.clone() };
    let access = context.access(Need::Jobs).await?;
    let details = match access.get::<JobDetails>(&format!("/api/v1/jobs/{}", args.id)).await {
        Ok(details) => details,
        Err(error) => return access.finish(output, Err(error)).await,
    };
    // A job whose run is over waits for a word about what it proposes, not for an answer.
    let over = details.runs.last().is_some_and(|run| run.run.state == RunState::Completed);
    if details.job.state == JobState::AwaitingUser && over && args.step.is_none() {
        let word = if approve { "accept" } else { "decline" };
        let verdict = Verdict { reason: args.reason.clone() };
        let decided = access.post::<Decided>(&format!("/api/v1/jobs/{}/{word}", args.id), &verdict).await;
        let decided = access.finish(output, decided).await?;
        said(output, &decided, &format!("{}: {}", decided.job.state, decided.job.status_reason))?;
        return Ok(Exit::Done);
    }
    let voted = access.post::<Voted>(&format!("/api/v1/jobs/{}/vote", args.id), &request).await;
    let voted = match voted {
        Ok(voted) => voted,
        Err(error) => return access.finish(output, Err(error)).await,
    };
    if let Some(grant) = &voted.grant {
        say_granted(output, grant);
    }
    let Some((_, job)) = voted.goes_on else {
        access.finish(output, Ok(())).await?;
        let (votes, quorum) = (voted.approval.votes.len(), voted.approval.quorum);
        said(output, &voted, &format!("counted: {votes} of {quorum} needed"))?;
        return Ok(if voted.approval.state == ApprovalState::Pending { Exit::Waiting } else { Exit::Done });
    };
    let lines = access.get_lines(&format!("/api/v1/jobs/{job}/watch")).await;
    to_the_end(context, access, lines, true).await
}

/// What a yes has led to, and how to undo it.
fn say_granted(output: &Output, grant: &Grant) {
    let Grant { grant_id, plugin, capability, terms, expires_at, .. } = grant;
    let reach = match terms.extent {
        Extent::Once => format!("the next attempt of step `{}`", terms.step_id),
        Extent::Job => format!("job {}", terms.job_id),
        Extent::For(_) => {
            let until = expires_at.map_or_else(String::new, |at| format!(", until {at}"));
            format!("every job in {}{until}", terms.workspace)
        }
        Extent::UntilRevoked => "every job".to_owned(),
    };
    output.note(&format!(
        "granted `{capability}` to plugin `{plugin}` for {reach}; `handshake capabilities revoke {grant_id}` takes it back"
    ));
    if terms.extent == Extent::UntilRevoked {
        output.note(
            "warning: nobody will be asked about this again, whatever the plugin does with it, until it is taken back",
        );
    }
}

fn question(text: &str) -> Result<Question, String> {
    let (step, index) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((step, index)) => (step, Some(index.parse().map_err(|_| format!("`{index}` is not a position"))?)),
        None => (text, None),
    };
    Ok(Question { step: StepId::new(step).map_err(|error| error.to_string())?, index })
}

/// Asks for something that needs no execution here.
/// A folder as runs name it.
fn workspace(folder: &Path) -> Result<String, CliError> {
    canonical(folder)?
        .into_os_string()
        .into_string()
        .map_err(|_| CliError::usage(format!("the name of folder `{}` is not UTF-8", folder.display())))
}

async fn ask<T>(
    context: &Context<'_>,
    request: impl AsyncFnOnce(&Access) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let access = context.access(Need::Answers).await?;
    let answer = request(&access).await;
    access.finish(context.output, answer).await
}

/// Shows an answer as JSON, or what it means.
fn said(output: &Output, answer: &impl Serialize, meaning: &str) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(answer);
    }
    output.note(meaning);
    Ok(())
}

fn show_list(output: &Output, list: &JobList) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(list);
    }
    if list.jobs.is_empty() {
        output.note("no jobs");
        return Ok(());
    }
    let rows = list.jobs.iter().map(|job| {
        let mark = if matches!(job.state, JobState::Failed | JobState::Poisoned) {
            format!("{ALERT} ")
        } else {
            String::new()
        };
        vec![
            job.job_id.to_string(),
            format!("{mark}{}", job.state),
            job.protocol_id.clone(),
            moment(&job.created_at.to_string()),
        ]
    });
    output.table(&["JOB", "STATE", "WORKFLOW", "CREATED"], rows.collect())?;
    if let Some(next) = list.next {
        output.note(&format!("more: handshake jobs list --after {next}"));
    }
    Ok(())
}

/// A time as month, day, hour and minute, which is what fits beside two names; JSON has all of it.
fn moment(time: &str) -> String {
    time.get(5..16).map_or_else(|| time.to_owned(), |short| short.replace('T', " ") + "Z")
}

fn show_details(output: &Output, details: &JobDetails) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(details);
    }
    let job = &details.job;
    output.field("job", &job.job_id.to_string())?;
    output.field("workflow", &job.protocol_id)?;
    output.field("kind", job.job_kind.as_str())?;
    output.toned_field("state", job.state.as_str(), tone(job.state))?;
    output.field("reason", &job.status_reason)?;
    if let Some(error) = &job.error_message {
        output.field("error", error)?;
    }
    output
        .field("profile", &format!("{}, {}, safety {}", job.capability_profile_id, job.access_mode, job.safety_mode))?;
    if job.is_pinned {
        output.field("pinned", "yes")?;
    }
    output.field("created", &job.created_at.to_string())?;
    output.field("time", &seconds(job.metrics.duration_ms))?;
    let metrics = &job.metrics;
    output.field("tokens", &format!("{} in, {} out", metrics.input_tokens, metrics.output_tokens))?;
    output.field("entities", &format!("{} read, {} written", metrics.entities_read, metrics.entities_written))?;
    output.field("trace", &job.trace_id.to_string())?;
    output.field("inputs", &job.job_inputs.to_string())?;
    if let Some(outputs) = &job.job_outputs {
        output.field("outputs", &outputs.to_string())?;
    }
    for asked in &details.questions {
        let node = asked.index.map_or_else(|| asked.step_id.to_string(), |at| format!("{}[{at}]", asked.step_id));
        let (votes, quorum) = (asked.votes.len(), asked.quorum);
        let who = if asked.approvers.is_empty() { "anybody".to_owned() } else { names(&asked.approvers) };
        let until = asked.expires_at.map_or_else(String::new, |at| format!(", until {at}"));
        output.field("asks", &format!("{node}: {} ({votes} of {quorum} by {who}{until})", asked.prompt))?;
        if let Some(request) = &asked.permission {
            show_request(output, request, details.history.iter().find(|told| told.approval_id == asked.approval_id))?;
        }
    }
    for effect in &details.effects {
        let PermittedEffect { step_id, capability, resource, count } = effect;
        output.field("did so far", &format!("{step_id}: {capability} {resource}{}", times(*count)))?;
    }
    if details.effects_omitted > 0 {
        output.field("did so far", &format!("and {} other things", details.effects_omitted))?;
    }
    if let Some(proposals) = &details.proposals {
        super::proposals::show(output, proposals)?;
    }
    for run in &details.runs {
        output.line("")?;
        output.line(&format!("run {} {}", run.run.run_id, run.run.state))?;
        let rows: Vec<_> = run.nodes.iter().take(MOST_ROWS).map(row).collect();
        if !rows.is_empty() {
            output.table(&["STEP", "ATTEMPT", "STATE", "PLUGIN", "TIME", "ERROR"], rows)?;
        }
        if run.nodes.len() > MOST_ROWS {
            output.line(&format!("and {} more; --output json has all", run.nodes.len() - MOST_ROWS))?;
        }
    }
    Ok(())
}

/// What a person should know before a capability is granted.
fn show_request(
    output: &Output,
    request: &PermissionRequest,
    history: Option<&PermissionHistory>,
) -> Result<(), CliError> {
    output.field("plugin", &format!("{}@{}", request.plugin, request.version))?;
    output.field("capability", request.asked.capability.as_str())?;
    output.field("resource", &request.asked.resource)?;
    output.field("because", request.reason.as_deref().unwrap_or("its manifest gives no reason"))?;
    output.field("asked by", &format!("the rule at {}", request.asked.rule))?;
    if let Some(PermissionHistory { asked, granted, used, .. }) = history {
        output.field("so far", &format!("asked {asked} times, granted {granted} times, used {used} times"))?;
    }
    let again = match request.effects.as_slice() {
        [] => "a yes runs the step again from its beginning; it had done nothing that lasts".to_owned(),
        done => format!("a yes runs the step again from its beginning, after it had done: {}", done.join(", ")),
    };
    output.field("again", &again)
}

fn times(count: u64) -> String {
    if count == 1 { String::new() } else { format!(", {count} times") }
}

fn names(people: &std::collections::BTreeSet<String>) -> String {
    people.iter().cloned().collect::<Vec<_>>().join(", ")
}

fn row(node: &NodeExecution) -> Vec<String> {
    let mark = if node.state == NodeState::Failed { format!("{ALERT} ") } else { String::new() };
    let took = node.finished_at.map_or_else(
        || "-".to_owned(),
        |end| seconds(u64::try_from(end.since(node.started_at).as_millis()).unwrap_or(u64::MAX)),
    );
    vec![
        node.node.to_string(),
        node.attempt.to_string(),
        format!("{mark}{}", node.state),
        node.plugin.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        took,
        node.error.as_ref().map_or_else(String::new, |error| format!("{}: {}", error.kind, error.message)),
    ]
}
