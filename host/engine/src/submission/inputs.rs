//! Inputs of a workflow: names, types, defaults. Their values are data; nothing in them is ever evaluated.

use std::collections::BTreeMap;

use handshake_core::workflow::{InputSpec, InputType, Map};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::workflow::{accepts, input_type, type_name};

/// The value of an input as it was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputValue {
    /// From a command line; converted to the declared type. Lists and objects are written as JSON.
    Text(String),
    /// Already typed.
    Json(Value),
}

/// An input that is not right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("input `{name}`: {what}")]
pub struct InputError {
    name: String,
    what: String,
    remedy: String,
}

impl InputError {
    pub(super) fn new(name: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.to_owned(), what: what.into(), remedy: remedy.into() }
    }

    /// What to do about it, with the inputs that there are.
    pub fn hint(&self) -> &str {
        &self.remedy
    }
}

/// The inputs of a run: what was given, converted and checked, and defaults for the rest.
pub(super) fn resolve(declared: &Map<InputSpec>, mut given: BTreeMap<String, InputValue>) -> Result<Value, InputError> {
    let listed = || {
        let inputs = declared.iter().map(|(name, spec)| match &spec.default {
            Some(default) => format!("`{name}` ({}, by default {})", input_type(spec.kind), shortened(default)),
            None => format!("`{name}` ({}, required)", input_type(spec.kind)),
        });
        let inputs: Vec<_> = inputs.collect();
        if inputs.is_empty() {
            "this workflow has no inputs".to_owned()
        } else {
            format!("its inputs are {}", inputs.join(", "))
        }
    };
    if let Some(name) = given.keys().find(|name| !declared.contains_key(*name)) {
        let near = crate::nearest::nearest(name, declared.keys().map(String::as_str));
        let remedy = near.map_or_else(listed, |near| format!("did you mean `{near}`? {}", listed()));
        return Err(InputError { name: name.clone(), what: "the workflow does not have it".into(), remedy });
    }
    let mut values = serde_json::Map::new();
    for (name, spec) in declared {
        let error = |what: String| InputError { name: name.clone(), what, remedy: listed() };
        let value = match (given.remove(name), &spec.default) {
            (Some(InputValue::Text(text)), _) => convert(spec.kind, text).map_err(error)?,
            (Some(InputValue::Json(value)), _) => value,
            (None, Some(default)) => default.clone(),
            (None, None) => return Err(error("it is required and was not given".into())),
        };
        if !accepts(spec.kind, &value) {
            return Err(error(format!(
                "it must be of type {}, and {} was given",
                input_type(spec.kind),
                type_name(&value)
            )));
        }
        values.insert(name.clone(), value);
    }
    Ok(Value::Object(values))
}

fn convert(kind: InputType, text: String) -> Result<Value, String> {
    let refuse = |what: &str| format!("`{}` is not {what}", shortened(&Value::String(text.clone())).trim_matches('"'));
    match kind {
        InputType::String => Ok(Value::String(text)),
        InputType::Integer => text.trim().parse::<i64>().map(Value::from).map_err(|_| refuse("a whole number")),
        InputType::Number => {
            let number = text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            number.map(Value::Number).ok_or_else(|| refuse("a number"))
        }
        InputType::Boolean => match text.trim() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(refuse("`true` or `false`")),
        },
        InputType::List => serde_json::from_str(&text).map_err(|_| refuse("a JSON list such as [\"a\", \"b\"]")),
        InputType::Object => serde_json::from_str(&text).map_err(|_| refuse("a JSON object such as {\"a\": 1}")),
    }
}

/// JSON for a message.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(59).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn declared() -> Map<InputSpec> {
        let spec = |kind, default| InputSpec { kind, default, description: None };
        [
            ("folder".to_owned(), spec(InputType::String, Some(json!("docs")))),
            ("count".to_owned(), spec(InputType::Integer, None)),
            ("tags".to_owned(), spec(InputType::List, Some(json!([])))),
        ]
        .into()
    }

    fn given(inputs: &[(&str, InputValue)]) -> BTreeMap<String, InputValue> {
        inputs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn text(text: &str) -> InputValue {
        InputValue::Text(text.to_owned())
    }

    #[test]
    fn text_is_converted_to_the_declared_type_and_defaults_fill_the_rest() {
        let values = resolve(&declared(), given(&[("count", text("3")), ("tags", text("[\"a\"]"))])).unwrap();
        assert_eq!(values, json!({ "folder": "docs", "count": 3, "tags": ["a"] }));
    }

    #[test]
    fn wrong_inputs_are_refused_with_the_inputs_that_there_are() {
        let message = |inputs: &[(&str, InputValue)]| {
            let error = resolve(&declared(), given(inputs)).unwrap_err();
            format!("{error}; {}", error.hint())
        };
        insta::assert_snapshot!(message(&[("foldr", text("x"))]), @r##"input `foldr`: the workflow does not have it; did you mean `folder`? its inputs are `folder` (string, by default "docs"), `count` (integer, required), `tags` (list, by default [])"##);
        insta::assert_snapshot!(message(&[]), @r##"input `count`: it is required and was not given; its inputs are `folder` (string, by default "docs"), `count` (integer, required), `tags` (list, by default [])"##);
        insta::assert_snapshot!(message(&[("count", text("many"))]), @r##"input `count`: `many` is not a whole number; its inputs are `folder` (string, by default "docs"), `count` (integer, required), `tags` (list, by default [])"##);
        insta::assert_snapshot!(message(&[("count", InputValue::Json(json!("3")))]), @r##"input `count`: it must be of type integer, and string was given; its inputs are `folder` (string, by default "docs"), `count` (integer, required), `tags` (list, by default [])"##);
        insta::assert_snapshot!(message(&[("count", text("3")), ("tags", text("{}"))]), @r##"input `tags`: it must be of type list, and object was given; its inputs are `folder` (string, by default "docs"), `count` (integer, required), `tags` (list, by default [])"##);
    }
}
