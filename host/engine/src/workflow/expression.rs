//! One CEL expression: compiled, bounded, and its result as JSON.
//!
//! The crate bounds parsing only, so what can grow is bounded here before anything is evaluated: source length, size
//! and depth of the tree, nesting of comprehensions, and the lists that go in.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::Program;
use serde_json::Value;

use super::references::{self, PlainPath, References};

/// The longest expression, in bytes.
const MAX_SOURCE: usize = 4 << 10;
/// The longest list that an expression may see or produce.
pub(crate) const MAX_LIST: usize = 100_000;
/// The longest list for expressions with one comprehension inside another: their work is its square.
pub(super) const MAX_NESTED_LIST: usize = 1_000;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    program: Program,
    references: References,
    path: Option<PlainPath>,
}

/// An expression that cannot be compiled.
#[derive(Debug)]
pub(crate) struct InvalidExpression {
    pub(crate) what: String,
    pub(crate) remedy: String,
    /// Bytes behind its beginning.
    pub(crate) offset: usize,
}

/// An expression that has no value, with its text and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}`: {why}")]
pub(crate) struct EvaluationError {
    pub(crate) expression: String,
    pub(crate) why: String,
}

impl Expression {
    pub(crate) fn compile(source: &str) -> Result<Self, InvalidExpression> {
        let invalid =
            |what: String, remedy: &str, offset| InvalidExpression { what, remedy: remedy.to_owned(), offset };
        if source.len() > MAX_SOURCE {
            return Err(invalid(
                format!("the expression has {} bytes; {MAX_SOURCE} is the most", source.len()),
                "move the work into a step",
                0,
            ));
        }
        if source.trim().is_empty() {
            return Err(invalid(
                "the expression is empty".into(),
                "write a CEL expression, for example `steps.read.output`",
                0,
            ));
        }
        let (program, references) = parse_apart(source)?;
        let path = references::plain_path(program.expression());
        Ok(Self { source: source.to_owned(), program, references, path })
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn references(&self) -> &References {
        &self.references
    }

    /// The path that it is, if it is nothing else; such an expression is looked up and never evaluated.
    pub(super) fn path(&self) -> Option<&PlainPath> {
        self.path.as_ref()
    }

    pub(super) fn fails(&self, why: impl Into<String>) -> EvaluationError {
        let mut why = why.into();
        if why.len() > 512 {
            let end = (0..=512).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
            why.truncate(end);
            why.push('…');
        }
        EvaluationError { expression: self.source.clone(), why }
    }

    /// Evaluates with what the context holds.
    pub(super) fn evaluate(&self, context: &cel::Context<'_, '_>) -> Result<Value, EvaluationError> {
        let evaluate = || {
            let value = self.program.execute(context).map_err(|error| self.fails(explain(&error)))?;
            to_json(&value).map_err(|why| self.fails(why))
        };
        // The crate has places that panic; none may take the host with it.
        let evaluated = if self.references.depth > SHALLOW {
            with_room(evaluate)
        } else {
            catch_unwind(AssertUnwindSafe(evaluate)).ok()
        };
        evaluated.unwrap_or_else(|| Err(self.fails("cannot be evaluated")))
    }
}

/// Stack of a thread with room, in bytes. Only the part that is used takes memory.
const ROOM: usize = 64 << 20;
/// The deepest syntax tree that is evaluated on the caller's own stack, of which a worker thread has 2 MiB.
const SHALLOW: usize = 12;

/// Parses and bounds an expression on a thread of its own. The parser recurses through many levels of grammar for
/// each level of nesting, which the stack of a worker thread does not hold; and what is too deep to be walked must
/// also be dropped where there is room. Only trees within the bounds come back.
fn parse_apart(source: &str) -> Result<(Program, References), InvalidExpression> {
    let parse = || {
        let program = Program::compile(source).map_err(|errors| {
            let first = errors.errors.first();
            let message = first.map_or_else(|| errors.to_string(), |error| error.msg.clone());
            InvalidExpression {
                // What the parser would have expected is a list of its tokens, of no use to a person.
                what: format!(
                    "not a valid expression: {}",
                    message.split(" expecting ").next().unwrap_or_default().lines().next().unwrap_or_default()
                ),
                remedy: "expressions are CEL, for example `size(steps.read.output) > 10`".to_owned(),
                offset: first.map_or(0, |error| offset_of(source, error.pos)),
            }
        })?;
        let references = references::collect(program.expression()).map_err(|refusal| InvalidExpression {
            offset: program.source_info().offset_for(refusal.node).map_or(0, |(start, _)| byte_offset(source, start)),
            what: refusal.what,
            remedy: refusal.remedy,
        })?;
        Ok((program, references))
    };
    let unparsed = || InvalidExpression {
        what: "the expression cannot be parsed".into(),
        remedy: "write it more simply".into(),
        offset: 0,
    };
    // A panic of the parser ends its thread and nothing else.
    with_room(parse).unwrap_or_else(|| Err(unparsed()))
}

/// Does something on a thread with room for deep recursion; none when it panics or there is no thread to be had.
fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(ROOM).spawn_scoped(scope, work).ok()?;
        thread.join().ok()
    })
}

