//! The whole reasoning of one decision.

use std::str::FromStr;

use handshake_core::capability::{Axis, CapabilityId, Layer, LayerAnswer, Resource};
use handshake_core::event::EventType;
use handshake_core::{Digest, EventId, PluginId, RunId, StepId};
use handshake_recorder::{EventQuery, RecordedEvent};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Source;
use super::rights::{Named, PastRights, StoredRun};
use crate::error::CliError;
use crate::host::HostState;

/// What a layer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// It allows the call.
    Allows,
    /// It refuses it.
    Refuses,
    /// It is a policy that only watches, and would have refused it.
    WouldRefuse,
    /// What it said cannot be told any more.
    Unknown,
}

/// One layer's part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct LayerLine {
    /// The layer's label.
    pub(crate) layer: String,
    /// What it says.
    pub(crate) says: Said,
    /// Whether the record names it as the one that decided.
    pub(crate) decided: bool,
    /// Whether it was asked: those behind the first refusal are not.
    pub(crate) asked: bool,
    /// Why, in a few words.
    pub(crate) why: String,
    /// Where that is written.
    pub(crate) source: Option<Source>,
    /// What would make it allow.
    pub(crate) remedy: Option<String>,
}

/// A decision with everything about it.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Explanation {
    /// The decision.
    pub(crate) decision: RecordedEvent,
    /// The layers, in the order in which they are asked.
    pub(crate) layers: Vec<LayerLine>,
    /// The outcome of an allowed call, and the call of a model that it led to.
    pub(crate) consequences: Vec<RecordedEvent>,
    /// The decision before it in the same attempt.
    pub(crate) previous: Option<EventId>,
    /// The decision behind it in the same attempt.
    pub(crate) next: Option<EventId>,
    /// What cannot be told, and why.
    pub(crate) notes: Vec<String>,
}

/// Explains a decision.
pub(crate) async fn explain(host: &HostState, id: EventId) -> Result<Explanation, CliError> {
    let projection = host.projection().await?;
    let decision = found(host, id).await?;
    let kind = decision.event["event_type"].as_str().unwrap_or_default();
    if kind != EventType::CapabilityAction.as_str() {
        let decided = decision.event["policy_decision_id"].as_str();
        let hint = decided.map_or("handshake audit decisions lists decisions".to_owned(), |decided| {
            format!("it follows from a decision: handshake audit explain {decided}")
        });
        return Err(CliError::usage(format!("event `{id}` is of type `{kind}`, and no decision")).hint(hint));
    }
    let mut notes = Vec::new();
    let payload = &decision.event["payload"];
    let run = parsed::<RunId>(&decision.event["workflow_run_id"]);
    let stored = match run {
        Some(run) => match StoredRun::load(host, run).await {
            Ok(stored) => Some(stored),
            Err(error) => {
                notes.push(format!("the run cannot be looked up: {}", error.message));
                None
            }
        },
        None => {
            notes.push("it was made outside of runs: manifest, grant, profile and access mode are not kept".to_owned());
            None
        }
    };
    let step = parsed::<StepId>(&decision.event["step_id"]);
    let is_plugin = decision.event["actor"]["kind"] == "agent";
    let plugin = payload["actor_id"].as_str().filter(|_| is_plugin).and_then(|id| id.split('@').next());
    let plugin = plugin.and_then(|id| PluginId::new(id).ok());
    let layers = layers(host, payload, (plugin, stored.as_ref(), step.as_ref()), &mut notes);
    let mut consequences = Vec::new();
    for id in projection.consequences(id).await? {
        consequences.extend(event(host, id).await?);
    }
    let (mut previous, mut next) = (None, None);
    if let (Some(run), Some(step), Some(call), Some(attempt)) =
        (run, &step, payload["call"].as_u64().filter(|call| *call > 0), payload["attempt"].as_u64())
    {
        let index = payload["index"].as_u64();
        previous = projection.neighbour(run, step, index, attempt, call - 1).await?;
        next = projection.neighbour(run, step, index, attempt, call + 1).await?;
    }
    Ok(Explanation { decision, layers, consequences, previous, next, notes })
}

/// An event that must be on record.
pub(crate) async fn found(host: &HostState, id: EventId) -> Result<RecordedEvent, CliError> {
    event(host, id).await?.ok_or_else(|| {
        CliError::not_found(format!("event `{id}` is not on record, or is too old to be shown"))
            .hint("handshake audit decisions --output json shows the ids of decisions")
    })
}

async fn event(host: &HostState, id: EventId) -> Result<Option<RecordedEvent>, CliError> {
    let query = EventQuery { event_id: Some(id), limit: 1, ..EventQuery::default() };
    Ok(host.projection().await?.events(&query).await?.events.pop())
}

