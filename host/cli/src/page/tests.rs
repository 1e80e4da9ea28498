#![allow(clippy::unwrap_used)]

use handshake_core::event::Outcome;
use handshake_recorder::DecisionLine;
use serde_json::{Value, json};

use super::*;

/// What a guest could try.
const EVIL: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u{202e}\u{1b}[31m&quot;' \"";

fn report(text: &str, decisions: usize) -> ReportData {
    let id = "0198f3a2-7c11-7000-8000-0123456789ab";
    let (zero, time) = ("0".repeat(64), "2026-01-01T10:11:12.345678Z");
    let line = |n: usize| DecisionLine {
        seq: n as u64 + 1,
        event_id: id.parse().unwrap(),
        recorded_at: Timestamp::parse(time).unwrap(),
        actor: text.to_owned(),
        step: text.to_owned(),
        attempt: 1,
        call: n as u64 + 1,
        capability: "fs.read".to_owned(),
        resource: format!("{text}{n}"),
        outcome: Outcome::Deny,
        reason: Some("not-granted".to_owned()),
        layer: "grant".to_owned(),
        rule: Some(format!("{text}:1")),
        would_deny: false,
    };
    let decisions: Vec<Value> = (0..decisions).map(|n| serde_json::to_value(line(n)).unwrap()).collect();
    let verification = json!({
        "host": id, "finding": null, "dropped_to": 0, "segments": 0, "segment_records": 0, "outbox_records": 1, "rows": 1,
        "seq": 1, "hash": zero, "recorded_at": time, "outside_head": null, "self_consistent_only": true
    });
    serde_json::from_value(json!({
        "made_at": time, "version": "0.1.0", "decisions_total": decisions.len(), "decisions": decisions,
        "denials": { "not-granted": 1 }, "sign_offs": [], "verification": verification, "incomplete_before": null,
        "violations": [{ "host": id, "seq": 1, "recorded_at": time, "hash": zero, "event": { "payload": { "kind": text, "detail": text } } }],
        "models": [{ "model": text, "step": text, "calls": 1, "failed": 0, "prompt_tokens": 1, "completion_tokens": 2, "latency_ms": 3 }],
        "attempts": [{ "step": text, "attempt": 2, "plugin": text, "state": "failed", "error": text, "started_at": time, "finished_at": time }],
        "matrix": { "runs": 1, "more_runs": false, "new_is_known": true, "rows": [{ "plugin": text, "capability": "fs.read", "allowed": 0, "denied": 1,
            "would_deny": 0, "denied_reasons": { text: 1 }, "declared": [text], "granted": [text], "unused_grants": [text],
            "new_resources": [text], "new_resources_total": 1 }] },
        "run": { "run_id": id, "job_id": id, "trace_id": id, "workflow": text, "state": "failed", "job_state": "failed", "reason": text,
            "error": text, "profile": "analyst", "access_mode": "analysis_only", "safety_mode": "normal",
            "metrics": serde_json::to_value(handshake_core::job::JobMetrics::default()).unwrap(),
            "pinned": { "workflow": zero, "policy": zero, "plugins": { text: { "manifest": zero, "component": zero } } },
            "created_at": time, "updated_at": time }
    }))
    .unwrap()
}

#[test]
fn nothing_that_a_guest_chose_becomes_markup_wherever_it_stands() {
    let page = render(&report(EVIL, 3)).unwrap();
    assert_eq!(page.matches("<script").count(), 2, "the data and the page's own");
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<img"));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;"));
    let (_, data) = page.split_once("type=\"application/json\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    assert!(!data.contains(['<', '>', '&']));
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["rows"].as_array().unwrap().len(), 3);
    assert!(data["texts"].as_array().unwrap().iter().any(|text| text.as_str().unwrap().starts_with("</script>")));
}

#[test]
fn the_page_needs_nothing_else_and_lets_no_other_script_run() {
    let page = render(&report("plain", 1)).unwrap();
    for outside in ["http://", "https://", "src=", "@import", "url(", " style=", " onclick="] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'") || page.contains("default-src &#39;none&#39;"), "{}", &page[..600]);
    assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("insertAdjacent") && !SCRIPT.contains("eval"));
    assert!(!SCRIPT.contains("</") && !STYLE.contains("</"));
}

#[test]
fn many_decisions_with_the_same_names_take_little_room() {
    let page = render(&report("plain", 50_000)).unwrap();
    assert!(page.len() < 8 << 20, "{} bytes", page.len());
}
