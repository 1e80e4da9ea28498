//! Lengths of time, defaults, and keys that do not exist.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

#[test]
fn lengths_of_time_are_read_and_written_back() {
    for (text, expected) in [
        ("500ms", Duration::from_millis(500)),
        ("1s", Duration::from_secs(1)),
        ("5m", Duration::from_secs(300)),
        ("24h", Duration::from_secs(86_400)),
        ("1m 30s", Duration::from_secs(90)),
    ] {
        let period: Period = serde_json::from_value(json!(text)).unwrap();
        assert_eq!(period, Period(expected), "{text}");
        let again: Period = serde_json::from_value(serde_json::to_value(period).unwrap()).unwrap();
        assert_eq!(again, period);
    }
}

#[test]
fn what_is_not_a_length_of_time_is_named_with_an_example() {
    for bad in ["", "soon", "5", "-1s", "1 parsec", "99999999999999999999h"] {
        let error = serde_json::from_value::<Period>(json!(bad)).unwrap_err().to_string();
        assert!(error.contains(&format!("`{bad}`")) && error.contains("`5m`"), "{error}");
    }
    assert!(serde_json::from_value::<Period>(json!(5)).is_err());
}

#[test]
fn a_minimal_workflow_gets_the_careful_defaults() {
    let workflow: Workflow =
        serde_json::from_value(json!({ "name": "w", "steps": [{ "id": "a", "uses": "read-folder" }] })).unwrap();
    assert_eq!(workflow.job.access_mode, AccessMode::AnalysisOnly);
    assert_eq!(workflow.job.safety_mode, SafetyMode::Normal);
    assert_eq!(workflow.job.profile, ProfileId::analyst());
    assert!(workflow.steps[0].grants.is_empty());
    let back: Workflow = serde_json::from_value(serde_json::to_value(&workflow).unwrap()).unwrap();
    assert_eq!(back, workflow);
}

#[test]
fn inputs_and_mounts_keep_the_order_of_the_file() {
    let text = r#"{"name":"w","inputs":{"z":{"type":"string"},"a":{"type":"integer"}},"steps":[]}"#;
    let workflow: Workflow = serde_json::from_str(text).unwrap();
    assert_eq!(workflow.inputs.keys().collect::<Vec<_>>(), ["z", "a"]);
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    for workflow in [
        json!({ "name": "w", "steps": [], "step": [] }),
        json!({ "name": "w", "steps": [], "job": { "mode": "apply_scoped" } }),
        json!({ "name": "w", "steps": [{ "id": "a", "uses": "b", "grant": [] }] }),
        json!({ "name": "w", "steps": [{ "id": "a", "uses": "b", "retry": { "attempts": 2, "wait": "1s" } }] }),
        json!({ "name": "w", "steps": [], "mounts": { "in": { "path": "x", "access": "read", "deep": true } } }),
        json!({ "name": "w", "steps": [], "inputs": { "x": { "type": "string", "optional": true } } }),
    ] {
        let error = serde_json::from_value::<Workflow>(workflow.clone()).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{workflow}: {error}");
    }
}

#[test]
fn a_grant_of_an_unknown_capability_is_refused() {
    let workflow = json!({ "name": "w", "steps": [{ "id": "a", "uses": "b", "grants": ["fs.reed:in"] }] });
    let error = serde_json::from_value::<Workflow>(workflow).unwrap_err().to_string();
    assert!(error.contains("HSK-4001: UnknownCapability `fs.reed:in`"), "{error}");
}
