//! Opening steps and starting their items: evaluates expressions at the moment they are needed.

use std::sync::Arc;

use handshake_core::StepId;
use serde_json::Value;

use crate::workflow::{EvaluationError, Frame, MAX_LIST, PlannedStep, type_name};

/// A step whose expressions were evaluated, while its items run.
pub(super) struct OpenStep {
    frame: Frame,
    items: Items,
    /// Outputs by item, null until there is one.
    pub(super) outputs: Vec<Value>,
}

enum Items {
    /// The step runs once.
    One,
    /// The list is in the frame, where the expression finds it.
    InFrame,
    /// The expression made the list.
    Own(Vec<Value>),
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
    outputs: impl Fn(&StepId) -> Option<Arc<Value>>,
) -> Result<Opened, String> {
    if let Some(when) = &planned.when {
        let frame = Frame::new(inputs, &outputs, [when]);
        match frame.evaluate(when, None).map_err(|error| in_key(planned, "when", &error))? {
            Value::Bool(true) => {}
            Value::Bool(false) => return Ok(Opened::Skipped),
            other => return Err(wrong_type(planned, "when", when.source(), "true or false", &other)),
        }
    }
    let frame = Frame::new(inputs, &outputs, planned.for_each.iter().chain(planned.with.expressions()));
    let Some(for_each) = &planned.for_each else {
        return Ok(Opened::Open(OpenStep { frame, items: Items::One, outputs: vec![Value::Null] }, 1));
    };
    let at = |error: EvaluationError| in_key(planned, "for_each", &error);
    let (items, count) = match frame.list(for_each).map_err(at)? {
        Some(count) => (Items::InFrame, count),
        None => match frame.evaluate(for_each, None).map_err(at)? {
            Value::Array(items) => {
                let count = items.len();
                (Items::Own(items), count)
            }
            other => return Err(wrong_type(planned, "for_each", for_each.source(), "a list", &other)),
        },
    };
    if count > MAX_LIST {
        return Err(format!(
            "step `{}`: `for_each` gave {count} items, and {MAX_LIST} is the most; split the list",
            planned.step.id
        ));
    }
    Ok(Opened::Open(OpenStep { frame, items, outputs: vec![Value::Null; count] }, count))
}

impl OpenStep {
    /// The input of one item.
    pub(super) fn input(&self, planned: &PlannedStep, item: usize) -> Result<Value, String> {
        let index = u32::try_from(item).map_err(|_| "too many items".to_owned())?;
        let value = match (&self.items, &planned.for_each) {
            (Items::InFrame, Some(for_each)) => self.frame.item(for_each, index),
            (Items::Own(items), _) => items.get(item),
            _ => None,
        };
        planned
            .with
            .render(&self.frame, value.map(|value| (value, index)))
            .map_err(|error| in_key(planned, "with", &error))
    }

    /// The output of the step: of its one node, or the list of its items' outputs in the order of the items.
    pub(super) fn output(self) -> Value {
        match self.items {
            Items::One => self.outputs.into_iter().next().unwrap_or_default(),
            Items::InFrame | Items::Own(_) => Value::Array(self.outputs),
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
