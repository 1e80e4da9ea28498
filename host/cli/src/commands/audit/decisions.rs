//! `handshake audit decisions`: who asked for what, who said yes, and by which rule.

use clap::Args;
use handshake_core::event::{EventType, Outcome};
use handshake_core::{JobId, RunId, StepId, Timestamp, TraceId};
use handshake_recorder::{EventQuery, RecordedEvent};
use serde_json::Value;

use super::{filters, note_elsewhere, note_missing, path_of};
use crate::access::Access;
use crate::api::audit::RecordPage;
use crate::error::CliError;
use crate::output::{ALERT, Output};

/// Arguments of `handshake audit decisions`.
#[derive(Debug, Args)]
pub(crate) struct DecisionsArgs {
    /// Of this job
    #[arg(long, value_parser = filters::job, value_name = "ID")]
    job: Option<JobId>,
    /// Of this run
    #[arg(long, value_parser = filters::run, value_name = "ID")]
    run: Option<RunId>,
    /// Of this trace
    #[arg(long, value_parser = filters::trace, value_name = "ID")]
    trace: Option<TraceId>,
    /// Of this step
    #[arg(long)]
    step: Option<StepId>,
    /// Of this plugin, with or without @version
    #[arg(long, value_name = "ID")]
    plugin: Option<String>,
    /// On this capability, for example fs.read
    #[arg(long)]
    capability: Option<String>,
    /// Only allow or only deny
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Recorded at this time or later: 2026-01-31T12:00:00Z
    #[arg(long, value_parser = filters::time, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Recorded before this time
    #[arg(long, value_parser = filters::time, value_name = "TIME")]
    to: Option<Timestamp>,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Continue where an earlier page ended
    #[arg(long, value_name = "PLACE")]
    before: Option<String>,
}

/// Lists decisions.
pub(super) async fn decisions(access: Access, output: &Output, args: &DecisionsArgs) -> Result<(), CliError> {
    let page = access.get::<RecordPage>(&path_of("/api/v1/audit/events", &args.query())?).await;
    show_decisions(output, &access.finish(output, page).await?)
}

impl DecisionsArgs {
    fn query(&self) -> EventQuery {
        EventQuery {
            job_id: self.job,
            run_id: self.run,
            trace_id: self.trace,
            step_id: self.step.clone(),
            from: self.from,
            to: self.to,
            actor: self.plugin.clone(),
            event_type: Some(EventType::CapabilityAction),
            capability_id: self.capability.clone(),
            decision_outcome: self.outcome,
            limit: self.limit,
            before: self.before.clone(),
            ..EventQuery::default()
        }
    }
}

fn show_decisions(output: &Output, found: &RecordPage) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(found);
    }
    let page = &found.page;
    note_elsewhere(output, &found.elsewhere);
    note_missing(output, page.incomplete_before);
    if page.events.is_empty() {
        output.note("no decisions");
        return Ok(());
    }
    output.table(&["TIME", "WHO", "STEP", "ASKED FOR", "DECISION"], page.events.iter().map(decision_row).collect())?;
    let denied = |event: &&RecordedEvent| event.event["payload"]["decision_outcome"] == "deny";
    let telling = page.events.iter().find(denied).or(page.events.first());
    if let Some(id) = telling.and_then(|event| event.event["event_id"].as_str()) {
        output.note(&format!("why, in full: handshake audit explain {id}"));
    }
    if let Some(next) = &page.next {
        output.note(&format!("more: the same with --before {next}"));
    }
    Ok(())
}

fn decision_row(recorded: &RecordedEvent) -> Vec<String> {
    let event = &recorded.event;
    let payload = &event["payload"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let step = match payload["index"].as_u64() {
        Some(index) => format!("{}[{index}]", text(&event["step_id"])),
        None => text(&event["step_id"]),
    };
    let rule = match (payload["rule"]["file"].as_str(), payload["rule"]["line"].as_u64()) {
        (Some(file), Some(line)) => format!(" {file}:{line}"),
        _ => String::new(),
    };
    let decision = match payload["decision_outcome"].as_str() {
        Some("deny") => format!("{ALERT} {} by {}{rule}", text(&payload["reason"]), text(&payload["layer"])),
        _ if payload["would_deny"].as_bool() == Some(true) => format!("allow (observed: would deny){rule}"),
        _ => format!("allow{rule}"),
    };
    let clock = text(&event["timestamp"]);
    let clock = clock.split_once('T').map_or(clock.as_str(), |(_, time)| time).get(..8).unwrap_or(&clock).to_owned();
    let asked = format!("{} {}", text(&event["capability_id"]), text(&payload["resource"]));
    vec![clock, text(&event["actor"]["id"]), step, asked, decision]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_denial_stands_out_and_names_reason_layer_and_rule() {
        let event = json!({
            "timestamp": "2026-01-01T10:11:12.345678Z", "actor": { "kind": "agent", "id": "probe@0.1.0" }, "step_id": "a",
            "capability_id": "fs.write",
            "payload": { "decision_outcome": "deny", "reason": "operator-denied", "layer": "policy", "index": 3,
                "resource": "out/x", "rule": { "file": "policy.toml", "line": 9 }, "would_deny": false }
        });
        let recorded = serde_json::from_value(json!({
            "host": "0198f3a2-7c11-7000-8000-0123456789ab", "seq": 1, "recorded_at": "2026-01-01T10:11:12.345678Z", "hash": "0".repeat(64), "event": event
        }));
        let row = decision_row(&recorded.unwrap());
        assert_eq!(
            row,
            ["10:11:12", "probe@0.1.0", "a[3]", "fs.write out/x", "✗ operator-denied by policy policy.toml:9"]
        );
    }
}
