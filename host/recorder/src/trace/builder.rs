//! Puts a tree together from events in the order in which they were recorded.
//!
//! It reads leniently: what is missing, because it is not kept any more or was never written, leaves its children one
//! level higher.

use std::collections::BTreeMap;

use handshake_core::Timestamp;
use serde_json::Value;

use super::{TraceNode, TraceNodeKind};
use crate::projection::RecordedEvent;

/// A node that does not have its children yet.
struct Placed {
    node: TraceNode,
    parent: Option<usize>,
}

/// Takes events one by one, and keeps of each what the tree shows.
#[derive(Default)]
pub(crate) struct TraceBuilder {
    nodes: Vec<Placed>,
    spans: BTreeMap<String, usize>,
    decisions: BTreeMap<String, usize>,
    count: u64,
}

impl TraceBuilder {
    /// How many events were taken.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Takes the next event.
    pub(crate) fn add(&mut self, recorded: &RecordedEvent) {
        let (event, payload) = (&recorded.event, &recorded.event["payload"]);
        let Some(event_id) = event["event_id"].as_str().and_then(|id| id.parse().ok()) else { return };
        self.count += 1;
        let at = text(event, "timestamp").and_then(|time| Timestamp::parse(&time)).unwrap_or(recorded.recorded_at);
        let node = |kind, name: String| TraceNode {
            kind,
            name,
            event_id,
            at,
            duration_us: None,
            result: None,
            detail: None,
            children: Vec::new(),
        };
        match event["event_type"].as_str().unwrap_or_default() {
            "span_start" => self.begin(event, node(span_kind(payload), span_name(payload))),
            "span_end" => self.end(event, node(span_kind(payload), span_name(payload))),
            "capability_action" => {
                let name = format!("{} {}", shown(payload, "capability_id"), shown(payload, "resource"));
                let (result, detail) = decision(payload);
                let placed = TraceNode { result: Some(result), detail, ..node(TraceNodeKind::Decision, name) };
                let at = self.place(placed, self.context(event));
                self.decisions.insert(event_id.to_string(), at);
            }
            "capability_outcome" => self.outcome(event, node(TraceNodeKind::Event, "capability_outcome".into())),
            "llm_inference" => {
                let tokens = |name: &str| payload["token_usage"][name].as_u64().unwrap_or(0);
                let placed = TraceNode {
                    duration_us: payload["latency_ms"].as_u64().map(|latency| latency.saturating_mul(1000)),
                    result: Some(text(payload, "error").unwrap_or_else(|| "ok".into())),
                    detail: Some(format!("{}+{} tokens", tokens("prompt_tokens"), tokens("completion_tokens"))),
                    ..node(TraceNodeKind::ModelCall, shown(payload, "model_id"))
                };
                let decision = text(event, "policy_decision_id").and_then(|id| self.decisions.get(&id).copied());
                let parent = decision.or_else(|| self.context(event));
                self.place(placed, parent);
            }
            other => {
                let (result, detail) = remark(payload);
                let placed = TraceNode { result, detail, ..node(TraceNodeKind::Event, other.to_owned()) };
                self.place(placed, self.context(event));
            }
        }
    }

    /// The nodes that have no parent, with all that belongs to them.
    pub(crate) fn finish(self) -> Vec<TraceNode> {
        let mut roots = Vec::new();
        let mut placed = self.nodes;
        // A parent stands before its children, so going backwards each is complete when its turn comes.
        while let Some(Placed { mut node, parent }) = placed.pop() {
            node.children.reverse();
            match parent.and_then(|at| placed.get_mut(at)) {
                Some(parent) => parent.node.children.push(node),
                None => roots.push(node),
            }
        }
        roots.reverse();
        roots
    }

    fn place(&mut self, node: TraceNode, parent: Option<usize>) -> usize {
        self.nodes.push(Placed { node, parent });
        self.nodes.len() - 1
    }

