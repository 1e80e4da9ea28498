//! Approvals: questions to people on which a run waits.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::capability::PermissionRequest;
use crate::job::canonical_enum;
use crate::token::Role;
use crate::{ApprovalId, JobId, RunId, StepId, Timestamp};

/// Longest question, bytes.
const MAX_PROMPT_BYTES: usize = 64 << 10;
/// Longest reason of a vote, bytes.
const MAX_REASON_BYTES: usize = 4 << 10;
/// Longest name of a person, bytes.
const MAX_NAME_BYTES: usize = 256;
/// Most people that are asked, and most votes that are needed.
const MAX_APPROVERS: usize = 1_000;

canonical_enum! {
    /// Where an approval stands.
    ApprovalState, "approval state" {
        /// Votes are missing.
        Pending = "pending",
        /// Enough people said yes.
        Approved = "approved",
        /// Somebody said no.
        Rejected = "rejected",
        /// Its time ran out.
        Expired = "expired",
        /// Nobody needs it any more.
        Cancelled = "cancelled",
    }
}

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Who; 1 to 256 bytes.
    pub who: String,
    /// Yes or no.
    pub approve: bool,
    /// Why, at most 4 KiB.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A question to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Its id.
    pub approval_id: ApprovalId,
    /// The job.
    pub job_id: JobId,
    /// The run that waits.
    pub run_id: RunId,
    /// The step that waits.
    pub step_id: StepId,
    /// Position within `for_each`.
    pub index: Option<u32>,
    /// State.
    pub state: ApprovalState,
    /// What is asked, at most 64 KiB.
    pub prompt: String,
    /// Who may answer; empty for everybody.
    pub approvers: BTreeSet<String>,
    /// How many must say yes, from 1.
    pub quorum: u32,
    /// What it is about, when a step asks for a capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<PermissionRequest>,
    /// What was said, in order.
    pub votes: Vec<Vote>,
    /// From when on it is too late.
    pub expires_at: Option<Timestamp>,
    /// Created.
    pub created_at: Timestamp,
    /// When it left `pending`.
    pub decided_at: Option<Timestamp>,
}

/// Why an approval does not take what it is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// It is over.
    #[error("the approval is `{0}` already")]
    Decided(ApprovalState),
    /// It is too late.
    #[error("the approval expired at {0}")]
    Expired(Timestamp),
    /// It is too early to let it expire.
    #[error("the approval does not expire before {}", .0.map_or_else(|| "it is decided".to_owned(), |at| at.to_string()))]
    NotExpired(Option<Timestamp>),
    /// Somebody else is asked.
    #[error("`{0}` is not one of the approvers")]
    NotAnApprover(String),
    /// One person has one vote.
    #[error("`{0}` has voted already")]
    VotedAlready(String),
    /// It cannot be asked or answered like that.
    #[error("{0}")]
    Invalid(String),
}

fn check_length(what: &str, text: &str, least: usize, most: usize) -> Result<(), ApprovalError> {
    if (least..=most).contains(&text.len()) {
        return Ok(());
    }
    Err(ApprovalError::Invalid(format!("{what} has {least} to {most} bytes")))
}

impl Approval {
    /// Checks that it can be asked: that it is new, its texts are not too long, and its quorum can be reached.
    pub fn check(&self) -> Result<(), ApprovalError> {
        let invalid = |problem: &str| Err(ApprovalError::Invalid(problem.to_owned()));
        if self.approval_id.is_nil() {
            return invalid("an approval needs an id that is not nil");
        }
        if self.state != ApprovalState::Pending || !self.votes.is_empty() || self.decided_at.is_some() {
            return invalid("a new approval is pending and has no votes");
        }
        check_length("the question", &self.prompt, 0, MAX_PROMPT_BYTES)?;
        self.approvers.iter().try_for_each(|name| check_length("an approver's name", name, 1, MAX_NAME_BYTES))?;
        let asked = if self.approvers.is_empty() { MAX_APPROVERS } else { self.approvers.len().min(MAX_APPROVERS) };
        if self.approvers.len() > MAX_APPROVERS || !(1..=asked).contains(&(self.quorum as usize)) {
            return Err(ApprovalError::Invalid(format!(
                "the quorum is 1 to the number of approvers, which is at most {MAX_APPROVERS}"
            )));
        }
        Ok(())
    }

    /// The approval after a vote: rejected by one no, approved by as many yes as its quorum says, pending until then.
    ///
    /// Who may vote is named by who they are, or by the role in which they came in.
    pub fn vote(mut self, vote: Vote, role: Option<Role>) -> Result<Self, ApprovalError> {
        self.require_pending()?;
        if let Some(expired) = self.expires_at.filter(|expires| *expires <= vote.at) {
            return Err(ApprovalError::Expired(expired));
        }
        check_length("a voter's name", &vote.who, 1, MAX_NAME_BYTES)?;
        check_length("a reason", vote.reason.as_deref().unwrap_or_default(), 0, MAX_REASON_BYTES)?;
        let named = |name: &String| *name == vote.who || role.is_some_and(|role| role.as_str() == name);
        if !self.approvers.is_empty() && !self.approvers.iter().any(named) {
            return Err(ApprovalError::NotAnApprover(vote.who));
        }
        if self.votes.iter().any(|earlier| earlier.who == vote.who) {
            return Err(ApprovalError::VotedAlready(vote.who));
        }
        let (approve, at) = (vote.approve, vote.at);
        self.votes.push(vote);
        // Every vote so far was a yes, or this would be decided.
        Ok(match approve {
            false => self.decided(ApprovalState::Rejected, at),
            true if self.votes.len() >= self.quorum as usize => self.decided(ApprovalState::Approved, at),
            true => self,
        })
    }

    /// The approval after its time has run out.
    pub fn expire(self, now: Timestamp) -> Result<Self, ApprovalError> {
        self.require_pending()?;
        match self.expires_at {
            Some(expires) if expires <= now => Ok(self.decided(ApprovalState::Expired, now)),
            expires => Err(ApprovalError::NotExpired(expires)),
        }
    }

    /// The approval when nobody needs it any more, for example because its job was cancelled.
    pub fn cancel(self, now: Timestamp) -> Result<Self, ApprovalError> {
        self.require_pending()?;
        Ok(self.decided(ApprovalState::Cancelled, now))
    }

    fn require_pending(&self) -> Result<(), ApprovalError> {
        if self.state == ApprovalState::Pending { Ok(()) } else { Err(ApprovalError::Decided(self.state)) }
    }

    fn decided(self, state: ApprovalState, at: Timestamp) -> Self {
        Self { state, decided_at: Some(at), ..self }
    }
}

#[cfg(test)]
#[path = "approval_tests.rs"]
mod tests;
