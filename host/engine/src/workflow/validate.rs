//! Checks of a workflow's structure that its types cannot express.

use std::collections::BTreeMap;

use handshake_core::capability::Axis;
use handshake_core::mount::{MountAccess, is_mount_name};
use handshake_core::step::PluginRequest;
use handshake_core::workflow::{InputType, Step, Workflow};
use serde_json::Value;

use super::problem::{Place, Problem};
use crate::nearest::suggest;

/// The most steps of a workflow.
const MAX_STEPS: usize = 1_000;

/// The type of a value, in the words of workflow files.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Whether an input of this type takes the value.
pub(crate) fn accepts(kind: InputType, value: &Value) -> bool {
    match kind {
        InputType::String => value.is_string(),
        InputType::Integer => value.is_i64() || value.is_u64(),
        InputType::Number => value.is_number(),
        InputType::Boolean => value.is_boolean(),
        InputType::List => value.is_array(),
        InputType::Object => value.is_object(),
    }
}

/// Checks names, ranges, types of defaults and grants.
pub(super) fn structure(workflow: &Workflow) -> Result<(), Problem> {
    let top = Place::default();
    if workflow.name.trim().is_empty() {
        return Err(Problem::at(top.key("name"), "the name is empty", "say in a few words what the workflow does"));
    }
    for (name, input) in &workflow.inputs {
        if let Some(default) = input.default.as_ref().filter(|default| !accepts(input.kind, default)) {
            let place = top.key("inputs").key(name).key("default");
            let what = format!(
                "the default is of type {}, and the input of type {}",
                type_name(default),
                input_type(input.kind)
            );
            return Err(Problem::at(place, what, "change one of the two"));
        }
    }
    for name in workflow.mounts.keys() {
        if !is_mount_name(name) {
            let what = format!("`{name}` is not a valid mount name");
            return Err(Problem::at(
                top.key("mounts").key(name),
                what,
                "use 1 to 32 of `a-z`, `0-9`, `_` and `-`, beginning with a letter or digit",
            ));
        }
    }
    if workflow.steps.is_empty() {
        return Err(Problem::at(
            top.key("steps"),
            "the workflow has no steps",
            "add one: `- { id: read, uses: read-folder }`",
        ));
    }
    if workflow.steps.len() > MAX_STEPS {
        let what = format!("the workflow has {} steps; {MAX_STEPS} is the most", workflow.steps.len());
        return Err(Problem::at(top.key("steps"), what, "use `for_each` to repeat a step"));
    }
    let mut seen = BTreeMap::new();
    for (at, step) in workflow.steps.iter().enumerate() {
        if let Some(first) = seen.insert(&step.id, at) {
            let what = format!("step id `{}` is there twice, first at steps[{first}]", step.id);
            return Err(Problem::at(Place::step(at).key("id"), what, "give each step an id of its own"));
        }
        self::step(workflow, &Place::step(at), step)?;
    }
    Ok(())
}

/// The name of an input's type, as files write it.
pub(crate) fn input_type(kind: InputType) -> &'static str {
    match kind {
        InputType::String => "string",
        InputType::Integer => "integer",
        InputType::Number => "number",
        InputType::Boolean => "boolean",
        InputType::List => "list",
        InputType::Object => "object",
    }
}

fn step(workflow: &Workflow, place: &Place, step: &Step) -> Result<(), Problem> {
    if let Err(what) = step.uses.parse::<PluginRequest>() {
        return Err(Problem::at(place.key("uses"), what, "write a plugin id, `id@0.1` or `id@0.1.0`"));
    }
    if let Some(parallel) = step.max_parallel {
        if !(1..=64).contains(&parallel) {
            return Err(Problem::at(
                place.key("max_parallel"),
                format!("{parallel} is not between 1 and 64"),
                "write a number from 1 to 64",
            ));
        }
        if step.for_each.is_none() {
            return Err(Problem::at(
                place.key("max_parallel"),
                "`max_parallel` has no meaning without `for_each`",
                "remove it, or add `for_each`",
            ));
        }
    }
    if let Some(retry) = &step.retry {
        let place = place.key("retry");
        if !(1..=100).contains(&retry.attempts) {
            return Err(Problem::at(
                place.key("attempts"),
                format!("{} is not between 1 and 100", retry.attempts),
                "write a number from 1 to 100, the first attempt included",
            ));
        }
        if retry.initial > retry.max {
            let what = format!("the first wait of {} is longer than the longest wait of {}", retry.initial, retry.max);
            return Err(Problem::at(place.key("initial"), what, "lower `initial` or raise `max`"));
        }
    }
    if step.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
        return Err(Problem::at(
            place.key("timeout"),
            "a step cannot end in no time",
            "write a length of time such as `60s`",
        ));
    }
    grants(workflow, place, step)
}

fn grants(workflow: &Workflow, place: &Place, step: &Step) -> Result<(), Problem> {
    for (at, grant) in step.grants.iter().enumerate() {
        let place = place.key("grants").index(at);
        if !grant.axis().is_grantable() {
            let what = format!("`{grant}` cannot be granted: this version of the host never grants `{}`", grant.axis());
            return Err(Problem::at(
                place,
                what,
                "remove the grant; `handshake capabilities list` shows what can be granted",
            ));
        }
        let Some(name) = grant.mount() else { continue };
        let Some(mount) = workflow.mounts.get(name) else {
            let what = format!("`{grant}` names a mount that the workflow does not define");
            return Err(Problem::at(place, what, suggest(name, "mounts", workflow.mounts.keys().map(String::as_str))));
        };
        if grant.axis() == Axis::FsWrite && mount.access == MountAccess::Read {
            let what = format!("`{grant}` grants writing, and mount `{name}` is for reading");
            return Err(Problem::at(
                place,
                what,
                format!("write `access: write` at mounts.{name}, or remove the grant"),
            ));
        }
    }
    Ok(())
}
