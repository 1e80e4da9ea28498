//! From the text of a workflow file to a plan that can be executed: everything here is pure.

mod check;
mod expression;
mod frame;
mod graph;
mod locate;
mod parse;
mod plan;
mod problem;
mod references;
mod rights;
mod source;
mod template;
mod trigger;
mod validate;
mod validators;

pub use check::{CheckedStep, CheckedWorkflow};
pub use parse::{ParsedWorkflow, parse};
pub use problem::{InvalidWorkflow, WorkflowError};
pub use source::{Format, WorkflowSource};

pub(crate) use check::{Surroundings, check};
pub(crate) use expression::{EvaluationError, MAX_LIST};
pub(crate) use frame::Frame;
pub(crate) use plan::{Plan, PlannedStep};
pub(crate) use problem::{Place, Problem};
pub(crate) use validate::{accepts, input_type, moment, sleep, type_name};

use handshake_core::step::PluginError;

/// What to do about a plugin that cannot be used.
pub(crate) fn plugin_remedy(error: &PluginError) -> String {
    check::of_plugin(error).1
}

/// A problem with the path of a mount.
pub(crate) fn mount_problem(name: &str, what: String) -> Problem {
    Problem::at(
        Place::default().key("mounts").key(name).key("path"),
        what,
        "correct the path or the input that it is made of",
    )
}

/// Ways in for the crate's tests.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Arc;

    use serde_json::Value;

    use super::expression::Expression;
    use super::frame::Frame;
    pub(crate) use super::references::FUNCTIONS;

    /// Compiles and evaluates one expression.
    pub(crate) fn evaluate(source: &str, inputs: &Arc<Value>) -> Result<Value, String> {
        let expression = Expression::compile(source).map_err(|error| error.what)?;
        Frame::new(inputs, |_| None, [&expression])
            .evaluate(&expression, None)
            .map(|found| found.value())
            .map_err(|error| error.to_string())
    }
}
