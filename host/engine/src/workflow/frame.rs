//! What the expressions of one step can see: inputs, outputs of earlier steps, and one item at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use handshake_core::StepId;
use serde_json::Value;

use super::expression::{EvaluationError, Expression, MAX_LIST, MAX_NESTED_LIST, to_cel};
use super::references::{PlainPath, Root, Segment};

/// The values that a step's expressions can see. Made once per step: only what its expressions name is kept, and
/// only what goes through CEL is converted, so that a step with 10,000 items copies nothing per item but the item.
pub(crate) struct Frame {
    inputs: Arc<Value>,
    outputs: BTreeMap<StepId, Arc<Value>>,
    context: Option<cel::Context<'static, 'static>>,
    longest: usize,
}

static NULL: Value = Value::Null;

impl Frame {
    /// A frame for these expressions. A step that `outputs` does not have was skipped: its output is null.
    pub(crate) fn new<'a>(
        inputs: &Arc<Value>,
        outputs: impl Fn(&StepId) -> Option<Arc<Value>>,
        expressions: impl IntoIterator<Item = &'a Expression>,
    ) -> Self {
        let mut kept = BTreeMap::new();
        let mut converted = BTreeMap::new();
        let mut converted_inputs = BTreeMap::new();
        let mut all_inputs = false;
        let mut needs_context = false;
        for expression in expressions {
            for step in &expression.references().steps {
                let output = kept.entry(step.clone()).or_insert_with(|| outputs(step).unwrap_or_default());
                if expression.path().is_none() {
                    converted.entry(step.clone()).or_insert_with(|| Arc::clone(output));
                }
            }
            if expression.path().is_none() {
                needs_context = true;
                all_inputs |= expression.references().all_inputs;
                converted_inputs.extend(
                    expression.references().inputs.iter().filter_map(|name| Some((name.clone(), inputs.get(name)?))),
                );
            }
        }
        if let (true, Value::Object(fields)) = (all_inputs, &**inputs) {
            converted_inputs.extend(fields.iter().map(|(name, value)| (name.clone(), value)));
        }
        let longest = converted_inputs
            .values()
            .copied()
            .chain(converted.values().map(|output| &**output))
            .map(longest_list)
            .max()
            .unwrap_or(0);
        let context = needs_context.then(|| {
            let mut context = cel::Context::default();
            let inputs: std::collections::HashMap<String, cel::Value> =
                converted_inputs.into_iter().map(|(name, value)| (name, to_cel(value))).collect();
            context.add_variable_from_value("inputs", inputs);
            let steps: std::collections::HashMap<String, cel::Value> = converted
                .into_iter()
                .map(|(step, output)| {
                    let attributes = std::collections::HashMap::from([("output".to_owned(), to_cel(&output))]);
                    (step.to_string(), cel::Value::from(attributes))
                })
                .collect();
            context.add_variable_from_value("steps", steps);
            context
        });
        Self { inputs: Arc::clone(inputs), outputs: kept, context, longest }
    }

    /// The value of an expression. `item` is there for what is evaluated per item.
    pub(crate) fn evaluate(
        &self,
        expression: &Expression,
        item: Option<(&Value, u32)>,
    ) -> Result<Value, EvaluationError> {
        if let Some(path) = expression.path() {
            return match (&path.root, item) {
                (Root::Index, Some((_, index))) if path.rest.is_empty() => Ok(Value::from(index)),
                _ => self.look_up(expression, path, item).cloned(),
            };
        }
        let Some(context) = &self.context else { return Err(expression.fails("cannot be evaluated here")) };
        let longest = self.longest.max(item.map_or(0, |(item, _)| longest_list(item)));
        if longest > MAX_LIST {
            return Err(
                expression.fails(format!("a list has {longest} items; {MAX_LIST} is the most that expressions take"))
            );
        }
        if expression.references().nesting > 1 && longest > MAX_NESTED_LIST {
            return Err(expression.fails(format!(
                "a list has {longest} items; {MAX_NESTED_LIST} is the most for a comprehension inside another"
            )));
        }
        let mut scope = context.new_inner_scope();
        if let Some((item, index)) = item.filter(|_| expression.references().item) {
            scope.add_variable_from_value("item", to_cel(item));
            scope.add_variable_from_value("index", i64::from(index));
        }
        expression.evaluate(&scope)
    }

    /// The list that an expression names, without copying it when it is a plain path.
    pub(crate) fn list(&self, expression: &Expression) -> Result<Option<usize>, EvaluationError> {
        match expression.path() {
            Some(path) => Ok(self.look_up(expression, path, None)?.as_array().map(Vec::len)),
            None => Ok(None),
        }
    }

    /// One item of a list that [`Frame::list`] found.
    pub(crate) fn item(&self, expression: &Expression, index: u32) -> Option<&Value> {
        let list = self.look_up(expression, expression.path()?, None).ok()?;
        list.get(usize::try_from(index).ok()?)
    }

    fn look_up<'a>(
        &'a self,
        expression: &Expression,
        path: &PlainPath,
        item: Option<(&'a Value, u32)>,
    ) -> Result<&'a Value, EvaluationError> {
        let mut value = match &path.root {
            Root::Inputs => &*self.inputs,
            Root::Output(step) => self.outputs.get(step).map_or(&NULL, |output| &**output),
            Root::Item => item.map(|(item, _)| item).ok_or_else(|| expression.fails("there is no item here"))?,
            Root::Index => return Err(expression.fails("`index` is a number")),
        };
        for segment in &path.rest {
            let found = match segment {
                Segment::Field(field) => value.get(field.as_str()),
                Segment::At(index) => usize::try_from(*index).ok().and_then(|index| value.as_array()?.get(index)),
            };
            value = found.ok_or_else(|| {
                expression.fails(match segment {
                    Segment::Field(field) => {
                        format!("there is no `{field}` in a value of type {}", super::validate::type_name(value))
                    }
                    Segment::At(index) => {
                        format!("there is no item {index} in a value of type {}", super::validate::type_name(value))
                    }
                })
            })?;
        }
        Ok(value)
    }
}

/// Length of the longest list in a value.
fn longest_list(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(longest_list).max().unwrap_or(0).max(items.len()),
        Value::Object(fields) => fields.values().map(longest_list).max().unwrap_or(0).max(fields.len()),
        _ => 0,
    }
}
