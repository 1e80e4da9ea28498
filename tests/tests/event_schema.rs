//! The JSON Schema of events: every stored event conforms to it, and it changes by adding alone.
//!
//! `schemas/events-0.1.json` is what version 0.1 was published with. It is never edited; a version that adds
//! something gets a file of its own beside it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use handshake_core::event::{AdmittedEvent, EventType, events_schema};
use handshake_core::testing::{NoRedaction, sample_events};
use handshake_tests::binary::Project;
use serde_json::{Value, json};

fn published() -> Value {
    serde_json::from_str(include_str!("../schemas/events-0.1.json")).unwrap()
}

fn current() -> Value {
    serde_json::to_value(events_schema()).unwrap()
}

/// What readers of the earlier schema would stumble over in the later one.
fn breaks(earlier: &Value, later: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Comparison { earlier, later, found: &mut found }.compare(earlier, later, "");
    found
}

struct Comparison<'a> {
    earlier: &'a Value,
    later: &'a Value,
    found: &'a mut Vec<String>,
}

impl Comparison<'_> {
    fn compare(&mut self, earlier: &Value, later: &Value, path: &str) {
        let (earlier, later) = (resolved(self.earlier, earlier), resolved(self.later, later));
        for word in ["type", "const", "format", "pattern"] {
            if earlier.get(word) != later.get(word) {
                self.found.push(format!("{path}: `{word}` was {:?} and is {:?}", earlier.get(word), later.get(word)));
            }
        }
        for word in ["enum"] {
            for value in earlier[word].as_array().into_iter().flatten() {
                if !later[word].as_array().is_some_and(|values| values.contains(value)) {
                    self.found.push(format!("{path}: {value} is gone"));
                }
            }
        }
        for word in ["oneOf", "anyOf"] {
            for choice in earlier[word].as_array().into_iter().flatten() {
                let name = name_of(resolved(self.earlier, choice));
                let same = |other: &&Value| name_of(resolved(self.later, other)) == name;
                match later[word].as_array().into_iter().flatten().find(same) {
                    Some(other) => self.compare(choice, other, &format!("{path}<{name}>")),
                    None => self.found.push(format!("{path}: {name} is gone")),
                }
            }
        }
        for word in ["items", "additionalProperties"] {
            if let (Some(one), Some(other)) = (earlier.get(word), later.get(word)) {
                self.compare(one, other, &format!("{path}[]"));
            } else if earlier.get(word).is_some() != later.get(word).is_some() {
                self.found.push(format!("{path}: `{word}` came or went"));
            }
        }
        let (needed, needs) = (required(earlier), required(later));
        for name in needed.symmetric_difference(&needs) {
            let what = if needs.contains(name) { "is needed now" } else { "need not be there any more" };
            self.found.push(format!("{path}.{name} {what}"));
        }
        for (name, field) in earlier["properties"].as_object().into_iter().flatten() {
            match later["properties"].get(name) {
                Some(other) => self.compare(field, other, &format!("{path}.{name}")),
                None => self.found.push(format!("{path}.{name} is gone")),
            }
        }
    }
}

/// The schema behind a reference.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).expect("references lead somewhere"),
        None => schema,
    }
}

/// By what a choice is recognised.
fn name_of(schema: &Value) -> String {
    [&schema["properties"]["event_type"]["const"], &schema["const"], &schema["type"], &schema["title"]]
        .into_iter()
        .find(|name| !name.is_null())
        .map_or_else(|| "a choice".to_owned(), Value::to_string)
}

fn required(schema: &Value) -> BTreeSet<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn events_change_by_adding_alone() {
    assert_eq!(breaks(&published(), &current()), [] as [String; 0]);
}

/// Finds the part of the schema that describes the payload of a type.
fn payload<'a>(schema: &'a mut Value, event_type: &str) -> &'a mut Value {
    let choices = schema["oneOf"].as_array().unwrap();
    let at = choices.iter().position(|choice| choice["properties"]["event_type"]["const"] == event_type).unwrap();
    match choices[at]["properties"]["payload"]["$ref"].as_str().map(str::to_owned) {
        Some(path) => schema.pointer_mut(path.trim_start_matches('#')).unwrap(),
        None => &mut schema["oneOf"][at]["properties"]["payload"],
    }
}