fn parsed<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn layers(
    host: &HostState,
    payload: &Value,
    (plugin, stored, step): (Option<PluginId>, Option<&StoredRun>, Option<&StepId>),
    notes: &mut Vec<String>,
) -> Vec<LayerLine> {
    let text = |name: &str| payload[name].as_str().unwrap_or_default();
    let denied = text("decision_outcome") == "deny";
    let (layer, reason) = (text("layer"), text("reason"));
    let rule = payload["rule"]["file"].as_str().zip(payload["rule"]["line"].as_u64());
    let axis = Axis::from_name(text("capability_id"));
    let resource = axis.and_then(|axis| Resource::from_record(axis, text("resource"), payload["host_path"].as_str()));
    let (Some(axis), Some(resource)) = (axis, resource) else {
        notes.push("the record does not show the whole resource; only what was recorded can be told".to_owned());
        return vec![recorded(layer, denied, reason)];
    };
    let digest = |name: &str| parsed::<Digest>(&payload[name]).unwrap_or(Digest::ZERO);
    let named = Named {
        plugin,
        step,
        axis,
        policy: digest("policy_sha256"),
        policy_name: rule.map_or(&host.policy_name, |(file, _)| file),
        manifest: digest("manifest_sha256"),
    };
    let past = PastRights::of(host, stored, &named);
    if past.unknown.contains(&Layer::Manifest) && stored.is_some() {
        notes.push("the manifest's text was not kept".to_owned());
    }
    if past.unknown.contains(&Layer::Policy) {
        notes.push("the policy's text was not kept".to_owned());
    }
    if past.unknown.contains(&Layer::Profile) && stored.is_some() {
        notes.push("the profile that the run was made with was not kept".to_owned());
    }
    let mut lines: Vec<LayerLine> =
        past.rights.layers(axis, &resource).into_iter().map(|answer| line(&past, stored, step, answer)).collect();
    // Budget and recorder are asked last, and only the record says what they said.
    if lines.iter().all(|line| line.layer != layer) {
        lines.push(recorded(layer, denied, reason));
    }
    let mut refused = false;
    for line in &mut lines {
        line.asked = !refused;
        line.decided = line.layer == layer;
        refused |= line.says == Said::Refuses;
    }
    let first = lines.iter().find(|line| line.says == Said::Refuses).map(|line| line.layer.as_str());
    let agrees = if denied { first == Some(layer) } else { first.is_none() };
    if !agrees && past.unknown.is_empty() {
        let would = first.map_or("allow it".to_owned(), |layer| format!("refuse it by {layer}"));
        notes.push(format!("what is kept would {would}, which is not what is on record"));
    }
    lines
}

/// A layer of which there is only what the record says.
fn recorded(layer: &str, denied: bool, reason: &str) -> LayerLine {
    LayerLine {
        layer: layer.to_owned(),
        says: if denied { Said::Refuses } else { Said::Allows },
        decided: true,
        asked: true,
        why: if reason.is_empty() { "on record".to_owned() } else { format!("{reason}, on record") },
        source: None,
        remedy: None,
    }
}

fn line(past: &PastRights, stored: Option<&StoredRun>, step: Option<&StepId>, answer: LayerAnswer) -> LayerLine {
    let says = match &answer {
        answer if past.unknown.contains(&answer.layer) => Said::Unknown,
        LayerAnswer { observed: true, .. } => Said::WouldRefuse,
        LayerAnswer { refusal: Some(_), .. } => Said::Refuses,
        _ => Said::Allows,
    };
    let by = answer.by.as_ref().map(CapabilityId::as_str);
    let step = step.map(StepId::as_str).unwrap_or_default();
    let why = match (answer.layer, says) {
        (_, Said::Unknown) => "not kept".to_owned(),
        (Layer::Registry, Said::Allows) => "this version grants it".to_owned(),
        (Layer::Manifest, Said::Allows) => format!("declares `{}`", by.unwrap_or_default()),
        (Layer::Grant, Said::Allows) => format!("step `{step}` grants `{}`", by.unwrap_or_default()),
        (Layer::Profile, Said::Allows) => {
            format!("profile `{}` lists `{}`", past.rights.profile.id, by.unwrap_or_default())
        }
        (Layer::AccessMode, Said::Allows) => format!("`{}` admits it", past.rights.access_mode),
        (Layer::Policy, Said::Allows) => "a rule allows it".to_owned(),
        (Layer::Policy, _) if answer.rule.is_some() => "a rule denies it".to_owned(),
        (Layer::Policy, _) => "no rule allows it".to_owned(),
        (_, _) => answer.refusal.map(|reason| reason.label().to_owned()).unwrap_or_default(),
    };
    let source = match answer.layer {
        Layer::Manifest => by.and_then(|id| past.declaration(id)),
        Layer::Grant => grant(stored, step, by),
        Layer::Policy => answer.rule.as_ref().map(|rule| past.rule(&rule.file, rule.line)),
        _ => None,
    };
    LayerLine { layer: answer.layer.to_string(), says, decided: false, asked: true, why, source, remedy: answer.remedy }
}

/// Runs keep their workflow as what it means, not as it was written; so a grant is shown with its position, from 1.
fn grant(stored: Option<&StoredRun>, step: &str, by: Option<&str>) -> Option<Source> {
    let grants = &stored?.step(step)?.grants;
    let at = grants.iter().position(|grant| Some(grant.as_str()) == by)?;
    let text: Vec<_> = grants.iter().map(|grant| format!("\"{grant}\"")).collect();
    Some(Source {
        file: format!("steps.{step}.grants"),
        line: u32::try_from(at + 1).ok()?,
        text: Some(format!("grants: [{}]", text.join(", "))),
    })
}
