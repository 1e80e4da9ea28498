//! `handshake triggers`: workflows that run at certain times.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use handshake_core::trigger::Trigger;
use handshake_core::{Timestamp, TriggerId, TriggerName};

use super::Context;
use super::run::{parse_input, read_workflow};
use crate::access::{Access, Need, percent_encoded, with_parameters};
use crate::api::triggers::{AddRequest, TriggerList};
use crate::error::{CliError, Exit};
use crate::network::health::Health;
use crate::output::{ALERT, Output};

/// Said when nobody serves.
const NOBODY: &str = "nobody serves now: a trigger fires only while a process serves: `handshake serve`";

/// `handshake triggers …`
#[derive(Debug, Subcommand)]
pub(crate) enum TriggersCommand {
    /// Runs a workflow at the times that its `trigger` says
    Add(AddArgs),
    /// Lists triggers, newest first
    List(ListArgs),
    /// Shows a trigger
    Show(TriggerArgs),
    /// Removes a trigger; the jobs that it began stay
    Remove(TriggerArgs),
}

/// Arguments of `handshake triggers add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The workflow: YAML, TOML or JSON, with a `trigger`
    file: PathBuf,
    /// The trigger's name [default: made of the workflow's name]
    #[arg(long)]
    name: Option<TriggerName>,
    /// An input of the workflow; may be repeated
    #[arg(short, long = "input", value_name = "NAME=VALUE", value_parser = parse_input)]
    input: Vec<(String, String)>,
}

/// Arguments of `handshake triggers list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue behind this trigger
    #[arg(long, value_name = "ID")]
    after: Option<TriggerId>,
}

/// A trigger.
#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// The trigger: its name or id
    name: String,
}

/// Does what was asked.
pub(crate) async fn triggers(context: &Context<'_>, command: &TriggersCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        TriggersCommand::Add(args) => {
            let request = request(args)?;
            let (trigger, served) =
                ask(context, async |access| access.post::<Trigger>("/api/v1/triggers", &request).await).await?;
            show_added(output, &trigger)?;
            note_nobody(output, served);
        }
        TriggersCommand::List(args) => {
            let (limit, after) = (Some(args.limit.to_string()), args.after.map(|id| id.to_string()));
            let path = with_parameters("/api/v1/triggers", [("limit", limit), ("after", after)]);
            let (list, served) = ask(context, async |access| access.get::<TriggerList>(&path).await).await?;
            show_list(output, &list)?;
            note_nobody(output, served || list.triggers.is_empty());
        }
        TriggersCommand::Show(args) => {
            let path = format!("/api/v1/triggers/{}", percent_encoded(&args.name));
            let (trigger, served) = ask(context, async |access| access.get::<Trigger>(&path).await).await?;
            show(output, &trigger)?;
            note_nobody(output, served);
        }
        TriggersCommand::Remove(args) => {
            let path = format!("/api/v1/triggers/{}/remove", percent_encoded(&args.name));
            let (trigger, _) = ask(context, async |access| access.post::<Trigger>(&path, &()).await).await?;
            if output.is_json() {
                output.json(&trigger)?;
            } else {
                output.note(&format!("removed `{}`; the jobs that it began stay", trigger.name));
            }
        }
    }
    Ok(Exit::Done)
}

fn request(args: &AddArgs) -> Result<AddRequest, CliError> {
    let mut text_inputs = BTreeMap::new();
    for (name, value) in &args.input {
        if text_inputs.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::usage(format!("input `{name}` is given twice")));
        }
    }
    Ok(AddRequest {
        workflow: read_workflow(&args.file)?,
        name: args.name.clone(),
        text_inputs,
        base: Some(
            std::env::current_dir()
                .map_err(|error| CliError::usage("cannot find the current folder").because(&error))?,
        ),
    })
}

/// Asks, and finds out whether anybody serves.
async fn ask<T>(
    context: &Context<'_>,
    request: impl AsyncFnOnce(&Access) -> Result<T, CliError>,
) -> Result<(T, bool), CliError> {
    let access = context.access(Need::Answers).await?;
    let answer = match request(&access).await {
        Ok(answer) => match &access {
            Access::Owner(_) => Ok((answer, false)),
            Access::Remote(_) => access.get::<Health>("/health").await.map(|health| (answer, health.accepts_jobs)),
        },
        Err(error) => Err(error),
    };
    access.finish(context.output, answer).await
}

fn note_nobody(output: &Output, served: bool) {
    if !served {
        output.note(NOBODY);
    }
}

fn show_added(output: &Output, trigger: &Trigger) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(trigger);
    }
    if output.quiet {
        return output.line(trigger.name.as_str());
    }
    output.field("trigger", trigger.name.as_str())?;
    output.field("schedule", &trigger.schedule.to_string())?;
    output.field("next", &moment(trigger.next_at))?;
    output.field("missed", &missed(trigger))
}

fn missed(trigger: &Trigger) -> String {
    format!("{}: times at which nobody serves {}", trigger.missed, trigger.missed.meaning())
}

fn moment(time: Timestamp) -> String {
    if time >= Timestamp::NEVER {
        return "never".to_owned();
    }
    // To the second: parts of it say nothing to a person.
    let text = time.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| seconds.replace('T', " ") + "Z")
}

fn show_list(output: &Output, list: &TriggerList) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(list);
    }
    if list.triggers.is_empty() {
        output.note("no triggers");
        return Ok(());
    }
    let rows = list.triggers.iter().map(|trigger| {
        let mark = if trigger.last_error.is_some() { format!("{ALERT} ") } else { String::new() };
        vec![
            trigger.name.to_string(),
            trigger.schedule.to_string(),
            moment(trigger.next_at),
            format!("{mark}{}", trigger.last_at.map_or_else(|| "-".to_owned(), moment)),
            trigger.last_job.map_or_else(|| "-".to_owned(), |job| job.to_string()),
            trigger.missed.to_string(),
        ]
    });
    output.table(&["NAME", "SCHEDULE", "NEXT", "LAST", "LAST JOB", "MISSED"], rows.collect())?;
    if let Some(next) = list.next {
        output.note(&format!("more with --after {next}"));
    }
    Ok(())
}

fn show(output: &Output, trigger: &Trigger) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(trigger);
    }
    output.field("trigger", trigger.name.as_str())?;
    output.field("id", &trigger.trigger_id.to_string())?;
    output.field("schedule", &trigger.schedule.to_string())?;
    output.field("missed", &missed(trigger))?;
    output.field("next", &moment(trigger.next_at))?;
    if let Some(last) = trigger.last_at {
        output.field("last", &moment(last))?;
    }
    if let Some(job) = trigger.last_job {
        output.field("last job", &job.to_string())?;
    }
    if let Some(error) = &trigger.last_error {
        output.field("error", error)?;
    }
    output.field("workflow", &trigger.file)?;
    output.field("inputs", &serde_json::Value::from(trigger.inputs.clone()).to_string())?;
    output.field("folder", &trigger.base.display().to_string())?;
    output.field("added", &format!("{} by {}", moment(trigger.created_at), trigger.created_by.id))
}
