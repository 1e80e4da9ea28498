//! What validators that are plugins are given, and what they may say. They run as the last nodes of a job's run; what
//! they said is stored with it, and counts whenever the same proposals are validated.

use std::borrow::Cow;

use handshake_core::Json;
use handshake_core::document::Proposal;
use handshake_core::node::{NodeExecution, NodeState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::validators::{Finding, Verdict};
use crate::run::bounded_to;
use crate::workflow::{Plan, PlannedStep};

/// Reasons of one validator that are kept.
const MOST_REASONS: usize = 20;
/// Longest reason, bytes.
const MAX_REASON: usize = 500;

/// What a validator says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    verdict: Word,
    reasons: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Pass,
    NeedsPerson,
    Reject,
}

/// The input of a validator: all proposals of the run in their order, and what its `with` gives.
pub(crate) fn input<'p>(proposals: impl Iterator<Item = &'p Proposal>, with: &Json) -> Json {
    Json::of(&json!({ "proposals": proposals.collect::<Vec<_>>(), "with": with.value() }))
}

/// Whether there is anything to look at.
pub(crate) fn any<'p>(mut proposals: impl Iterator<Item = &'p Proposal>) -> bool {
    proposals.any(|proposal| !proposal.operations.is_empty())
}

/// What is wrong with an output that is no verdict. A validator that cannot be understood is broken, and does not pass.
pub(crate) fn problem(output: &Value) -> Option<String> {
    let error = Said::deserialize(output).err()?;
    Some(format!(
        "a validator returns `{{ \"verdict\": \"pass\" | \"needs_person\" | \"reject\", \"reasons\": [\"…\"] }}`, and this is none: {error}"
    ))
}

/// What all validators of a plan have said. One that has not been heard does not let anything pass.
pub(super) fn findings(plan: &Plan, nodes: &[NodeExecution], label: impl Fn(&PlannedStep) -> String) -> Vec<Finding> {
    let mut found = Vec::new();
    for planned in plan.steps.iter().filter(|planned| planned.validates) {
        let validator = label(planned);
        let node = nodes.iter().rev().find(|node| node.node.step == planned.step.id);
        let output = node.filter(|node| node.state == NodeState::Completed).and_then(|node| node.output.as_ref());
        let said = output.map(|output| Said::deserialize(output.value()));
        let (verdict, reasons) = match said {
            Some(Ok(Said { verdict: Word::Pass, .. })) => continue,
            Some(Ok(Said { verdict: Word::NeedsPerson, reasons })) => (Verdict::NeedsPerson, reasons),
            Some(Ok(Said { verdict: Word::Reject, reasons })) => (Verdict::Reject, reasons),
            Some(Err(_)) | None => (Verdict::Reject, vec!["it gave no verdict on what is proposed".to_owned()]),
        };
        let reasons = if reasons.is_empty() { vec!["it gave no reason".to_owned()] } else { reasons };
        found.extend(reasons.into_iter().take(MOST_REASONS).map(|why| Finding {
            validator: Cow::Owned(validator.clone()),
            verdict,
            why: bounded_to(why, MAX_REASON),
        }));
    }
    found
}