#[test]
fn every_change_that_is_no_addition_is_found() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("a type goes", |schema| drop(schema["oneOf"].as_array_mut().unwrap().remove(3))),
        ("a field of the envelope goes", |schema| {
            schema["properties"].as_object_mut().unwrap().remove("wsids").unwrap();
        }),
        ("a field of a payload goes", |schema| {
            let payload = payload(schema, "gap");
            payload["properties"].as_object_mut().unwrap().remove("last_hash").unwrap();
        }),
        ("an optional field is needed", |schema| {
            payload(schema, "sign_off")["required"].as_array_mut().unwrap().push(json!("head_hash"));
        }),
        ("a needed field becomes optional", |schema| {
            payload(schema, "gap")["required"].as_array_mut().unwrap().pop().unwrap();
        }),
        ("a field gets another type", |schema| {
            payload(schema, "capability_action")["properties"]["call"]["type"] = json!("string");
        }),
        ("a new field is needed", |schema| {
            let payload = payload(schema, "span_start");
            payload["properties"]["later"] = json!({ "type": "string" });
            payload["required"].as_array_mut().unwrap().push(json!("later"));
        }),
        ("a value of an enum goes", |schema| {
            drop(schema["$defs"]["ActorKind"]["oneOf"].as_array_mut().unwrap().remove(0));
        }),
        ("an id is any text", |schema| {
            schema["properties"]["event_id"].as_object_mut().unwrap().remove("format").unwrap();
        }),
    ];
    for (what, change) in changes {
        let mut later = published();
        change(&mut later);
        assert!(!breaks(&published(), &later).is_empty(), "{what}");
    }
}

#[test]
fn additions_are_allowed() {
    let mut later = published();
    later["properties"]["later"] = json!({ "type": ["string", "null"] });
    payload(&mut later, "gap")["properties"]["later"] = json!({ "type": "integer" });
    later["oneOf"].as_array_mut().unwrap().push(json!({
        "type": "object",
        "properties": { "event_type": { "type": "string", "const": "later" }, "payload": { "type": "object" } },
        "required": ["event_type", "payload"],
    }));
    assert_eq!(breaks(&published(), &later), [] as [String; 0]);
}

#[test]
fn every_stored_event_conforms_and_others_do_not() {
    let validator = jsonschema::options().should_validate_formats(true).build(&current()).expect("the schema is one");
    for event in sample_events() {
        let admitted = AdmittedEvent::admit(&event, &NoRedaction, event.timestamp).unwrap();
        let stored: Value = serde_json::from_str(admitted.json()).unwrap();
        let problems: Vec<_> = validator.iter_errors(&stored).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{}: {problems:?}", event.body.event_type());

        let spoiled = |pointer: &str, value: Value| {
            let mut stored = stored.clone();
            *stored.pointer_mut(pointer).unwrap() = value;
            stored
        };
        assert!(!validator.is_valid(&spoiled("/event_type", json!("something_else"))));
        assert!(!validator.is_valid(&spoiled("/payload", json!({}))), "{}", event.body.event_type());
        assert!(!validator.is_valid(&spoiled("/event_id", json!("1"))));
        assert!(!validator.is_valid(&spoiled("/timestamp", json!("yesterday"))));
        assert!(!validator.is_valid(&spoiled("/actor/kind", json!("robot"))));
        let mut without = stored.clone();
        without.as_object_mut().unwrap().remove("trace_id");
        assert!(!validator.is_valid(&without));
    }
}

#[test]
fn the_command_prints_the_schema_with_version_and_aliases() {
    let printed = Project::bare().run(&["schema", "events"]).success().json();
    assert_eq!(printed, current());
    assert_eq!(printed["version"], "0.1");
    let types: BTreeSet<_> = printed["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["properties"]["event_type"]["const"].as_str().unwrap())
        .collect();
    assert_eq!(types, EventType::ALL.iter().map(|kind| kind.as_str()).collect());
    assert_eq!(printed["x-aliases"]["capability_action"], "FR-EVT-007");
}
