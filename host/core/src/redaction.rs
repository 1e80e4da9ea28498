//! Redaction (R6.5): what is asked of whoever recognises secrets, and which part of an event is looked at how.

use std::borrow::Cow;

use serde_json::{Value, json};

/// What a piece of text is, which says what must not be in it. Each scope hides all that the one before it hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedactionScope {
    /// Names somebody or something: an actor, a host folder, a policy file. Only secrets go, since a record that does not
    /// say who did it, by which rule, is none.
    Identity,
    /// Written or asked for by people, documents or guests: log lines, errors, resources. Personal data goes, too.
    /// Paths and variables stay: whoever reads it must find the file, and what was asked for is the point.
    Text,
    /// Everything else of an event: absolute paths and values of environment variables go, too.
    Metadata,
}

/// Replaces what must not be written. Implemented by the recorder.
pub trait Redactor: Send + Sync {
    /// The text without it and the names of the rules that fired; none when nothing had to change. The list is empty
    /// when the text was only brought into Unicode's normal form.
    fn redact(&self, scope: RedactionScope, text: &str) -> Option<(String, Vec<&'static str>)>;

    /// The text as it may be written.
    fn clean<'a>(&self, scope: RedactionScope, text: &'a str) -> Cow<'a, str> {
        self.redact(scope, text).map_or(Cow::Borrowed(text), |(clean, _)| Cow::Owned(clean))
    }
}

/// Field of the envelope that lists which fields were redacted by which rules.
const REDACTIONS: &str = "redactions";
/// How many entries that list leaves out; absent when it is complete.
const OMITTED: &str = "redactions_omitted";
/// The most entries of the list. One guest-made field can set off dozens of rules in thousands of places, and the
/// record of that must not be larger than what was said.
const MOST_LISTED: usize = 64;

/// Fields of the envelope that hold text. All others are made by the host: ids, times, types.
const ENVELOPE: [(&str, RedactionScope); 6] = [
    ("payload", RedactionScope::Metadata),
    ("actor", RedactionScope::Identity),
    ("step_id", RedactionScope::Identity),
    ("model_id", RedactionScope::Text),
    ("capability_id", RedactionScope::Text),
    ("wsids", RedactionScope::Identity),
];

/// Fields of payloads, with all that is in them, that are not metadata. A field that is not listed is: forgetting one
/// hides too much, never too little.
const PAYLOAD: &[(&str, RedactionScope)] = &[
    ("actor_id", RedactionScope::Identity),
    // Names that guests ask for are part of these two.
    ("capability_id", RedactionScope::Text),
    ("model_id", RedactionScope::Text),
    // The record shows the host folder behind a mount.
    ("host_path", RedactionScope::Identity),
    // The policy's file and line.
    ("rule", RedactionScope::Identity),
    // A guest that asked for `/etc/shadow` did ask for it.
    ("resource", RedactionScope::Text),
];

/// Field whose names, too, come from guests: those of their metrics.
const NAMED_BY_GUESTS: &str = "metrics";

/// Redacts an event in place, and lists in it what was redacted.
pub(crate) fn redact_event(event: &mut Value, redactor: &dyn Redactor) {
    let mut log = Log::default();
    for (name, scope) in ENVELOPE {
        if let Some(part) = event.get_mut(name) {
            let place = Place { within: None, step: Step::Field(name) };
            redact(part, &place, scope, redactor, &mut log);
        }
    }
    let Some(fields) = event.as_object_mut() else { return };
    if !log.entries.is_empty() {
        fields.insert(REDACTIONS.to_owned(), Value::Array(log.entries));
    }
    if log.omitted > 0 {
        fields.insert(OMITTED.to_owned(), json!(log.omitted));
    }
}

#[derive(Default)]
struct Log {
    entries: Vec<Value>,
    omitted: u64,
}

impl Log {
    fn add(&mut self, place: &Place<'_>, rules: Vec<&'static str>) {
        for rule in rules {
            if self.entries.len() < MOST_LISTED {
                self.entries.push(json!({ "field": place.to_string(), "rule": rule }));
            } else {
                self.omitted += 1;
            }
        }
    }
}

