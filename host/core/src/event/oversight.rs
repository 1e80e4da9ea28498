//! What people do about the host: who vouches, who is not let in, which policy is in force.

use serde::{Deserialize, Serialize};

use crate::capability::{CapabilityId, Extent};
use crate::job::canonical_enum;
use crate::{Digest, EventId, GrantId, PluginId, Timestamp};

canonical_enum! {
    /// What a person says about a run after looking at its record.
    Judgement, "judgement" {
        /// It did what it should.
        Accept = "accept",
        /// It did not.
        Reject = "reject",
    }
}

/// Body of `sign_off`: a person vouches for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SignOff {
    /// For what, for example `job:0198…`.
    pub subject: String,
    /// SHA-256 of the statement, which is kept where its signature is.
    pub statement_sha256: Digest,
    /// Hash of the last record that was looked at; none when it is not about the record.
    pub head_hash: Option<Digest>,
    /// What the person says; none when the statement alone has it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<Judgement>,
}

/// Body of `auth_refusal`: somebody was not let in. The actor is who they said they were, or the host when they said
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuthRefusal {
    /// What was attempted, for example `POST /v1/jobs`.
    pub attempted: String,
    /// Stable label of why not, for example `expired`.
    pub reason: String,
    /// Where from: an address, or the user of the operating system.
    pub peer: Option<String>,
}

/// What somebody granted to a plugin, or took back, in an event `approval`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GrantNote {
    /// The grant.
    pub grant_id: GrantId,
    /// For which plugin.
    pub plugin: PluginId,
    /// Which capability, with its scope.
    pub capability: CapabilityId,
    /// How far it reaches.
    pub extent: Extent,
    /// From when on it does not hold any more; none when its job or a person ends it.
    pub expires_at: Option<Timestamp>,
}

/// Body of `policy_change`: from here on another policy decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PolicyChange {
    /// SHA-256 of the policy before; none at the first start.
    pub old_sha256: Option<Digest>,
    /// SHA-256 of the policy that decides now.
    pub new_sha256: Digest,
    /// The change of rights that led to it, such as one that was taken back; none when a file was edited.
    pub cause: Option<EventId>,
}
