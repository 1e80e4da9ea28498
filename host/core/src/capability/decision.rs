//! The decision: a pure function of the rights and the request.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::axis::{Axis, ScopeForm};
use super::guarded::guarded_range;
use super::id::CapabilitySet;
use super::policy::{GuardedAddress, Mode, Policy, Ruling, SourceRef};
use super::profile::Profile;
use super::resource::Resource;
use crate::job::AccessMode;
use crate::{Digest, PluginId};

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $label:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $label)] $variant,)* }
        impl $name {
            /// The stable label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

labels! {
    /// Why a call was denied.
    DenialLabel {
        /// The manifest does not declare it.
        NotDeclared = "not-declared",
        /// The step does not grant it.
        NotGranted = "not-granted",
        /// The profile does not list it.
        NotInProfile = "not-in-profile",
        /// The access mode excludes it.
        AccessMode = "access-mode",
        /// The operator's policy denies it, or no rule allows it.
        OperatorDenied = "operator-denied",
        /// HSK-4001.
        UnknownCapability = "unknown-capability",
        /// A budget is used up.
        BudgetExceeded = "budget-exceeded",
        /// The right to act has run out: the host lost its lease on the run.
        Expired = "expired",
        /// The right was taken back.
        Revoked = "revoked",
        /// The decision could not be recorded.
        RecorderUnavailable = "recorder-unavailable",
    }
}

labels! {
    /// Which layer decided.
    Layer {
        /// The capability registry.
        Registry = "registry",
        /// The plugin's manifest.
        Manifest = "manifest",
        /// The workflow step's grants.
        Grant = "grant",
        /// The job's profile.
        Profile = "profile",
        /// The job's access mode.
        AccessMode = "access-mode",
        /// The operator's policy.
        Policy = "policy",
        /// A budget.
        Budget = "budget",
        /// The recorder.
        Recorder = "recorder",
    }
}

/// A refused call, as the guest and the person see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("`{capability}` on `{resource}` denied by {layer} ({reason}); {remedy}")]
pub struct Denial {
    /// The capability that the call needed.
    pub capability: String,
    /// What the call was about.
    pub resource: String,
    /// Why.
    pub reason: DenialLabel,
    /// Which layer refused.
    pub layer: Layer,
    /// The line that would allow it and where it belongs.
    pub remedy: String,
}

/// Whether the policy was only watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// The verdict is the policy's own.
    No,
    /// The policy would have denied; observe mode let it pass.
    WouldDeny,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every layer agrees.
    Allowed {
        /// The policy rule that allowed it; none when the policy was only watching.
        rule: Option<SourceRef>,
        /// Whether the policy would have denied.
        observed: Observed,
    },
    /// A layer refuses.
    Denied {
        /// What the guest is told.
        denial: Denial,
        /// The policy rule that denied, if it was one.
        rule: Option<SourceRef>,
    },
}

impl Verdict {
    fn severity(&self) -> u8 {
        match self {
            Self::Allowed { observed: Observed::No, .. } => 0,
            Self::Allowed { observed: Observed::WouldDeny, .. } => 1,
            Self::Denied { .. } => 2,
        }
    }
}

/// What one attempt may do: the four layers and the access mode, compiled once per step.
#[derive(Debug, Clone)]
pub struct EffectiveRights {
    /// Who asks; none for a person at the command line.
    pub plugin: Option<PluginId>,
    /// What the manifest declares.
    pub declared: CapabilitySet,
    /// What the step grants.
    pub granted: CapabilitySet,
    /// The job's profile.
    pub profile: Arc<Profile>,
    /// The job's access mode.
    pub access_mode: AccessMode,
    /// The operator's policy.
    pub policy: Arc<Policy>,
    /// SHA-256 of the manifest.
    pub manifest_sha256: Digest,
}

impl EffectiveRights {
    /// Decides one request. Pure: the same rights and request always give the same verdict, which is what
    /// makes decisions replayable under another policy.
    pub fn decide(&self, axis: Axis, resource: &Resource) -> Verdict {
        if let Resource::Names { names } = resource {
            // Different layers and rules may list different ones of them; the worst verdict is that on all.
            let verdicts = names.iter().map(|name| self.decide(axis, &Resource::name(name)));
            let worst = verdicts.reduce(|worst, next| if next.severity() > worst.severity() { next } else { worst });
            return worst.unwrap_or_else(|| self.decide(axis, &Resource::Whole));
        }
        if let Some((reason, layer, remedy)) = self.refusal_below_policy(axis, resource) {
            return Verdict::Denied { denial: denial(axis, resource, reason, layer, remedy), rule: None };
        }
        let plugin = self.plugin.as_ref();
        let rule = match self.policy.rule_on(plugin, axis, resource) {
            Ruling::Allowed(rule) => return Verdict::Allowed { rule: Some(rule.clone()), observed: Observed::No },
            Ruling::Denied(rule) => Some(rule.clone()),
            Ruling::Unmentioned => None,
        };
        // What observing lets pass is what a rule may allow one day. Nobody wants to find out from a record that a
        // cloud's credentials were had.
        let guarded = resource.ip().and_then(|ip| Some(GuardedAddress { ip, range: guarded_range(ip)? }));
        if self.policy.mode == Mode::Observe && guarded.is_none() {
            return Verdict::Allowed { rule, observed: Observed::WouldDeny };
        }
        let remedy = match (&rule, guarded) {
            (Some(rule), _) => format!("the rule at {rule} denies it; only the operator can change that"),
            (None, Some(guarded)) => guarded.to_string(),
            (None, None) => format!(
                "no rule allows it; the operator can add to policy.toml: [[allow]] capability = \"{}\"",
                id_for(axis, resource)
            ),
        };
        Verdict::Denied { denial: denial(axis, resource, DenialLabel::OperatorDenied, Layer::Policy, remedy), rule }
    }

