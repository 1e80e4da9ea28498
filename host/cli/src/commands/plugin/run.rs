//! `handshake plugin run`: one step without a workflow, under the same gate and on the same record.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use handshake_core::event::Outcome;
use handshake_core::job::AccessMode;
use handshake_core::mount::MountAccess;
use handshake_core::node::NodeError;
use handshake_core::step::GUEST_BACKTRACE;
use serde::Serialize;
use serde_json::{Map, Value};

use super::check;
use crate::api::jobs::JobDetails;
use crate::commands::{Context, run};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::plugins::single::{Call, Recorded, SingleMount, SingleRequest};

/// The largest input, in bytes: it travels within a request of 4 MiB.
const MAX_INPUT_BYTES: u64 = 3 << 20;
/// Decisions that are shown; all of them are in the record.
const MOST_DECISIONS: usize = 200;

/// Arguments of `handshake plugin run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A plugin's folder, or its id with or without version
    #[arg(value_name = "DIR|ID")]
    plugin: String,
    /// The input: a JSON object, or @FILE with one, or @- for standard input
    #[arg(long, short, value_name = "JSON|@FILE", default_value = "{}")]
    input: String,
    /// What it may do, for example fs.read:docs; may be repeated
    #[arg(long, short, value_name = "CAPABILITY")]
    grant: Vec<String>,
    /// A folder that it sees as /NAME, for reading unless `:write` follows; may be repeated
    #[arg(long, short, value_name = "NAME=DIR[:write]", value_parser = parse_mount)]
    mount: Vec<SingleMount>,
    /// The capability profile of its job; integrator unless it is said
    #[arg(long)]
    profile: Option<String>,
    /// What its job may do with the world: analysis_only, preview_only, or apply_scoped, which it is unless it is said
    #[arg(long, value_name = "MODE")]
    access_mode: Option<AccessMode>,
}

fn parse_mount(text: &str) -> Result<SingleMount, String> {
    let (name, path) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=DIR")?;
    let (path, access) = match path.strip_suffix(":write") {
        Some(path) => (path, MountAccess::Write),
        None => (path, MountAccess::Read),
    };
    Ok(SingleMount { name: name.to_owned(), path: path.to_owned(), access })
}

/// How the run ended, for programs.
#[derive(Serialize)]
struct Ran<'a> {
    job_id: String,
    state: &'a str,
    output: Option<&'a Value>,
    error: Option<&'a NodeError>,
    #[serde(flatten)]
    recorded: &'a Recorded,
}

/// Runs the step.
pub(crate) async fn run(context: &Context<'_>, args: &RunArgs) -> Result<Exit, CliError> {
    let output = context.output;
    let request = SingleRequest {
        plugin: check::request(&args.plugin)?,
        input: read_input(&args.input)?,
        grants: args.grant.clone(),
        mounts: args.mount.clone(),
        profile: args.profile.clone(),
        access_mode: args.access_mode,
        base: std::env::current_dir()
            .map_err(|error| CliError::usage("cannot find the current folder").because(&error))?,
    };
    let (access, lines) = run::post(context, "/api/v1/plugins/run", &request).await?;
    let ran = async {
        let details = run::follow(output, &access, lines?, true).await?;
        let recorded: Recorded = access.get(&format!("/api/v1/plugins/runs/{}", details.job.job_id)).await?;
        Ok((details, recorded))
    };
    let ran = ran.await;
    let (details, recorded) = access.finish(output, ran).await?;
    show(output, &details, &recorded)?;
    run::outcome(&details).map_err(|error| explained(error, &details, &recorded))
}

fn read_input(text: &str) -> Result<Map<String, Value>, CliError> {
    let (name, text) = match text.strip_prefix('@') {
        None => ("--input".to_owned(), text.to_owned()),
        Some("-") => {
            let text = std::io::read_to_string(std::io::stdin().lock());
            let failed = |error: std::io::Error| CliError::usage("cannot read standard input").because(&error);
            ("standard input".to_owned(), text.map_err(failed)?)
        }
        Some(file) => {
            let path = Path::new(file);
            let failed = |error: &std::io::Error| CliError::file("read", path, error);
            let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
            if size > MAX_INPUT_BYTES {
                let problem = format!("`{file}` has {size} bytes; an input has at most {MAX_INPUT_BYTES}");
                return Err(CliError::usage(problem).hint("give large values as files of a mount"));
            }
            (file.to_owned(), std::fs::read_to_string(path).map_err(|error| failed(&error))?)
        }
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(input)) => Ok(input),
        Ok(_) => Err(CliError::usage(format!("{name}: the input of a step is a JSON object"))
            .hint("write for example: --input '{\"text\": \"…\"}'")),
        Err(error) => Err(CliError::usage(format!("{name}:{}:{}: is not JSON", error.line(), error.column()))
            .because(&error)
            .hint("write for example: --input '{\"text\": \"…\"}', or @FILE")),
    }
}