    /// The innermost span that an event belongs to.
    fn context(&self, event: &Value) -> Option<usize> {
        // The span of a run bears the run's id, that of a job the job's.
        ["activity_span_id", "workflow_run_id", "job_id"]
            .into_iter()
            .find_map(|name| event[name].as_str().and_then(|id| self.spans.get(id)).copied())
    }

    fn begin(&mut self, event: &Value, node: TraceNode) {
        let Some(span) = text(event, "activity_span_id") else { return };
        // A job that is tried again begins again; its runs are its children all the same.
        if let Some(at) = self.spans.get(&span) {
            let known = &mut self.nodes[*at].node;
            (known.duration_us, known.result) = (None, None);
            return;
        }
        let outer: &[&str] = match node.kind {
            TraceNodeKind::Job => &[],
            TraceNodeKind::Run => &["job_id"],
            _ => &["workflow_run_id", "job_id"],
        };
        let parent = outer.iter().find_map(|name| event[*name].as_str().and_then(|id| self.spans.get(id)).copied());
        let at = self.place(node, parent);
        self.spans.insert(span, at);
    }

    fn end(&mut self, event: &Value, node: TraceNode) {
        let payload = &event["payload"];
        let (duration, result) = (payload["duration_us"].as_u64(), text(payload, "result"));
        let known = text(event, "activity_span_id").and_then(|span| self.spans.get(&span).copied());
        let at = match known {
            Some(at) => at,
            None => {
                let lasted = i64::try_from(duration.unwrap_or(0)).unwrap_or(0);
                let began = Timestamp::from_micros(node.at.micros().saturating_sub(lasted));
                let parent = self.context(event);
                self.place(TraceNode { at: began, ..node }, parent)
            }
        };
        let known = &mut self.nodes[at].node;
        (known.duration_us, known.result) = (duration, result);
    }

    fn outcome(&mut self, event: &Value, node: TraceNode) {
        let payload = &event["payload"];
        let (duration, result) = (payload["duration_us"].as_u64(), text(payload, "result"));
        let decision = text(event, "policy_decision_id").and_then(|id| self.decisions.get(&id).copied());
        let Some(at) = decision else {
            let parent = self.context(event);
            self.place(TraceNode { duration_us: duration, result, ..node }, parent);
            return;
        };
        let known = &mut self.nodes[at].node;
        known.duration_us = duration;
        if let (Some(label), Some(said)) = (result.filter(|label| label != "ok"), &mut known.result) {
            *said = format!("{said}, then {label}");
        }
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(str::to_owned)
}

fn shown(value: &Value, name: &str) -> String {
    text(value, name).unwrap_or_else(|| "?".to_owned())
}

fn span_kind(payload: &Value) -> TraceNodeKind {
    match payload["span"].as_str() {
        Some("job") => TraceNodeKind::Job,
        Some("run") => TraceNodeKind::Run,
        _ => TraceNodeKind::Step,
    }
}

fn span_name(payload: &Value) -> String {
    match payload["attempt"].as_u64() {
        Some(attempt) if attempt > 1 => format!("{} (attempt {attempt})", shown(payload, "name")),
        _ => shown(payload, "name"),
    }
}

/// What a decision was, and which rule made it.
fn decision(payload: &Value) -> (String, Option<String>) {
    let result = match payload["decision_outcome"].as_str() {
        Some("deny") => format!("deny: {}", shown(payload, "reason")),
        _ if payload["would_deny"].as_bool() == Some(true) => "allow (would deny)".to_owned(),
        _ => shown(payload, "decision_outcome"),
    };
    let rule = &payload["rule"];
    let detail = rule["file"].as_str().map(|file| format!("{file}:{}", rule["line"].as_u64().unwrap_or(0)));
    (result, detail)
}

/// What any other event says in short.
fn remark(payload: &Value) -> (Option<String>, Option<String>) {
    let first = |names: &[&str]| names.iter().find_map(|name| text(payload, name));
    (first(&["to_state", "decision", "kind", "action"]), first(&["reason", "detail", "entity"]))
}
