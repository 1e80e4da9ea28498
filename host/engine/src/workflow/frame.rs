//! What the expressions of one step can see: inputs, outputs of earlier steps, and one item at a time.

use std::collections::BTreeMap;

use handshake_core::{Json, StepId};
use serde_json::Value;

use super::expression::{EvaluationError, Expression, MAX_LIST, MAX_NESTED_LIST, to_cel};
use super::references::{PlainPath, Root, Segment};
use super::validate::type_name;

/// The values that a step's expressions can see. Made once per step: only what its expressions name is kept, and
/// only what goes through CEL is converted, so that a step with 10,000 items copies nothing per item but the item.
pub(crate) struct Frame {
    /// What the plain paths into inputs and outputs lead to, by expression: finding it reads all of an output.
    found: BTreeMap<String, Result<Json, EvaluationError>>,
    context: Option<cel::Context<'static, 'static>>,
    longest: usize,
}

impl Frame {
    /// A frame for these expressions. A step that `outputs` does not have was skipped: its output is null.
    pub(crate) fn new<'a>(
        inputs: &Value,
        outputs: impl Fn(&StepId) -> Option<Json>,
        expressions: impl IntoIterator<Item = &'a Expression>,
    ) -> Self {
        let mut found = BTreeMap::new();
        let mut converted = BTreeMap::new();
        let mut converted_inputs = BTreeMap::new();
        let mut all_inputs = false;
        let mut needs_context = false;
        for expression in expressions {
            if let Some(path) = expression.path() {
                let from = match &path.root {
                    Root::Inputs => Json::of(inputs),
                    Root::Output(step) => outputs(step).unwrap_or_default(),
                    Root::Item | Root::Index => continue,
                };
                found.entry(expression.source().to_owned()).or_insert_with(|| follow(expression, path, from));
                continue;
            }
            needs_context = true;
            all_inputs |= expression.references().all_inputs;
            converted_inputs.extend(
                expression.references().inputs.iter().filter_map(|name| Some((name.clone(), inputs.get(name)?))),
            );
            for step in &expression.references().steps {
                converted.entry(step.clone()).or_insert_with(|| outputs(step).unwrap_or_default().value());
            }
        }
        if let (true, Value::Object(fields)) = (all_inputs, inputs) {
            converted_inputs.extend(fields.iter().map(|(name, value)| (name.clone(), value)));
        }
        let longest = converted_inputs.values().copied().chain(converted.values()).map(longest_list).max().unwrap_or(0);
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
        Self { found, context, longest }
    }

    /// The value of an expression. `item` is there for what is evaluated per item.
    pub(crate) fn evaluate(
        &self,
        expression: &Expression,
        item: Option<(&Json, u32)>,
    ) -> Result<Json, EvaluationError> {
        if let Some(path) = expression.path() {
            return match (&path.root, item) {
                (Root::Inputs | Root::Output(_), _) => {
                    let found = self.found.get(expression.source()).cloned();
                    found.unwrap_or_else(|| Err(expression.fails("cannot be evaluated here")))
                }
                (Root::Item, Some((item, _))) => follow(expression, path, item.clone()),
                (Root::Item, None) => Err(expression.fails("there is no item here")),
                (Root::Index, Some((_, index))) if path.rest.is_empty() => Ok(Json::of(&Value::from(index))),
                (Root::Index, _) => Err(expression.fails("`index` is a number")),
            };
        }
        let item = item.map(|(item, index)| (item.value(), index));
        let Some(context) = &self.context else { return Err(expression.fails("cannot be evaluated here")) };
        let longest = self.longest.max(item.as_ref().map_or(0, |(item, _)| longest_list(item)));
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
            scope.add_variable_from_value("item", to_cel(&item));
            scope.add_variable_from_value("index", i64::from(index));
        }
        expression.evaluate(&scope).map(|value| Json::of(&value))
    }
}

/// Where a path leads from here.
fn follow(expression: &Expression, path: &PlainPath, from: Json) -> Result<Json, EvaluationError> {
    path.rest.iter().try_fold(from, |json, segment| {
        let found = match segment {
            Segment::Field(field) => json.field(field),
            Segment::At(index) => usize::try_from(*index).ok().and_then(|index| json.item(index)),
        };
        found.ok_or_else(|| {
            let what = match segment {
                Segment::Field(field) => format!("`{field}`"),
                Segment::At(index) => format!("item {index}"),
            };
            expression.fails(format!("there is no {what} in a value of type {}", type_name(&json.value())))
        })
    })
}

/// Length of the longest list in a value.
fn longest_list(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(longest_list).max().unwrap_or(0).max(items.len()),
        Value::Object(fields) => fields.values().map(longest_list).max().unwrap_or(0).max(fields.len()),
        _ => 0,
    }
}