    /// Whether what was allowed may really go to an address that its host name has. Asked after the look-up and before
    /// the connection, for each address.
    pub fn may_reach(&self, axis: Axis, resource: &Resource, ip: IpAddr) -> Result<(), GuardedAddress> {
        self.policy.may_reach(self.plugin.as_ref(), axis, resource, ip)
    }

    fn refusal_below_policy(&self, axis: Axis, resource: &Resource) -> Option<(DenialLabel, Layer, String)> {
        let id = || id_for(axis, resource);
        if matches!(resource, Resource::OutsidePath { .. }) {
            return Some((
                DenialLabel::NotGranted,
                Layer::Grant,
                "the path leads out of every mount; no grant covers that".into(),
            ));
        }
        if let Resource::NoTarget { problem, .. } = resource {
            let remedy = format!("{problem}; no grant covers that");
            return Some((DenialLabel::NotGranted, Layer::Registry, remedy));
        }
        if !axis.is_grantable() {
            return Some((
                DenialLabel::NotGranted,
                Layer::Registry,
                format!("this version of the host never grants `{axis}`"),
            ));
        }
        if self.declared.covering(axis, resource).is_none() {
            return Some((
                DenialLabel::NotDeclared,
                Layer::Manifest,
                format!("add to plugin.toml: [[capability]] id = \"{axis}\" with a reason"),
            ));
        }
        if self.granted.covering(axis, resource).is_none() {
            return Some((
                DenialLabel::NotGranted,
                Layer::Grant,
                format!("add to the step in the workflow file: grants: [\"{}\"]", id()),
            ));
        }
        if self.profile.capabilities.covering(axis, resource).is_none() {
            let profile = &self.profile.id;
            return Some((
                DenialLabel::NotInProfile,
                Layer::Profile,
                format!(
                    "profile `{profile}` does not list it; choose another with job.profile in the workflow file, or add a profile with \"{axis}\" to handshake.toml"
                ),
            ));
        }
        if !self.access_mode.allows(axis) {
            let mode = self.access_mode.as_str();
            return Some((
                DenialLabel::AccessMode,
                Layer::AccessMode,
                format!("access mode `{mode}` excludes it; write in the workflow file: job.access_mode: apply_scoped"),
            ));
        }
        None
    }
}

/// The narrowest id that would cover the resource, for remedies.
fn id_for(axis: Axis, resource: &Resource) -> String {
    match (axis.scope_form(), resource) {
        (_, Resource::Path { mount, .. }) => format!("{axis}:{mount}"),
        (ScopeForm::Name | ScopeForm::Variable, Resource::Name { name }) => format!("{axis}:{name}"),
        (ScopeForm::Http, Resource::Request(target)) => {
            let origin = &target.origin;
            format!("{axis}:{}://{}", origin.scheme(), origin.authority())
        }
        (ScopeForm::Socket, Resource::Socket(target)) => match target.names.first() {
            Some(name) => format!("{axis}:{name}:{}", target.port),
            None => format!("{axis}:{target}"),
        },
        (ScopeForm::Host, Resource::Host { host }) => format!("{axis}:{host}"),
        _ => axis.to_string(),
    }
}

fn denial(axis: Axis, resource: &Resource, reason: DenialLabel, layer: Layer, remedy: String) -> Denial {
    // Names of any length come from guests; what a person is shown has an end.
    let short = |text: String| match text.char_indices().nth(500) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    };
    Denial {
        capability: short(id_for(axis, resource)),
        resource: short(resource.to_string()),
        reason,
        layer,
        remedy: short(remedy),
    }
}

impl Denial {
    /// A refusal that no layer of the rights gave: the recorder, a budget, a lost lease.
    pub(crate) fn outside_rights(
        axis: Axis,
        resource: &Resource,
        reason: DenialLabel,
        layer: Layer,
        remedy: &str,
    ) -> Self {
        denial(axis, resource, reason, layer, remedy.to_owned())
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
