#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

/// A finished job with one run whose attempts are (step, attempt, state, error kind).
fn details(state: &str, attempts: &[(&str, u32, &str, Option<&str>)]) -> JobDetails {
    let id = "0198f3a2-7c11-7000-8000-0123456789ab";
    let time = "2026-01-01T00:00:00.000000Z";
    let zero = "0".repeat(64);
    let nodes: Vec<_> = attempts
        .iter()
        .map(|(step, attempt, state, error)| {
            json!({
                "run_id": id, "node": { "step": step, "index": null }, "attempt": attempt, "state": state, "plugin": null,
                "component_sha256": null, "input": null, "output": null,
                "error": error.map(|kind| json!({ "kind": kind, "message": "m" })),
                "random_seed": zero, "started_at": time, "finished_at": time
            })
        })
        .collect();
    serde_json::from_value(json!({
        "job": {
            "job_id": id, "trace_id": id, "workflow_run_id": id, "job_kind": "workflow_run", "state": state, "protocol_id": "p",
            "profile_id": "default", "capability_profile_id": "analyst", "access_mode": "apply_scoped", "safety_mode": "normal",
            "entity_refs": [], "planned_operations": [], "metrics": {}, "status_reason": "because", "created_at": time,
            "updated_at": time, "error_message": null, "job_inputs": {}, "job_outputs": null, "is_pinned": false, "parent_job_id": null
        },
        "runs": [{
            "run": {
                "run_id": id, "job_id": id, "trace_id": id, "state": "failed", "workflow": {},
                "pinned": { "workflow": zero, "policy": zero, "plugins": {} }, "inputs": {}, "base": "/", "host": null, "fence": 1,
                "heartbeat_at": null, "error": null, "created_at": time, "updated_at": time
            },
            "nodes": nodes
        }]
    }))
    .unwrap()
}

fn exit(details: &JobDetails) -> u8 {
    match outcome(details) {
        Ok(exit) => exit.code(),
        Err(error) => error.exit.code(),
    }
}

#[test]
fn the_exit_code_follows_the_state_of_the_job() {
    let codes: Vec<_> =
        JobState::ALL.iter().map(|state| (state.as_str(), exit(&details(state.as_str(), &[])))).collect();
    let expected = [
        ("queued", 70),
        ("running", 70),
        ("stalled", 4),
        ("awaiting_validation", 4),
        ("awaiting_user", 4),
        ("completed", 0),
        ("completed_with_issues", 0),
        ("failed", 1),
        ("cancelled", 1),
        ("poisoned", 1),
    ];
    assert_eq!(codes, expected);
}

#[test]
fn a_job_that_failed_because_a_step_was_denied_exits_with_3() {
    assert_eq!(exit(&details("failed", &[("a", 1, "completed", None), ("b", 1, "failed", Some("denied"))])), 3);
    assert_eq!(exit(&details("failed", &[("a", 1, "failed", Some("trap"))])), 1);
}

#[test]
fn a_denial_that_a_later_attempt_made_good_does_not_count() {
    let attempts = [("a", 1, "failed", Some("denied")), ("a", 2, "completed", None), ("b", 1, "failed", Some("trap"))];
    assert_eq!(exit(&details("failed", &attempts)), 1);
}

#[test]
fn inputs_are_split_at_the_first_equals_sign() {
    assert_eq!(parse_input("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
    assert_eq!(parse_input("a=").unwrap(), ("a".to_owned(), String::new()));
    assert!(parse_input("=b").is_err() && parse_input("ab").is_err());
}

#[test]
fn lines_of_the_stream_are_updates_or_the_last_word() {
    let update = json!({
        "run_id": "0198f3a2-7c11-7000-8000-0123456789ab", "job_id": "0198f3a2-7c11-7000-8000-0123456789ab",
        "at": "2026-01-01T00:00:00.000000Z", "update": "node_finished", "node": { "step": "read", "index": 2 },
        "attempt": 1, "result": "completed", "error": null, "will_retry": false
    });
    assert!(matches!(serde_json::from_value(update).unwrap(), Line::Update(_)));
    assert!(matches!(serde_json::from_str(&CliError::internal("x").to_json()).unwrap(), Line::Failed { .. }));
}
