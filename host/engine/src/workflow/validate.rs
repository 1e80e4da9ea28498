//! Checks of a workflow's structure that its types cannot express.

use std::collections::BTreeMap;
use std::time::Duration;

use handshake_core::capability::{Axis, CapabilityId};
use handshake_core::mount::{MountAccess, is_mount_name};
use handshake_core::step::PluginRequest;
use handshake_core::workflow::{Action, ApprovalSpec, Budget, InputSpec, InputType, OnExpiry, Period, Step, Workflow};
use handshake_core::{StepId, Timestamp};
use serde_json::Value;

use super::problem::{Place, Problem};
use crate::nearest::suggest;

/// The most steps of a workflow.
const MAX_STEPS: usize = 1_000;
/// How ids begin that no step of a file has.
pub(super) const HOSTS_OWN: char = '_';
/// The most people that are asked at once.
const MAX_QUORUM: usize = 1_000;
/// Far beyond what anybody waits for, and near enough that times can be added.
const LONGEST_SLEEP: Duration = Duration::from_secs(10 * 366 * 86_400);

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

/// Checks the names of the workflow, its mounts and its other workflows.
pub(super) fn names(workflow: &Workflow, problems: &mut Vec<Problem>) {
    let top = Place::default();
    if workflow.name.trim().is_empty() {
        let place = top.key("name");
        problems.push(Problem::at(place, "the name is empty", "say in a few words what the workflow does"));
    }
    for name in workflow.mounts.keys().filter(|name| !is_mount_name(name)) {
        let what = format!("`{name}` is not a valid mount name");
        let place = top.key("mounts").key(name);
        problems.push(Problem::at(
            place,
            what,
            "use 1 to 32 of `a-z`, `0-9`, `_` and `-`, beginning with a letter or digit",
        ));
    }
    // The same form as steps have: both become parts of names that people type.
    for name in workflow.workflows.keys() {
        if let Err(error) = StepId::new(name.as_str()) {
            let what = error.to_string().replace("step id", "name of a workflow");
            problems.push(Problem::at(top.key("workflows").key(name), what, "rename it"));
        }
    }
}

/// Checks ranges, types of defaults, what steps do, and grants.
pub(super) fn structure(workflow: &Workflow, top: &Place, problems: &mut Vec<Problem>) {
    for (name, input) in &workflow.inputs {
        if let Some(default) = input.default.as_ref().filter(|default| !accepts(input.kind, default)) {
            let place = top.key("inputs").key(name).key("default");
            let what = format!(
                "the default is of type {}, and the input of type {}",
                type_name(default),
                input_type(input.kind)
            );
            problems.push(Problem::at(place, what, "change one of the two"));
        }
    }
    for key in workflow.budget.iter().flat_map(Budget::zeros) {
        let what = "with nothing to spend nothing can be run";
        problems.push(Problem::at(top.key("budget").key(key), what, "write more than 0, or leave it out for no bound"));
    }
    let place = top.key("steps");
    if workflow.steps.is_empty() {
        let remedy = "add one: `- { id: read, uses: read-folder }`";
        problems.push(Problem::at(place.clone(), "the workflow has no steps", remedy));
    }
    if workflow.steps.len() > MAX_STEPS {
        let what = format!("the workflow has {} steps; {MAX_STEPS} is the most", workflow.steps.len());
        problems.push(Problem::at(place.clone(), what, "use `for_each` to repeat a step"));
    }
    let mut seen = BTreeMap::new();
    for (at, step) in workflow.steps.iter().enumerate() {
        let place = place.index(at);
        if let Some(first) = seen.insert(&step.id, at) {
            let what = format!("step id `{}` is there twice, first at {}[{first}]", step.id, top.key("steps"));
            problems.push(Problem::at(place.key("id"), what, "give each step an id of its own"));
        }
        if step.id.as_str().starts_with(HOSTS_OWN) {
            let what =
                format!("step id `{}` begins with `{HOSTS_OWN}`, as only those of the host's own steps do", step.id);
            problems.push(Problem::at(place.key("id"), what, "begin it with a letter or digit"));
        }
        whole(workflow, &place, step, problems);
    }
}