/// Where a value stands. It is put into words only when something was found there.
struct Place<'a> {
    within: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

impl Place<'_> {
    fn depth(&self) -> usize {
        std::iter::successors(self.within, |place| place.within).count()
    }

    /// Whether this is that field of the payload itself.
    fn is_payload_field(&self, name: &str) -> bool {
        let payload = |place: &Place<'_>| matches!(place.step, Step::Field("payload")) && place.within.is_none();
        matches!(self.step, Step::Field(it) if it == name) && self.within.is_some_and(payload)
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(within) = self.within {
            within.fmt(f)?;
        }
        match self.step {
            Step::Field(name) if self.depth() == 0 => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Item(at) => write!(f, "[{at}]"),
        }
    }
}

fn redact(value: &mut Value, place: &Place<'_>, scope: RedactionScope, redactor: &dyn Redactor, log: &mut Log) {
    match value {
        Value::String(text) => {
            // No database stores U+0000, and what a guest tried must be on record all the same.
            if text.contains('\0') {
                *text = text.replace('\0', "\u{2400}");
            }
            if let Some((clean, rules)) = redactor.redact(scope, text) {
                *text = clean;
                log.add(place, rules);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                redact(item, &Place { within: Some(place), step: Step::Item(at) }, scope, redactor, log);
            }
        }
        Value::Object(fields) => {
            if place.is_payload_field(NAMED_BY_GUESTS) {
                let dirty: Vec<_> =
                    fields.keys().filter_map(|name| Some((name.clone(), redactor.redact(scope, name)?))).collect();
                for (name, (clean, rules)) in dirty {
                    if let Some(value) = fields.remove(&name) {
                        fields.insert(clean, value);
                        log.add(place, rules);
                    }
                }
            }
            let in_payload = place.within.is_none() && matches!(place.step, Step::Field("payload"));
            for (name, field) in fields.iter_mut() {
                if matches!(field, Value::String(_) | Value::Array(_) | Value::Object(_)) {
                    let known = PAYLOAD.iter().find(|(known, _)| in_payload && known == name);
                    let scope = known.map_or(scope, |(_, scope)| *scope);
                    redact(field, &Place { within: Some(place), step: Step::Field(name) }, scope, redactor, log);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Says in which scope it was asked.
    struct Scopes;

    impl Redactor for Scopes {
        fn redact(&self, scope: RedactionScope, text: &str) -> Option<(String, Vec<&'static str>)> {
            let rules = if text == "plain" { vec![] } else { vec!["one", "two"] };
            Some((format!("{scope:?}"), rules))
        }
    }

    #[test]
    fn each_field_is_looked_at_in_its_scope_and_unknown_ones_in_the_strictest() {
        let mut event = json!({
            "event_id": "kept", "event_type": "kept", "timestamp": "kept",
            "actor": { "id": "plain" }, "model_id": "plain", "wsids": ["plain"],
            "payload": {
                "resource": "plain", "host_path": "plain", "rule": { "file": "plain", "line": 1 }, "actor_id": "plain",
                "detail": "plain", "new": { "resource": "plain", "list": [["plain"]] }
            }
        });
        redact_event(&mut event, &Scopes);
        assert_eq!(
            event,
            json!({
                "event_id": "kept", "event_type": "kept", "timestamp": "kept",
                "actor": { "id": "Identity" }, "model_id": "Text", "wsids": ["Identity"],
                "payload": {
                    "resource": "Text", "host_path": "Identity", "rule": { "file": "Identity", "line": 1 },
                    "actor_id": "Identity",
                    "detail": "Metadata", "new": { "resource": "Metadata", "list": [["Metadata"]] }
                }
            })
        );
    }

    #[test]
    fn the_list_of_redactions_has_an_end() {
        let mut event = json!({ "payload": { "ops": vec!["x"; 1000] } });
        redact_event(&mut event, &Scopes);
        let listed = event["redactions"].as_array().unwrap();
        assert_eq!(listed.len(), MOST_LISTED);
        assert_eq!(listed[63], json!({ "field": "payload.ops[31]", "rule": "two" }));
        assert_eq!(event["redactions_omitted"], 2000 - 64);
    }
}