/// CEL's words, but without values: they can be large and are not for messages.
fn explain(error: &cel::ExecutionError) -> String {
    use cel::ExecutionError as E;
    match error {
        E::NoSuchKey(key) => format!("there is no `{key}` in the value"),
        E::UndeclaredReference(name) => format!("`{name}` is not defined"),
        E::NoSuchOverload(overload) => overload.to_string(),
        E::UnexpectedType { got, want } => format!("a {want} is needed, and this is a {got}"),
        E::UnsupportedBinaryOperator(operator, left, right) => {
            format!("`{}` does not go with {} and {}", symbol(operator), left.type_of(), right.type_of())
        }
        E::ValuesNotComparable(left, right) => format!("{} and {} cannot be compared", left.type_of(), right.type_of()),
        E::UnsupportedIndex(index, target) => {
            format!("{} cannot be indexed with {}", target.type_of(), index.type_of())
        }
        E::IndexOutOfBounds(_) => "the index is outside the list".into(),
        E::DivisionByZero(_) | E::RemainderByZero(_) => "division by zero".into(),
        E::Overflow(..) => "the number is too large".into(),
        E::FunctionError { function, message } => format!("`{function}`: {message}"),
        E::NotSupportedAsMethod { method, target } => format!("{} has no `{method}`", target.type_of()),
        _ => "it cannot be evaluated with these values".into(),
    }
}

/// An operator as expressions write it.
fn symbol(operator: &str) -> &str {
    match operator {
        "add" => "+",
        "sub" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        other => other,
    }
}

fn offset_of(source: &str, (line, column): (isize, isize)) -> usize {
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let column = usize::try_from(column).unwrap_or(1).max(1);
    let start: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = source.get(start..).unwrap_or_default();
    start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(offset, _)| offset)
}

fn byte_offset(source: &str, offset: u32) -> usize {
    let mut offset = usize::try_from(offset).unwrap_or(0).min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// CEL's form of a JSON value. Whole numbers become `int`, so that they go with the numbers of expressions.
pub(super) fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => cel::Value::Int(number),
            (None, Some(number)) => cel::Value::UInt(number),
            (None, None) => cel::Value::Float(number.as_f64().unwrap_or(0.0)),
        },
        Value::String(text) => cel::Value::from(text.as_str()),
        Value::Array(items) => cel::Value::from(items.iter().map(to_cel).collect::<Vec<_>>()),
        Value::Object(fields) => {
            let fields: std::collections::HashMap<String, cel::Value> =
                fields.iter().map(|(key, value)| (key.clone(), to_cel(value))).collect();
            cel::Value::from(fields)
        }
    }
}

/// JSON of a CEL value. Keys are sorted: CEL's maps have no order, and the same run must give the same bytes.
fn to_json(value: &cel::Value) -> Result<Value, String> {
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(value) => Value::Bool(*value),
        cel::Value::Int(number) => Value::from(*number),
        cel::Value::UInt(number) => Value::from(*number),
        cel::Value::Float(number) => {
            serde_json::Number::from_f64(*number).map(Value::Number).ok_or("the result is not a finite number")?
        }
        cel::Value::String(text) => Value::String(text.to_string()),
        cel::Value::List(items) if items.len() > MAX_LIST => {
            return Err(format!("the result has more than {MAX_LIST} items"));
        }
        cel::Value::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        cel::Value::Map(map) => {
            let sorted: std::collections::BTreeMap<String, &cel::Value> =
                map.map.iter().map(|(key, value)| (key.to_string(), value)).collect();
            let fields = sorted.into_iter().map(|(key, value)| Ok((key, to_json(value)?)));
            Value::Object(fields.collect::<Result<_, String>>()?)
        }
        other => return Err(format!("the result is of type {}, which has no form in JSON", other.type_of())),
    })
}
