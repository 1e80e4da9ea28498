//! What is decided about calls: the decision, what became of it, and what another policy would have said.

use serde::{Deserialize, Serialize};

use crate::capability::{DenialLabel, Layer, Mode, SourceRef};
use crate::job::canonical_enum;
use crate::{Digest, EventId, GrantId, JobId};

canonical_enum! {
    /// What the gate decided.
    Outcome, "decision outcome" {
        /// Allowed.
        Allow = "allow",
        /// Denied.
        Deny = "deny",
    }
}

/// Body of `capability_action`: one decision, written before its effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DecisionRecord {
    /// Same as the envelope's, in the place where R6.3 asks for it.
    pub capability_id: String,
    /// Same as the envelope's actor.
    pub actor_id: String,
    /// Same as the envelope's.
    pub job_id: Option<JobId>,
    /// Allow or deny.
    pub decision_outcome: Outcome,
    /// Position within `for_each`.
    pub index: Option<u32>,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Number of the call within the attempt, from 1.
    pub call: u64,
    /// SHA-256 of the component; none for a person at the command line.
    pub component_sha256: Option<Digest>,
    /// WIT interface, for example `handshake:step/models@0.1.0`.
    pub interface: String,
    /// WIT function.
    pub function: String,
    /// The resource in canonical form.
    pub resource: String,
    /// The host folder behind it, for paths.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host_path: Option<String>,
    /// Names of the secrets whose values go along with a request.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub secrets: Vec<String>,
    /// Why it was denied; none when allowed.
    pub reason: Option<DenialLabel>,
    /// The layer that decided.
    pub layer: Layer,
    /// The policy rule that decided.
    pub rule: Option<SourceRef>,
    /// Enforce or observe.
    pub mode: Mode,
    /// Whether the policy would have denied what observe mode let pass.
    pub would_deny: bool,
    /// The grant that answered the rule, if the rule wants a person asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grant: Option<GrantId>,
    /// SHA-256 of the policy.
    pub policy_sha256: Digest,
    /// SHA-256 of the manifest.
    pub manifest_sha256: Digest,
    /// SHA-256 over the call's arguments.
    pub arguments_sha256: Digest,
    /// How long the decision took, nanoseconds.
    pub evaluation_ns: u64,
}

/// Body of `capability_outcome`: what became of an allowed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OutcomeRecord {
    /// Event id of the decision.
    pub decision: EventId,
    /// Same as the decision's.
    pub capability_id: String,
    /// Number of the call within the attempt.
    pub call: u64,
    /// `ok`, an error label, or `abandoned`.
    pub result: String,
    /// Bytes that went into the guest.
    pub bytes_in: u64,
    /// Bytes that came out of it.
    pub bytes_out: u64,
    /// From the decision to the end, microseconds.
    pub duration_us: u64,
}

/// Body of `simulation`: what another policy would have said to a call, which was not made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SimulationRecord {
    /// The capability.
    pub capability_id: String,
    /// The resource in canonical form.
    pub resource: String,
    /// SHA-256 of the policy that was tried.
    pub policy_sha256: Digest,
    /// What it would have said.
    pub outcome: Outcome,
    /// Why it would have denied; none when it would have allowed.
    pub reason: Option<DenialLabel>,
    /// The decision that was really made; none for a call that is only supposed.
    pub decision: Option<EventId>,
    /// The plugin that was supposed to ask, with its version; none when it was not noted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin: Option<String>,
    /// The layer that would have decided; none when it was not noted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub layer: Option<Layer>,
}
