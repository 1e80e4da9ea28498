//! `handshake audit explain`: the whole reasoning of one decision.

use clap::Args;
use handshake_core::EventId;
use serde_json::Value;

use super::filters;
use crate::access::Access;
use crate::error::CliError;
use crate::output::{ALERT, Output, Tone};
use crate::review::explain::{Explanation, LayerLine, Said};
use crate::review::summary;

/// Arguments of `handshake audit explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The decision's event; `handshake audit decisions --output json` shows ids
    #[arg(value_parser = filters::event)]
    event: EventId,
}

/// Explains a decision.
pub(super) async fn explain(access: Access, output: &Output, args: &ExplainArgs) -> Result<(), CliError> {
    let explained = access.get::<Explanation>(&format!("/api/v1/audit/explain/{}", args.event)).await;
    let explained = access.finish(output, explained).await?;
    if output.is_json() { output.json(&explained) } else { show(output, &explained) }
}

fn show(output: &Output, explained: &Explanation) -> Result<(), CliError> {
    let event = &explained.decision.event;
    let payload = &event["payload"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |name: &str| text(&payload[name]);
    let denied = of("decision_outcome") == "deny";
    let verdict = match (denied, payload["would_deny"] == true) {
        (true, _) => format!("{ALERT} denied: {} by {}", of("reason"), of("layer")),
        (false, true) => "allowed, and only because the policy watches: it would deny".to_owned(),
        (false, false) => "allowed".to_owned(),
    };
    output.toned_field("decision", &verdict, if denied { Tone::Bad } else { Tone::Good })?;
    output.field("asked for", &format!("{} on {}", of("capability_id"), of("resource")))?;
    output.field("by call", &format!("{} of {}", of("function"), of("interface")))?;
    let place = match (event["step_id"].as_str(), payload["index"].as_u64()) {
        (Some(step), Some(index)) => format!(" in step {step}[{index}]"),
        (Some(step), None) => format!(" in step {step}"),
        (None, _) => String::new(),
    };
    let who = format!("{}{place}, attempt {}, call {}", of("actor_id"), payload["attempt"], payload["call"]);
    output.field("who", &who)?;
    output.field("recorded", &format!("{}, number {}", explained.decision.recorded_at, explained.decision.seq))?;
    output.line("")?;
    output.table(&["LAYER", "SAYS", "WHY", "WHERE"], explained.layers.iter().map(row).collect())?;
    for source in explained.layers.iter().filter_map(|layer| layer.source.as_ref()).filter(|source| source.line > 0) {
        if let Some(text) = source.text.as_deref().filter(|_| !source.file.starts_with("steps.")) {
            output.line("")?;
            output.line(&format!("{}:{}", source.file, source.line))?;
            for line in text.lines() {
                output.line(&format!("  {line}"))?;
            }
        }
    }
    let remedies: Vec<_> = explained.layers.iter().filter_map(|layer| layer.remedy.as_deref()).collect();
    if !remedies.is_empty() {
        output.line("")?;
        output.line("what would have changed it:")?;
        remedies.iter().try_for_each(|remedy| output.line(&format!("  {remedy}")))?;
    }
    output.line("")?;
    for recorded in &explained.consequences {
        output.field("led to", &outcome(recorded))?;
    }
    for name in ["policy_sha256", "manifest_sha256", "component_sha256", "arguments_sha256"] {
        if let Some(digest) = payload[name].as_str() {
            output.field(name.trim_end_matches("_sha256"), &format!("sha256 {digest}"))?;
        }
    }
    for (name, id) in [("before it", explained.previous), ("after it", explained.next)] {
        if let Some(id) = id {
            output.field(name, &format!("handshake audit explain {id}"))?;
        }
    }
    output.field("trace", &format!("handshake audit trace {}", text(&event["trace_id"])))?;
    for note in &explained.notes {
        output.note(note);
    }
    Ok(())
}

fn row(layer: &LayerLine) -> Vec<String> {
    let says = match (layer.says, layer.asked) {
        (Said::Allows, true) => "allows".to_owned(),
        (Said::Allows, false) => "would allow".to_owned(),
        (Said::Refuses, true) => format!("{ALERT} refuses"),
        (Said::Refuses, false) => "would refuse, too".to_owned(),
        (Said::WouldRefuse, _) => "would refuse; watches".to_owned(),
        (Said::Unknown, _) => "unknown".to_owned(),
    };
    let place = layer.source.as_ref().map(|source| format!("{}:{}", source.file, source.line)).unwrap_or_default();
    vec![layer.layer.clone(), says, layer.why.clone(), place]
}

fn outcome(recorded: &handshake_recorder::RecordedEvent) -> String {
    let payload = &recorded.event["payload"];
    match recorded.event["event_type"].as_str() {
        Some("capability_outcome") => format!(
            "{}, {} bytes in, {} bytes out, {} µs",
            payload["result"].as_str().unwrap_or_default(),
            payload["bytes_in"],
            payload["bytes_out"],
            payload["duration_us"]
        ),
        _ => summary::row(recorded).pop().unwrap_or_default(),
    }
}
