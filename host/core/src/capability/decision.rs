//! The decision: a pure function of the rights and the request.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::axis::{Axis, ScopeForm};
use super::force::{InForce, PolicyInForce};
use super::grant::{Asked, Asking, Standing};
use super::guarded::guarded_range;
use super::id::{CapabilityId, CapabilitySet};
use super::policy::{GuardedAddress, Mode, Policy, Rule, Ruling, SourceRef};
use super::profile::Profile;
use super::resource::Resource;
use crate::job::AccessMode;
use crate::mount::MountAccess;
use crate::{Digest, GrantId, PluginId, Timestamp};

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
        /// The operator's policy does not list the folder behind the mount, or the place that a secret was to go to.
        NotListed = "not-listed",
        /// HSK-4001.
        UnknownCapability = "unknown-capability",
        /// A budget is used up.
        BudgetExceeded = "budget-exceeded",
        /// The right to act has run out: the host lost its lease on the run.
        Expired = "expired",
        /// The right was taken back.
        Revoked = "revoked",
        /// A rule wants a person asked, and nobody has said yes.
        NeedsApproval = "needs-approval",
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
        /// A grant that was needed for it, if a rule wants a person asked.
        grant: Option<GrantId>,
    },
    /// A layer refuses.
    Denied {
        /// What the guest is told.
        denial: Denial,
        /// The policy rule that denied, if it was one.
        rule: Option<SourceRef>,
    },
    /// A person has to be asked first.
    Asks {
        /// What the guest is told if nobody can be asked.
        denial: Denial,
        /// What for.
        asked: Box<Asked>,
    },
}

impl Verdict {
    fn severity(&self) -> u8 {
        match self {
            Self::Allowed { observed: Observed::No, .. } => 0,
            Self::Allowed { observed: Observed::WouldDeny, .. } => 1,
            Self::Asks { .. } => 2,
            Self::Denied { .. } => 3,
        }
    }

    fn grant(&self) -> Option<GrantId> {
        match self {
            Self::Allowed { grant, .. } => *grant,
            _ => None,
        }
    }

    /// That a person has said yes to a part of it is on record, whatever the other parts are.
    fn with_grant(mut self, granted: Option<GrantId>) -> Self {
        if let Self::Allowed { grant, .. } = &mut self {
            *grant = granted;
        }
        self
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
    /// The operator's policy, whichever is in force.
    pub policy: PolicyInForce,
    /// SHA-256 of the manifest.
    pub manifest_sha256: Digest,
    /// The folder that the job's relative paths start from: what a grant for a while is bound to.
    pub workspace: Option<Arc<str>>,
}

impl EffectiveRights {
    /// Decides one request under the policy that is in force now, as if nobody had granted anything.
    pub fn decide(&self, axis: Axis, resource: &Resource) -> Verdict {
        let nobody = Asking { place: None, workspace: None, began: Timestamp::NEVER, now: Timestamp::NEVER };
        self.decide_under(&self.policy.current(), axis, resource, &nobody)
    }

    /// Decides one request. Pure: the same rights, policy, grants, moment and request always give the same verdict,
    /// which is what makes decisions replayable under another policy.
    pub fn decide_under(&self, in_force: &InForce, axis: Axis, resource: &Resource, asking: &Asking<'_>) -> Verdict {
        if let Resource::Names { names } = resource {
            // Different layers and rules may list different ones of them; the worst verdict is that on all.
            let on = |resource: &Resource| self.decide_under(in_force, axis, resource, asking);
            let verdicts = names.iter().map(|name| on(&Resource::name(name)));
            let worst = verdicts.reduce(|one, other| {
                let granted = one.grant().or(other.grant());
                let worst = if other.severity() > one.severity() { other } else { one };
                worst.with_grant(granted)
            });
            return worst.unwrap_or_else(|| on(&Resource::Whole));
        }
        if let Some((reason, layer, remedy)) = self.refusal_below_policy(axis, resource) {
            return Verdict::Denied { denial: denial(axis, resource, reason, layer, remedy), rule: None };
        }
        // A mount outlives the policy under which it was made. Watching does not open folders.
        if let Some(remedy) = unlisted(in_force, axis, resource) {
            let denial = denial(axis, resource, DenialLabel::NotListed, Layer::Policy, remedy);
            return Verdict::Denied { denial, rule: None };
        }
        let plugin = self.plugin.as_ref();
        let (rule, guarded) =
            match said(in_force.policy(), in_force.ruling(plugin, axis, resource), (plugin, axis, resource)) {
                Said::Allowed(rule) => return allowed(rule, None),
                Said::WouldDeny(rule) => {
                    return Verdict::Allowed { rule: rule.cloned(), observed: Observed::WouldDeny, grant: None };
                }
                Said::Asks(rule) => return self.answered(in_force, (axis, resource), rule, asking),
                Said::Denied(rule, guarded) => (rule.cloned(), guarded),
            };
        let remedy = match (&rule, guarded) {
            (_, Some(guarded)) => guarded.to_string(),
            (Some(rule), None) => format!("the rule at {rule} denies it; only the operator can change that"),
            (None, None) => format!(
                "no rule allows it; the operator can add to policy.toml: [[allow]] capability = \"{}\"",
                id_for(axis, resource)
            ),
        };
        Verdict::Denied { denial: denial(axis, resource, DenialLabel::OperatorDenied, Layer::Policy, remedy), rule }
    }

