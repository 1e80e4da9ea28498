//! Which events: the filters that listing, following and exporting have in common.

use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use handshake_core::event::{EventType, Outcome};
use handshake_core::{EventId, JobId, RunId, StepId, Timestamp, TraceId};
use handshake_recorder::EventQuery;

/// Filters; all that are given must match.
#[derive(Debug, Args)]
pub(super) struct Filters {
    /// This event
    #[arg(long, value_parser = event, value_name = "ID", help_heading = "Filters")]
    event: Option<EventId>,
    /// Of this job
    #[arg(long, value_parser = job, value_name = "ID", help_heading = "Filters")]
    job: Option<JobId>,
    /// Of this run
    #[arg(long, value_parser = run, value_name = "ID", help_heading = "Filters")]
    run: Option<RunId>,
    /// Of this trace
    #[arg(long, value_parser = trace, value_name = "ID", help_heading = "Filters")]
    trace: Option<TraceId>,
    /// Of this step
    #[arg(long, help_heading = "Filters")]
    step: Option<StepId>,
    /// Recorded at this time or later: 2026-01-31T12:00:00Z
    #[arg(long, value_parser = time, value_name = "TIME", help_heading = "Filters")]
    pub(super) from: Option<Timestamp>,
    /// Recorded before this time
    #[arg(long, value_parser = time, value_name = "TIME", help_heading = "Filters")]
    pub(super) to: Option<Timestamp>,
    /// By this person or plugin, a plugin with or without @version
    #[arg(long, value_name = "ID", help_heading = "Filters")]
    actor: Option<String>,
    /// From there: cli, plugin, host, terminal, or an editor
    #[arg(long, help_heading = "Filters")]
    surface: Option<String>,
    /// Of this type, for example span_end
    #[arg(long = "type", value_parser = types(), value_name = "TYPE", hide_possible_values = true, help_heading = "Filters")]
    event_type: Option<EventType>,
    /// Of this workspace
    #[arg(long, value_name = "ID", help_heading = "Filters")]
    workspace: Option<String>,
    /// On this capability, for example fs.read
    #[arg(long, help_heading = "Filters")]
    capability: Option<String>,
    /// Decisions that were only allow or only deny
    #[arg(long, help_heading = "Filters")]
    outcome: Option<Outcome>,
}

impl Filters {
    pub(super) fn query(&self) -> EventQuery {
        EventQuery {
            event_id: self.event,
            job_id: self.job,
            run_id: self.run,
            trace_id: self.trace,
            step_id: self.step.clone(),
            from: self.from,
            to: self.to,
            actor: self.actor.clone(),
            surface: self.surface.clone(),
            event_type: self.event_type,
            wsid: self.workspace.clone(),
            capability_id: self.capability.clone(),
            decision_outcome: self.outcome,
            ..EventQuery::default()
        }
    }
}

/// Knows all types, so that a typo is told with the nearest one.
fn types() -> impl TypedValueParser<Value = EventType> {
    let known: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
    PossibleValuesParser::new(known).try_map(|text| text.parse::<EventType>())
}

pub(in crate::commands) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "write a time like 2026-01-31T12:00:00Z".to_owned())
}

fn id<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("it is not the id of {what}"))
}

pub(super) fn event(text: &str) -> Result<EventId, String> {
    id(text, "an event; `handshake audit events --output json` shows them")
}

pub(super) fn job(text: &str) -> Result<JobId, String> {
    id(text, "a job; `handshake jobs list` shows them")
}

pub(super) fn run(text: &str) -> Result<RunId, String> {
    id(text, "a run; `handshake jobs show JOB` shows them")
}

pub(super) fn trace(text: &str) -> Result<TraceId, String> {
    id(text, "a trace; `handshake jobs show JOB` shows it")
}
