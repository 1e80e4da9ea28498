//! Reads a workflow file and compiles it. Pure: what plugins there are is checked later.

use std::sync::Arc;

use handshake_core::Digest;
use handshake_core::workflow::Workflow;

use super::locate::{Locator, offset_of, position};
use super::plan::Plan;
use super::problem::{InvalidWorkflow, Problem, WorkflowError};
use super::source::{Format, WorkflowSource};
use crate::nearest::suggest;

/// The longest workflow file, in bytes. Anything longer is data in the wrong place.
const MAX_TEXT: usize = 1 << 20;

/// A workflow that is right in itself.
#[derive(Debug)]
pub struct ParsedWorkflow {
    /// As it was written.
    pub workflow: Workflow,
    /// SHA-256 of the file.
    pub digest: Digest,
    pub(crate) plan: Arc<Plan>,
    pub(crate) locator: Locator,
}

impl ParsedWorkflow {
    pub(crate) fn locate(&self, problem: Problem) -> InvalidWorkflow {
        self.locator.locate(problem).into()
    }
}

/// A workflow whose file could be read, whatever else is wrong with it.
pub(super) struct Draft {
    pub(super) workflow: Workflow,
    pub(super) locator: Locator,
    digest: Digest,
}

impl Draft {
    pub(super) fn planned(self, plan: Plan) -> ParsedWorkflow {
        let Self { workflow, locator, digest } = self;
        ParsedWorkflow { workflow, digest, plan: Arc::new(plan), locator }
    }
}

/// Reads and compiles a workflow: structure, ids, references, cycles, expressions, grants, ranges.
pub fn parse(source: &WorkflowSource) -> Result<ParsedWorkflow, InvalidWorkflow> {
    let draft = read(source)?;
    match Plan::compile(draft.workflow.clone()) {
        Ok(plan) => Ok(draft.planned(plan)),
        Err(problems) => Err(draft.locator.locate_all(problems)),
    }
}

/// Reads a workflow without looking into what it says.
pub(super) fn read(source: &WorkflowSource) -> Result<Draft, InvalidWorkflow> {
    let error = |offset: usize, what: String, remedy: String| {
        let (line, column) = position(&source.text, offset);
        Err(WorkflowError { file: source.file.clone(), line, column, what, remedy }.into())
    };
    if source.text.len() > MAX_TEXT {
        return error(
            0,
            format!("the file has {} bytes; {MAX_TEXT} is the most", source.text.len()),
            "give large data to the workflow as files in a mount".into(),
        );
    }
    let read = match source.format {
        Format::Toml => toml::from_str(&source.text).map_err(|error| of_toml(&source.text, &error)),
        Format::Yaml | Format::Json => {
            serde_saphyr::from_str_with_options(&source.text, yaml_options()).map_err(|error| of_yaml(source, &error))
        }
    };
    let workflow: Workflow = match read {
        Ok(workflow) => workflow,
        Err(failure) => return error(failure.offset, failure.what, failure.remedy),
    };
    Ok(Draft { workflow, locator: Locator::of(source), digest: Digest::of(source.text.as_bytes()) })
}

/// YAML 1.2 without its surprises: only `true` and `false` are truth values, keys are written once. The parser's
/// own budget bounds nesting and what aliases expand to.
pub(super) fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    options.merge_keys = serde_saphyr::MergeKeyPolicy::Error;
    options
}

struct Failure {
    offset: usize,
    what: String,
    remedy: String,
}

const SEE_SCHEMA: &str = "`handshake schema workflow` prints the form of the file";

fn of_yaml(source: &WorkflowSource, error: &serde_saphyr::Error) -> Failure {
    use serde_saphyr::Error as E;
    let plain = error.without_snippet();
    let offset = plain.location().map_or(0, |location| offset_of(&source.text, location));
    let (what, remedy) = match plain {
        E::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        E::SerdeMissingField { field, .. } => {
            (format!("key `{field}` is missing"), format!("add `{field}: …`; {SEE_SCHEMA}"))
        }
        E::SerdeUnknownVariant { variant, expected, .. } => (
            format!("`{variant}` is not one of the values that this key takes"),
            suggest(variant, "they", expected.iter().copied()),
        ),
        E::SerdeInvalidType { unexpected, expected, .. } | E::SerdeInvalidValue { unexpected, expected, .. } => {
            (format!("wrong type: found {unexpected}, expected {expected}"), SEE_SCHEMA.to_owned())
        }
        E::DuplicateMappingKey { key, .. } => (
            format!("key {} is there twice", key.as_ref().map_or_else(String::new, |key| format!("`{key}`"))),
            "keep one of them".to_owned(),
        ),
        E::Message { msg, .. } => (msg.clone(), SEE_SCHEMA.to_owned()),
        E::Eof { .. } => ("the file ends too early".to_owned(), SEE_SCHEMA.to_owned()),
        other => {
            let options = serde_saphyr::RenderOptions::new(&serde_saphyr::DefaultMessageFormatter);
            let message = other.render_with_options(options);
            (
                format!("not valid {}: {}", source.format.name(), without_position(first_line(&message))),
                format!("check indentation, quotes and brackets near this line; {SEE_SCHEMA}"),
            )
        }
    };
    Failure { offset, what, remedy }
}

fn of_toml(text: &str, error: &toml::de::Error) -> Failure {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let message = error.message();
    if let Some((field, expected)) = unknown_field(message) {
        let (what, remedy) = unknown_key(field, &expected);
        return Failure { offset, what, remedy };
    }
    Failure { offset, what: first_line(message).to_owned(), remedy: SEE_SCHEMA.to_owned() }
}

/// Takes serde's sentence about an unknown field apart; TOML's errors have no other form.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let (field, rest) = message.strip_prefix("unknown field `")?.split_once('`')?;
    Some((field, rest.split('`').skip(1).step_by(2).collect()))
}

fn unknown_key(field: &str, expected: &[&str]) -> (String, String) {
    (format!("unknown key `{field}`"), suggest(field, "keys here", expected.iter().copied()))
}

/// The error has its position already.
fn without_position(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(message, _)| message)
}

fn first_line(message: &str) -> &str {
    message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unreadable")
}
