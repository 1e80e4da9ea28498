//! The workflow engine: reads workflow files, plans them, and drives runs to their end through the ports of core.
//!
//! Reading order: `workflow` turns a file into a [`workflow`] plan (pure), `submission` makes a job of it,
//! `run` executes it, `proposals` validates and applies what its steps propose for `documents`, `recovery` takes up
//! what a lost host left behind, `control` is what people ask of jobs.
//! The engine performs no I/O of its own.

mod nearest;

mod approvals;
mod control;
mod engine;
mod grants;
mod janitor;
mod pins;
mod proposals;
mod recovery;
mod run;
mod safeguards;
mod submission;
mod triggers;
mod updates;

pub mod documents;
pub mod workflow;

#[cfg(test)]
mod tests;

pub use approvals::{Answer, Question, Voted};
pub use control::Control;
pub use engine::{Engine, EngineError, EngineServices};
pub use janitor::{Janitor, JanitorServices};
pub use proposals::{ProposalStatus, Proposals, ProposedDocument};
pub use recovery::{MOST_RECOVERIES, Recovered};
pub use run::{RunSummary, graph_of, steps_of};
pub use safeguards::Safeguards;
pub use submission::{InputError, InputValue, SecretInputs, Submission, SubmitError, SubmittedJob};
pub use triggers::TriggerError;
pub use updates::{RunUpdate, RunUpdateKind};
pub use workflow::{
    CheckedStep, CheckedWorkflow, Format, InvalidWorkflow, ParsedWorkflow, WorkflowError, WorkflowSource, parse,
};
