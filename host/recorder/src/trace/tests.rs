#![allow(clippy::unwrap_used)]

use handshake_core::testing::SequentialIds;
use handshake_core::{Digest, HostId, Ids};
use serde_json::{Value, json};

use super::*;
use crate::projection::RecordedEvent;

struct Story {
    ids: SequentialIds,
    builder: TraceBuilder,
    time: i64,
}

impl Story {
    fn new() -> Self {
        Self { ids: SequentialIds::default(), builder: TraceBuilder::default(), time: 1_767_225_600_000_000 }
    }

    fn id(&self) -> String {
        self.ids.uuid().to_string()
    }

    /// Tells the next event, and gives its id.
    fn tell(&mut self, event_type: &str, envelope: &Value, payload: Value) -> String {
        self.time += 1000;
        let id = self.id();
        let mut event = json!({ "event_id": id, "event_type": event_type, "payload": payload,
            "timestamp": Timestamp::from_micros(self.time).to_string() });
        for (name, value) in envelope.as_object().unwrap() {
            event[name] = value.clone();
        }
        let recorded_at = Timestamp::from_micros(self.time);
        let host = HostId::fresh(&self.ids);
        self.builder.add(&RecordedEvent { host, seq: 1, recorded_at, hash: Digest::ZERO, event });
        id
    }

    fn tree(self) -> String {
        let mut lines = String::new();
        draw(&self.builder.finish(), 0, &mut lines);
        lines
    }
}

fn draw(nodes: &[TraceNode], depth: usize, lines: &mut String) {
    for node in nodes {
        let result = node.result.as_deref().unwrap_or("-");
        let lasted = node.duration_us.map_or("-".to_owned(), |lasted| lasted.to_string());
        lines.push_str(&format!("{}{:?} {}: {result} {lasted}\n", "  ".repeat(depth), node.kind, node.name));
        draw(&node.children, depth + 1, lines);
    }
}

#[test]
fn jobs_hold_runs_runs_hold_steps_and_steps_what_they_asked_for() {
    let mut story = Story::new();
    let (job, run, step) = (story.id(), story.id(), story.id());
    let of_job = json!({ "job_id": job, "workflow_run_id": run, "activity_span_id": job });
    let of_run = json!({ "job_id": job, "workflow_run_id": run, "activity_span_id": run });
    let of_step = json!({ "job_id": job, "workflow_run_id": run, "activity_span_id": step, "step_id": "read" });
    let with = |base: &Value, name: &str, value: &str| {
        let mut envelope = base.clone();
        envelope[name] = json!(value);
        envelope
    };
    story.tell("span_start", &of_job, json!({ "span": "job", "name": "flow" }));
    story.tell("job_transition", &of_job, json!({ "to_state": "queued", "reason": "submitted" }));
    story.tell("span_start", &of_run, json!({ "span": "run", "name": "flow" }));
    story.tell("span_start", &of_step, json!({ "span": "step", "name": "read", "attempt": 2 }));
    let allowed = json!({ "capability_id": "model.infer", "resource": "default", "decision_outcome": "allow",
        "rule": { "file": "policy.toml", "line": 3 } });
    let decision = story.tell("capability_action", &of_step, allowed);
    let by = with(&of_step, "policy_decision_id", &decision);
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3 });
    story.tell(
        "llm_inference",
        &by,
        json!({ "model_id": "default", "token_usage": usage, "latency_ms": 7, "error": null }),
    );
    story.tell("capability_outcome", &by, json!({ "decision": decision, "result": "timeout", "duration_us": 9 }));
    let denied = json!({ "capability_id": "fs.write", "resource": "out/x", "decision_outcome": "deny", "reason": "not-granted" });
    story.tell("capability_action", &of_step, denied);
    story.tell("span_end", &of_step, json!({ "span": "step", "name": "read", "result": "ok", "duration_us": 50 }));
    story.tell("span_end", &of_run, json!({ "span": "run", "name": "flow", "result": "ok", "duration_us": 60 }));
    story.tell("span_end", &of_job, json!({ "span": "job", "name": "flow", "result": "ok", "duration_us": 70 }));
    assert_eq!(
        story.tree(),
        "Job flow: ok 70\n  \
           Event job_transition: queued -\n  \
           Run flow: ok 60\n    \
             Step read (attempt 2): ok 50\n      \
               Decision model.infer default: allow, then timeout 9\n        \
                 ModelCall default: ok 7000\n      \
               Decision fs.write out/x: deny: not-granted -\n"
    );
}

#[test]
fn what_is_left_of_an_old_trace_is_still_a_tree() {
    let mut story = Story::new();
    let (job, run, step, decision) = (story.id(), story.id(), story.id(), story.id());
    let of_step =
        json!({ "job_id": job, "workflow_run_id": run, "activity_span_id": step, "policy_decision_id": decision });
    story.tell("capability_outcome", &of_step, json!({ "decision": decision, "result": "ok", "duration_us": 9 }));
    story.tell("span_end", &of_step, json!({ "span": "step", "name": "read", "result": "ok", "duration_us": 500 }));
    story.tell("system", &json!({}), json!({ "kind": "note", "detail": "x" }));
    assert_eq!(story.tree(), "Event capability_outcome: ok 9\nStep read: ok 500\nEvent system: note -\n");
}

#[test]
fn a_job_that_is_tried_again_is_one_node_with_both_runs() {
    let mut story = Story::new();
    let (job, first, second) = (story.id(), story.id(), story.id());
    for run in [&first, &second] {
        let of = |span: &String| json!({ "job_id": job, "workflow_run_id": run, "activity_span_id": span });
        story.tell("span_start", &of(&job), json!({ "span": "job", "name": "flow" }));
        story.tell("span_start", &of(run), json!({ "span": "run", "name": "flow" }));
        story.tell(
            "span_end",
            &of(run),
            json!({ "span": "run", "name": "flow", "result": "failed", "duration_us": 1 }),
        );
    }
    assert_eq!(story.tree(), "Job flow: - -\n  Run flow: failed 1\n  Run flow: failed 1\n");
}