    /// What people have said to a rule that wants them asked.
    fn answered(
        &self,
        in_force: &InForce,
        (axis, resource): (Axis, &Resource),
        rule: &Rule,
        asking: &Asking<'_>,
    ) -> Verdict {
        // A person at the command line is the one who would be asked.
        let Some(plugin) = &self.plugin else { return allowed(&rule.source, None) };
        let asking = &Asking { workspace: self.workspace.as_deref(), ..*asking };
        match in_force.grants().standing(plugin, axis, resource, asking) {
            Standing::Granted(grant) => allowed(&rule.source, Some(grant)),
            Standing::Revoked => {
                let remedy =
                    "the grant was taken back while the step ran; the next attempt asks for it again".to_owned();
                let denial = denial(axis, resource, DenialLabel::Revoked, Layer::Policy, remedy);
                Verdict::Denied { denial, rule: Some(rule.source.clone()) }
            }
            Standing::Unasked => {
                let Some(capability) = narrowest(&rule.capability, axis, resource) else {
                    // Asked for more than the call is about, a person would grant more.
                    let remedy = "nobody can be asked about a name of this form".to_owned();
                    let denial = denial(axis, resource, DenialLabel::OperatorDenied, Layer::Policy, remedy);
                    return Verdict::Denied { denial, rule: Some(rule.source.clone()) };
                };
                let asked = Asked {
                    capability,
                    // No database stores U+0000.
                    resource: short(resource.to_string().replace('\0', "\u{2400}")),
                    rule: rule.source.clone(),
                };
                let remedy =
                    format!("the rule at {} wants a person asked; `handshake jobs approve` answers", rule.source);
                let denial = denial(axis, resource, DenialLabel::NeedsApproval, Layer::Policy, remedy);
                Verdict::Asks { denial, asked: Box::new(asked) }
            }
        }
    }

    /// Whether what was allowed may really go to an address that its host name has. Asked after the look-up and before
    /// the connection, for each address.
    pub fn may_reach(&self, axis: Axis, resource: &Resource, ip: IpAddr) -> Result<(), GuardedAddress> {
        self.policy.current().policy().may_reach(self.plugin.as_ref(), axis, resource, ip)
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

/// What a policy says of one request, before it matters what people have answered.
pub(super) enum Said<'p> {
    /// A rule allows it.
    Allowed(&'p SourceRef),
    /// It would be denied, and the policy only watches.
    WouldDeny(Option<&'p SourceRef>),
    /// A person has to be asked.
    Asks(&'p Rule),
    /// A rule denies it, or none allows it; with the address that a rule would have to name.
    Denied(Option<&'p SourceRef>, Option<GuardedAddress>),
}

/// What a policy says, of which the rules say so much. Deciding and replaying ask the same.
pub(super) fn said<'p>(
    policy: &Policy,
    ruling: Ruling<'p>,
    (plugin, axis, resource): (Option<&PluginId>, Axis, &Resource),
) -> Said<'p> {
    let rule = match ruling {
        Ruling::Allowed(rule) => return Said::Allowed(rule),
        // Watching answers no questions, so it does not relax them.
        Ruling::Asks(rule) => {
            // People are not asked about addresses that the operator has not named.
            let reached = resource.ip().map_or(Ok(()), |ip| policy.may_reach(plugin, axis, resource, ip));
            return match reached {
                Ok(()) => Said::Asks(rule),
                Err(guarded) => Said::Denied(Some(&rule.source), Some(guarded)),
            };
        }
        Ruling::Denied(rule) => Some(rule),
        Ruling::Unmentioned => None,
    };
    // What observing lets pass is what a rule may allow one day. Nobody wants to find out from a record that a cloud's
    // credentials were had.
    let guarded = resource.ip().and_then(|ip| Some(GuardedAddress { ip, range: guarded_range(ip)? }));
    match guarded {
        None if policy.mode == Mode::Observe => Said::WouldDeny(rule),
        guarded => Said::Denied(rule, guarded.filter(|_| rule.is_none())),
    }
}

/// What to do about a path in a folder that the policy does not list; none for every other resource.
fn unlisted(in_force: &InForce, axis: Axis, resource: &Resource) -> Option<String> {
    let Resource::Path { mount, host, .. } = resource else { return None };
    // Guests read it, and do not learn where on the host a mount is.
    let (access, word) =
        if axis == Axis::FsWrite { (MountAccess::Write, "write") } else { (MountAccess::Read, "read") };
    (!in_force.lists(host, access)).then(|| {
        format!(
            "the policy does not list the folder of mount `{mount}` for {word} access; the operator can list it as a [[mount]] in policy.toml"
        )
    })
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

fn allowed(rule: &SourceRef, grant: Option<GrantId>) -> Verdict {
    Verdict::Allowed { rule: Some(rule.clone()), observed: Observed::No, grant }
}

/// What a person is asked for: no more than the rule covers, and no more than the mount or name that the call is about.
/// None when no id says that; guests choose names of any form.
pub(super) fn narrowest(rule: &CapabilityId, axis: Axis, resource: &Resource) -> Option<CapabilityId> {
    if rule.as_str() != axis.name() {
        return Some(rule.clone());
    }
    id_for(axis, resource).parse().ok()
}

/// Names of any length come from guests; what a person is shown has an end.
fn short(text: String) -> String {
    match text.char_indices().nth(500) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn denial(axis: Axis, resource: &Resource, reason: DenialLabel, layer: Layer, remedy: String) -> Denial {
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