fn show(output: &Output, details: &JobDetails, recorded: &Recorded) -> Result<(), CliError> {
    let job = &details.job;
    let result = job.job_outputs.as_ref().and_then(|outputs| outputs.get("output"));
    let error = error_of(details);
    if output.is_json() {
        let (job_id, state) = (job.job_id.to_string(), job.state.as_str());
        return output.json(&Ran { job_id, state, output: result, error, recorded });
    }
    if let Some(result) = result {
        output.json(result)?;
    }
    for call in recorded.decisions.iter().take(MOST_DECISIONS) {
        output.note(&decision(call));
    }
    if let Some(more) = recorded.decisions.len().checked_sub(MOST_DECISIONS).filter(|more| *more > 0) {
        output.note(&format!("… and {more} more decisions: handshake audit decisions --job {}", job.job_id));
    }
    output.note(&used(recorded));
    output.note(&format!("job     {}", job.job_id));
    Ok(())
}

fn error_of(details: &JobDetails) -> Option<&NodeError> {
    details.runs.last().and_then(|run| run.nodes.last()).and_then(|node| node.error.as_ref())
}

fn decision(call: &Call) -> String {
    let Call { capability, resource, .. } = call;
    match (call.outcome, call.reason) {
        (Outcome::Allow, _) => format!("allow   {capability} {resource}"),
        (Outcome::Deny, Some(reason)) => format!("deny    {capability} {resource} ({reason})"),
        (Outcome::Deny, None) => format!("deny    {capability} {resource}"),
    }
}

fn used(recorded: &Recorded) -> String {
    let metric = |name: &str| recorded.metrics.get(name);
    let mut parts = vec![format!("used    {:.1} ms", recorded.duration_us as f64 / 1000.0)];
    parts.extend(metric("hsk.step.memory_bytes").map(|bytes| format!("{:.1} MiB of memory", bytes / 1_048_576.0)));
    parts.extend(metric("hsk.step.host_calls").map(|calls| format!("{calls} host calls")));
    parts.push(match metric("hsk.step.fuel") {
        Some(fuel) => format!("{fuel} units of fuel"),
        None => "fuel not counted (limits.fuel in plugin.toml has it counted)".to_owned(),
    });
    parts.join(", ")
}

/// The functions of a guest that crashed one by one, and the grants that were missing.
fn explained(mut error: CliError, details: &JobDetails, recorded: &Recorded) -> CliError {
    // What the job says of it speaks of a workflow file, which there is not.
    if let Some(NodeError { kind, message }) = error_of(details) {
        error.message = format!("the step failed ({kind}): {message}");
    }
    if let Some(at) = error.message.find(GUEST_BACKTRACE) {
        let frames = error.message.split_off(at);
        error.why.extend(frames[GUEST_BACKTRACE.len()..].split(" < ").map(|name| format!("in {name}")));
    }
    let missing: BTreeSet<String> = recorded.decisions.iter().filter_map(Call::missing_grant).collect();
    if error.exit == Exit::Denied && !missing.is_empty() {
        let grants: Vec<_> = missing.into_iter().map(|grant| format!("--grant {grant}")).collect();
        return error.hint(format!("if it should be allowed that, give: {}", grants.join(" ")));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_for_reading_unless_it_says_otherwise() {
        let mount = |name: &str, path: &str, access| SingleMount { name: name.into(), path: path.into(), access };
        assert_eq!(parse_mount("docs=./a=b"), Ok(mount("docs", "./a=b", MountAccess::Read)));
        assert_eq!(parse_mount("out=out:write"), Ok(mount("out", "out", MountAccess::Write)));
        assert!(parse_mount("docs").is_err() && parse_mount("=x").is_err());
    }

    #[test]
    fn only_an_object_is_an_input() {
        assert!(read_input("{\"a\": 1}").is_ok());
        assert!(read_input("[1]").is_err_and(|error| error.message.contains("JSON object")));
        assert!(read_input("{").is_err_and(|error| error.message.contains("--input:1:1")));
    }
}
