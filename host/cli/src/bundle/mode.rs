//! What each mode shows, and the counting of what it hides.

use std::collections::BTreeMap;

use handshake_core::event::{RedactionMode, RedactionScope, Redactor};
use serde_json::{Map, Value};

/// Fields of a job that are no payload. A field that is not listed is left out of SAFE_DEFAULT: forgetting one hides too
/// much, never too little. The same goes for the lists below.
const JOB: &[&str] = &[
    "job_id",
    "trace_id",
    "workflow_run_id",
    "job_kind",
    "state",
    "protocol_id",
    "profile_id",
    "capability_profile_id",
    "access_mode",
    "safety_mode",
    "metrics",
    "status_reason",
    "created_at",
    "updated_at",
    "error_message",
    "is_pinned",
    "parent_job_id",
];
/// Fields of a run.
const RUN: &[&str] = &[
    "run_id",
    "job_id",
    "trace_id",
    "state",
    "pinned",
    "host",
    "recoveries",
    "wake_at",
    "error",
    "created_at",
    "updated_at",
];
/// Fields of an attempt of a node.
const NODE: &[&str] =
    &["run_id", "node", "attempt", "state", "plugin", "component_sha256", "error", "started_at", "finished_at"];
/// Fields of events that the host makes: no rule applies to them, as when they were recorded.
const MADE_BY_HOST: &[&str] = &[
    "host",
    "seq",
    "recorded_at",
    "hash",
    "event_id",
    "event_type",
    "timestamp",
    "trace_id",
    "job_id",
    "workflow_run_id",
    "run_id",
    "activity_span_id",
    "session_span_id",
    "policy_decision_id",
];

/// What a piece of the bundle is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Job,
    Run,
    Node,
    Event,
    Log,
    Report,
}

/// Shows values as a mode has them.
pub(super) struct View<'a> {
    mode: RedactionMode,
    redactor: &'a dyn Redactor,
    /// How often each rule fired, by file.
    pub(super) fired: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

impl<'a> View<'a> {
    pub(super) fn new(mode: RedactionMode, redactor: &'a dyn Redactor) -> Self {
        Self { mode, redactor, fired: BTreeMap::new() }
    }

    /// The value as it goes into a file.
    pub(super) fn of(&mut self, file: &str, part: Part, value: Value) -> Value {
        let shown = match part {
            Part::Job => JOB,
            Part::Run => RUN,
            Part::Node => NODE,
            Part::Event | Part::Log | Part::Report => &[],
        };
        let value = match value {
            Value::Object(fields) if self.mode == RedactionMode::SafeDefault && !shown.is_empty() => {
                Value::Object(fields.into_iter().filter(|(name, _)| shown.contains(&name.as_str())).collect())
            }
            value => value,
        };
        if self.mode == RedactionMode::FullLocal { value } else { self.clean(file, value) }
    }

    fn clean(&mut self, file: &str, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(file, text)),
            Value::Array(values) => Value::Array(values.into_iter().map(|value| self.clean(file, value)).collect()),
            Value::Object(fields) => {
                let mut clean = Map::new();
                for (name, value) in fields {
                    let value = if MADE_BY_HOST.contains(&name.as_str()) && is_made(&value) {
                        value
                    } else {
                        self.clean(file, value)
                    };
                    clean.insert(self.text(file, name), value);
                }
                Value::Object(clean)
            }
            other => other,
        }
    }

    fn text(&mut self, file: &str, text: String) -> String {
        let Some((clean, rules)) = self.redactor.redact(RedactionScope::Metadata, &text) else { return text };
        let fired = self.fired.entry(file.to_owned()).or_default();
        for rule in rules {
            *fired.entry(rule).or_default() += 1;
        }
        clean
    }
}

/// Whether a value has the form of an id, a hash, a time, a number or a label, whatever the field is called: a payload
/// may have fields of the same names.
fn is_made(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let word = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            word || hash || text.parse::<uuid::Uuid>().is_ok() || handshake_core::Timestamp::parse(text).is_some()
        }
        Value::Number(_) | Value::Null => true,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_recorder::Redaction;
    use serde_json::json;

    use super::*;

    fn shown(mode: RedactionMode, part: Part, value: Value) -> Value {
        View::new(mode, &Redaction::default()).of("x.json", part, value)
    }

    #[test]
    fn the_safe_mode_shows_no_field_that_is_not_listed() {
        let job = json!({ "job_id": "0198f3a2-7c11-7000-8000-0123456789ab", "job_inputs": { "a": 1 }, "later": 1 });
        let safe = shown(RedactionMode::SafeDefault, Part::Job, job.clone());
        assert_eq!(safe, json!({ "job_id": "0198f3a2-7c11-7000-8000-0123456789ab" }));
        assert_eq!(shown(RedactionMode::Workspace, Part::Job, job.clone()), job);
    }

    #[test]
    fn what_a_detector_finds_is_hidden_in_values_and_names_except_in_the_local_mode() {
        let value = json!({
            "seq": 7,
            "event_type": "mail bob@example.com",
            "a": ["see /home/bob/secret.txt", { "ada@example.com": true }]
        });
        for mode in [RedactionMode::SafeDefault, RedactionMode::Workspace] {
            let text = shown(mode, Part::Event, value.clone()).to_string();
            assert!(
                !text.contains("bob") && !text.contains("ada@") && text.contains("[REDACTED:pii:pii_email]"),
                "{text}"
            );
        }
        assert_eq!(shown(RedactionMode::FullLocal, Part::Event, value.clone()), value);
    }
}
