//! What is wrong with a workflow: first by place in its structure, then by line and column of its file.

use std::fmt;

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Key(String),
    Index(usize),
}

/// A place in a workflow's structure, shown as `steps[2].with.text`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) Vec<Part>);

impl Place {
    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Part::Key(key.to_owned()))
    }
    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Part::Index(index))
    }
    pub(crate) fn with(&self, part: Part) -> Self {
        let mut parts = self.0.clone();
        parts.push(part);
        Self(parts)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Index(index) => write!(f, "[{index}]")?,
                Part::Key(key) if at == 0 => f.write_str(key)?,
                Part::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// Text inside a value, to point at instead of the value's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Within {
    /// Text to look for in the value as it is written.
    pub(crate) text: String,
    /// Bytes behind the beginning of that text.
    pub(crate) offset: usize,
}

/// A problem by place, not yet by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    pub(crate) within: Option<Within>,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Problem {
    pub(crate) fn at(place: Place, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place, within: None, what: what.into(), remedy: remedy.into() }
    }

    pub(crate) fn pointing(mut self, text: &str, offset: usize) -> Self {
        self.within = Some(Within { text: text.to_owned(), offset });
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A workflow file that cannot be used: where, what and why. What to do about it is [`WorkflowError::hint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}")]
pub struct WorkflowError {
    /// File, as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong and why.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl WorkflowError {
    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.remedy
    }
}

/// Everything that is wrong with a workflow file; at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", listed(.0))]
pub struct InvalidWorkflow(Vec<WorkflowError>);

impl InvalidWorkflow {
    /// By line and column.
    pub(crate) fn new(mut problems: Vec<WorkflowError>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Self(problems)
    }

    /// What is wrong, by line and column.
    pub fn problems(&self) -> &[WorkflowError] {
        &self.0
    }
}

impl From<WorkflowError> for InvalidWorkflow {
    fn from(problem: WorkflowError) -> Self {
        Self(vec![problem])
    }
}

fn listed(problems: &[WorkflowError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