/// Checks what one step does, its ranges and its grants.
pub(super) fn whole(workflow: &Workflow, place: &Place, step: &Step, problems: &mut Vec<Problem>) {
    problems.extend(action(workflow, place, step).err());
    problems.extend(self::step(place, step).err());
    grants(workflow, place, step, problems);
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

/// A step does exactly one thing, and has only the keys that go with it.
fn action(workflow: &Workflow, place: &Place, step: &Step) -> Result<(), Problem> {
    let actions = step.actions();
    let action = match actions.as_slice() {
        [action] => action,
        [] => {
            let what = format!("step `{}` does nothing: it has none of `{}`", step.id, Action::KEYS.join("`, `"));
            return Err(Problem::at(place.clone(), what, "name a plugin: `uses: read-folder`"));
        }
        [first, second, ..] => {
            let what = format!("a step does one thing, and this one has `{}` and `{}`", first.key(), second.key());
            return Err(Problem::at(place.key(second.key()), what, "make two steps of it"));
        }
    };
    let has = [
        ("with", !step.with.is_empty(), matches!(action, Action::Plugin(_) | Action::Workflow(_))),
        ("grants", !step.grants.is_empty(), matches!(action, Action::Plugin(_))),
        ("retry", step.retry.is_some(), matches!(action, Action::Plugin(_))),
        ("timeout", step.timeout.is_some(), matches!(action, Action::Plugin(_))),
        ("recovery", step.recovery.is_some(), matches!(action, Action::Plugin(_))),
        ("idempotent", step.idempotent, matches!(action, Action::Plugin(_))),
    ];
    if let Some((key, ..)) = has.iter().find(|(_, there, allowed)| *there && !allowed) {
        let what = format!("`{key}` has no meaning for a step with `{}`", action.key());
        return Err(Problem::at(place.key(key), what, format!("remove `{key}`")));
    }
    let place = place.key(action.key());
    match action {
        Action::Plugin(uses) => match uses.parse::<PluginRequest>() {
            Ok(_) => Ok(()),
            Err(what) => Err(Problem::at(place, what, "write a plugin id, `id@0.1` or `id@0.1.0`")),
        },
        Action::Approval(spec) => approval(&place, spec),
        // What holds an expression is checked when it has a value.
        Action::Sleep(text) if !text.contains("${") => {
            let wait = sleep(text).map_err(|what| Problem::at(place, what, "write for example `30s`, `5m` or `24h`"));
            wait.map(drop)
        }
        Action::SleepUntil(text) if !text.contains("${") => {
            let remedy = "write for example `2026-01-31T08:00:00Z`";
            moment(text).map(drop).map_err(|what| Problem::at(place, what, remedy))
        }
        Action::Sleep(_) | Action::SleepUntil(_) => Ok(()),
        Action::Workflow(name) => child(workflow, &place, step, name),
    }
}

/// The length of time that a step sleeps.
pub(crate) fn sleep(text: &str) -> Result<Duration, String> {
    let wait = serde_json::from_value::<Period>(Value::from(text)).map_err(|error| error.to_string())?.0;
    if wait > LONGEST_SLEEP {
        return Err(format!("`{text}` is longer than a step can sleep, which is ten years"));
    }
    Ok(wait)
}

/// The moment that a step sleeps until.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text.trim()).ok_or_else(|| format!("`{text}` is not a moment such as `2026-01-31T08:00:00Z`"))
}

