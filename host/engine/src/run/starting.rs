//! Opening steps and starting their items: evaluates expressions at the moment they are needed.

use std::sync::Arc;

use handshake_core::{Json, StepId};
use serde_json::Value;

use crate::workflow::{EvaluationError, Frame, MAX_LIST, PlannedStep, type_name};

/// A step whose expressions were evaluated, while its items run.
pub(super) struct OpenStep {
    frame: Frame,
    /// The list of `for_each`; none when the step runs once.
    items: Option<Vec<Json>>,
    /// Outputs by item, null until there is one.
    pub(super) outputs: Vec<Json>,
}

/// What became of opening a step.
pub(super) enum Opened {
    /// Its condition is false.
    Skipped,
    /// It has so many items.
    Open(OpenStep, usize),
}

/// Evaluates `when`, then `for_each`, each once per step.
pub(super) fn open(
    planned: &PlannedStep,
    inputs: &Arc<Value>,
    outputs: impl Fn(&StepId) -> Option<Json>,
) -> Result<Opened, String> {
    if let Some(when) = &planned.when {
        let frame = Frame::new(inputs, &outputs, [when]);
        match frame.evaluate(when, None).map_err(|error| in_key(planned, "when", &error))?.value() {
            Value::Bool(true) => {}
            Value::Bool(false) => return Ok(Opened::Skipped),
            other => return Err(wrong_type(planned, "when", when.source(), "true or false", &other)),
        }
    }
    let items = planned.for_each.as_ref().map(|for_each| {
        // A frame of its own, which does not keep the list a second time.
        let list = Frame::new(inputs, &outputs, [for_each]).evaluate(for_each, None);
        let list = list.map_err(|error| in_key(planned, "for_each", &error))?;
        list.items().ok_or_else(|| wrong_type(planned, "for_each", for_each.source(), "a list", &list.value()))
    });
    let items = items.transpose()?;
    let count = items.as_ref().map_or(1, Vec::len);
    if count > MAX_LIST {
        return Err(format!(
            "step `{}`: `for_each` gave {count} items, and {MAX_LIST} is the most; split the list",
            planned.step.id
        ));
    }
    let frame = Frame::new(inputs, &outputs, planned.with.expressions());
    Ok(Opened::Open(OpenStep { frame, items, outputs: vec![Json::default(); count] }, count))
}

impl OpenStep {
    /// The input of one item.
    pub(super) fn input(&self, planned: &PlannedStep, item: usize) -> Result<Json, String> {
        let index = u32::try_from(item).map_err(|_| "too many items".to_owned())?;
        let value = self.items.as_ref().and_then(|items| items.get(item));
        planned
            .with
            .render(&self.frame, value.map(|value| (value, index)))
            .map_err(|error| in_key(planned, "with", &error))
    }

    /// The output of the step: of its one node, or the list of its items' outputs in the order of the items.
    pub(super) fn output(self) -> Json {
        match self.items {
            None => self.outputs.into_iter().next().unwrap_or_default(),
            Some(_) => Json::list(&self.outputs),
        }
    }
}

fn in_key(planned: &PlannedStep, key: &str, error: &EvaluationError) -> String {
    format!("step `{}`: `{key}` has no value: {error}; correct the expression in the workflow file", planned.step.id)
}

fn wrong_type(planned: &PlannedStep, key: &str, expression: &str, wanted: &str, got: &Value) -> String {
    format!(
        "step `{}`: `{key}` must give {wanted}, and `{expression}` gave a value of type {}; correct the expression in the workflow file",
        planned.step.id,
        type_name(got)
    )
}
