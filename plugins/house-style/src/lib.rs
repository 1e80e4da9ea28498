//! A validator: looks at what a job proposes, and says whether it may be applied. It needs no capability for that, and
//! has no say in anything else.

mod rules;

use handshake_step::prelude::*;

/// What the host gives every validator.
#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// All proposals of the job, in their order.
    proposals: Vec<Proposal>,
    /// What the workflow says in `with`.
    with: Style,
}

/// Changes to one document.
#[data]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The document's id.
    document: String,
    /// The version that was read.
    base_version: u64,
    /// The changes, in their order.
    operations: Vec<Operation>,
}

/// One change. What later hosts add to it is of no interest here.
#[data]
pub struct Operation {
    /// Its kind, for example `replace_block`.
    op: String,
    /// The block's new text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// The new value of an entry of the metadata, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// The style of the house.
#[data]
#[serde(deny_unknown_fields)]
pub struct Style {
    /// Words that must not be written, whatever their case.
    #[serde(default)]
    words: Vec<String>,
    /// How many blocks may be deleted without a person looking.
    #[serde(default)]
    deletions: usize,
}

/// What is to become of the proposals.
#[data]
#[serde(rename_all = "snake_case")]
#[derive(Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Nothing is wrong with them.
    Pass,
    /// A person has to look.
    NeedsPerson,
    /// They must not be applied.
    Reject,
}

/// The word of a validator.
#[data]
pub struct Output {
    /// What is to become of them.
    verdict: Verdict,
    /// Why.
    reasons: Vec<String>,
}

#[step(capabilities = [])]
fn run(_context: Context, input: Input) -> Result<Output, StepError> {
    Ok(rules::look(&input))
}