fn approval(place: &Place, spec: &ApprovalSpec) -> Result<(), Problem> {
    if let Some(empty) = spec.by.iter().find(|name| name.trim().is_empty()) {
        let what = format!("`{empty}` is not the name of a person");
        return Err(Problem::at(place.key("by"), what, "name who may answer, or leave `by` out for everybody"));
    }
    if let Some(quorum) = spec.quorum {
        let most = if spec.by.is_empty() { MAX_QUORUM } else { spec.by.len() };
        if quorum == 0 || usize::try_from(quorum).unwrap_or(usize::MAX) > most {
            let what = format!("{quorum} people cannot be asked for: it must be 1 to {most}");
            return Err(Problem::at(place.key("quorum"), what, "name more people in `by`, or lower `quorum`"));
        }
    }
    if spec.expires.is_some_and(|expires| expires.0.is_zero()) {
        return Err(Problem::at(place.key("expires"), "nobody can answer in no time", "write for example `24h`"));
    }
    if spec.expires.is_some_and(|expires| expires.0 > LONGEST_SLEEP) {
        let remedy = "leave it out if the question stays open";
        return Err(Problem::at(place.key("expires"), "nobody waits for more than ten years", remedy));
    }
    if spec.on_expiry == OnExpiry::Approve && spec.expires.is_none() {
        let what = "`on_expiry` has no meaning without `expires`";
        return Err(Problem::at(place.key("on_expiry"), what, "add `expires`, for example `24h`"));
    }
    Ok(())
}

/// A step that runs a workflow gives it its inputs.
fn child(workflow: &Workflow, place: &Place, step: &Step, name: &str) -> Result<(), Problem> {
    let Some(child) = workflow.workflows.get(name) else {
        let what = format!("workflow `{name}` is not defined in `workflows` of this file");
        return Err(Problem::at(
            place.clone(),
            what,
            suggest(name, "workflows", workflow.workflows.keys().map(String::as_str)),
        ));
    };
    if let Some(unknown) = step.with.keys().find(|key| !child.inputs.contains_key(*key)) {
        let what = format!("workflow `{name}` has no input `{unknown}`");
        let remedy = suggest(unknown, "inputs", child.inputs.keys().map(String::as_str));
        return Err(Problem::at(place.clone(), what, remedy));
    }
    let missing = |(key, spec): &(&String, &InputSpec)| spec.default.is_none() && !step.with.contains_key(*key);
    match child.inputs.iter().find(missing) {
        None => Ok(()),
        Some((key, _)) => {
            let what = format!("workflow `{name}` needs input `{key}`");
            Err(Problem::at(place.clone(), what, format!("add `{key}: …` to `with` of the step")))
        }
    }
}

fn step(place: &Place, step: &Step) -> Result<(), Problem> {
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
    Ok(())
}

fn grants(workflow: &Workflow, place: &Place, step: &Step, problems: &mut Vec<Problem>) {
    for (at, grant) in step.grants.iter().enumerate() {
        problems.extend(self::grant(workflow, place.key("grants").index(at), grant).err());
    }
}

fn grant(workflow: &Workflow, place: Place, grant: &CapabilityId) -> Result<(), Problem> {
    if !grant.axis().is_grantable() {
        let what = format!("`{grant}` cannot be granted: this version of the host never grants `{}`", grant.axis());
        return Err(Problem::at(
            place,
            what,
            "remove the grant; `handshake capabilities list` shows what can be granted",
        ));
    }
    let Some(name) = grant.mount() else { return Ok(()) };
    let Some(mount) = workflow.mounts.get(name) else {
        let what = format!("`{grant}` names a mount that the workflow does not define");
        return Err(Problem::at(place, what, suggest(name, "mounts", workflow.mounts.keys().map(String::as_str))));
    };
    if grant.axis() == Axis::FsWrite && mount.access == MountAccess::Read {
        let what = format!("`{grant}` grants writing, and mount `{name}` is for reading");
        return Err(Problem::at(place, what, format!("write `access: write` at mounts.{name}, or remove the grant")));
    }
    Ok(())
}
