//! Proposals of steps: what they would change, whether they may, and what becomes of them.
//!
//! Nothing is applied while a run goes on. When it has ended, `settling` has every validator look at all proposals of
//! the job together, and then the job fails, waits for a person, or is done in the transaction that applies them.
//! `validators` are the host's own; `verdicts` is what those said that are plugins, which have run with the steps.
//! `validators` and `draft` are pure; `changes` words the one edit; `view` shows what it would do.

mod capability;
mod changes;
mod draft;
mod gathering;
mod settling;
mod validators;
mod verdicts;
mod view;

pub use view::{ProposalStatus, Proposals, ProposedDocument};

pub(crate) use settling::{accept, cancel, decline, is_waiting, settle, settle_all};
pub(crate) use validators::is_selectable;
pub(crate) use verdicts::{any, input, problem};
pub(crate) use view::view;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
