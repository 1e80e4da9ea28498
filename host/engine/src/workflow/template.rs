//! Values with `${…}` expressions in their strings.
//!
//! A string that is one expression and nothing else keeps the expression's type. Otherwise strings, numbers and truth
//! values are put into the text. `$${` stands for `${`. What an expression yields is data: it is never looked at for
//! expressions again.

use handshake_core::Json;
use handshake_core::workflow::Map;
use serde_json::Value;

use super::expression::{EvaluationError, Expression, InvalidExpression};
use super::frame::Frame;
use super::problem::{Place, Problem};
use super::validate::type_name;

/// A value with expressions in it.
#[derive(Debug)]
pub(crate) enum Template {
    Literal(Value),
    Whole(Expression),
    Text(Vec<Piece>),
    List(Vec<Template>),
    Map(Vec<(String, Template)>),
}

/// A part of a text.
#[derive(Debug)]
pub(crate) enum Piece {
    Literal(String),
    Expression(Box<Expression>),
}

/// Turns an invalid expression into a problem at its place.
pub(super) fn invalid(place: &Place, source: &str, error: InvalidExpression) -> Problem {
    Problem::at(place.clone(), error.what, error.remedy).pointing(source, error.offset)
}

impl Template {
    pub(crate) fn map(entries: &Map<Value>, place: &Place) -> Result<Self, Problem> {
        let entries = entries.iter().map(|(key, value)| Ok((key.clone(), Self::parse(value, &place.key(key))?)));
        entries.collect::<Result<_, Problem>>().map(Self::Map)
    }

    pub(crate) fn parse(value: &Value, place: &Place) -> Result<Self, Problem> {
        Ok(match value {
            Value::String(text) => Self::text(text, place)?,
            Value::Array(items) => {
                let items = items.iter().enumerate().map(|(at, item)| Self::parse(item, &place.index(at)));
                Self::List(items.collect::<Result<_, Problem>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| Ok((key.clone(), Self::parse(value, &place.key(key))?)));
                Self::Map(fields.collect::<Result<_, Problem>>()?)
            }
            other => Self::Literal(other.clone()),
        })
    }

    pub(crate) fn text(text: &str, place: &Place) -> Result<Self, Problem> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                literal.push_str(&rest[..at - 1]);
                literal.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let inside = &rest[at + 2..];
            let Some(end) = end_of_expression(inside) else {
                let problem = Problem::at(
                    place.clone(),
                    "`${` is never closed",
                    "close the expression with `}`, or write `$${` for a plain `${`",
                );
                return Err(problem.pointing(&rest[at..], 0));
            };
            let source = &inside[..end];
            let expression = Expression::compile(source).map_err(|error| invalid(place, source, error))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Expression(Box::new(expression)));
            rest = &inside[end + 1..];
        }
        literal.push_str(rest);
        if pieces.is_empty() {
            return Ok(Self::Literal(Value::String(literal)));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        if pieces.len() == 1
            && let Some(Piece::Expression(expression)) = pieces.pop()
        {
            return Ok(Self::Whole(*expression));
        }
        Ok(Self::Text(pieces))
    }

    /// Calls back for every expression with its place.
    pub(crate) fn each_expression<'a>(
        &'a self,
        place: &Place,
        visit: &mut dyn FnMut(&'a Expression, &Place) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        match self {
            Self::Literal(_) => Ok(()),
            Self::Whole(expression) => visit(expression, place),
            Self::Text(pieces) => pieces.iter().try_for_each(|piece| match piece {
                Piece::Literal(_) => Ok(()),
                Piece::Expression(expression) => visit(expression, place),
            }),
            Self::List(items) => {
                items.iter().enumerate().try_for_each(|(at, item)| item.each_expression(&place.index(at), visit))
            }
            Self::Map(fields) => {
                fields.iter().try_for_each(|(key, field)| field.each_expression(&place.key(key), visit))
            }
        }
    }

    /// Every expression.
    pub(crate) fn expressions(&self) -> Vec<&Expression> {
        let mut all = Vec::new();
        let collected = self.each_expression(&Place::default(), &mut |expression, _| {
            all.push(expression);
            Ok(())
        });
        debug_assert!(collected.is_ok());
        all
    }

    /// The value with every expression replaced.
    pub(crate) fn render(&self, frame: &Frame, item: Option<(&Json, u32)>) -> Result<Json, EvaluationError> {
        Ok(match self {
            Self::Literal(value) => Json::of(value),
            Self::Whole(expression) => frame.evaluate(expression, item)?,
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Literal(literal) => text.push_str(literal),
                        Piece::Expression(expression) => match frame.evaluate(expression, item)?.value() {
                            Value::String(value) => text.push_str(&value),
                            value @ (Value::Number(_) | Value::Bool(_)) => text.push_str(&value.to_string()),
                            other => {
                                return Err(expression.fails(format!(
                                    "a value of type {} cannot be put into a text; let the expression be the whole value, or name a part of it",
                                    type_name(&other)
                                )));
                            }
                        },
                    }
                }
                Json::of(&Value::String(text))
            }
            Self::List(items) => {
                let items = items.iter().map(|template| template.render(frame, item));
                Json::list(&items.collect::<Result<Vec<_>, _>>()?)
            }
            Self::Map(fields) => {
                let fields = fields.iter().map(|(key, template)| Ok((key.as_str(), template.render(frame, item)?)));
                Json::object(&fields.collect::<Result<Vec<_>, EvaluationError>>()?)
            }
        })
    }
}

/// Where the brace that closes an expression stands: braces of maps and those inside string literals are its own.
fn end_of_expression(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match (quote, c) {
            (Some(_), '\\') => escaped = true,
            (Some(mark), c) if c == mark => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => open += 1,
            (None, '}') if open == 0 => return Some(at),
            (None, '}') => open -= 1,
            (None, _) => {}
        }
    }
    None
}
