//! The operator's policy: the outermost layer, and the only one that can be looked up by file and line.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::axis::Axis;
use super::guarded::guarded_range;
use super::id::CapabilityId;
use super::resource::Resource;
use crate::mount::MountAccess;
use crate::{Digest, PluginId};

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SourceRef {
    /// File name as the operator gave it, or `built-in`.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Allow.
    Allow,
    /// Ask a person, unless somebody has answered; beats every allow.
    Ask,
    /// Deny; beats everything.
    Deny,
}

impl Effect {
    /// As the section of its rules is called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }

    /// Smaller wins.
    pub(super) const fn precedence(self) -> u8 {
        match self {
            Self::Deny => 0,
            Self::Ask => 1,
            Self::Allow => 2,
        }
    }
}

/// Whether the policy is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The policy decides.
    Enforce,
    /// What the policy would deny is allowed and recorded as would-deny. The other layers decide as always.
    Observe,
}

/// One allow, ask or deny rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What it says.
    pub effect: Effect,
    /// Of which capability.
    pub capability: CapabilityId,
    /// For which plugins; empty for all.
    pub plugins: Vec<PluginId>,
    /// Guarded addresses that an allow rule may lead to although its capability does not name them.
    pub addresses: Vec<IpNet>,
    /// Where it stands.
    pub source: SourceRef,
}

/// A host folder that may be mounted, itself or any folder below it.
#[derive(Debug, Clone)]
pub struct MountRule {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// The most that a mount of it may ask for.
    pub access: MountAccess,
    /// Where it stands.
    pub source: SourceRef,
}

impl Rule {
    pub(super) fn is_about(&self, plugin: Option<&PluginId>) -> bool {
        self.plugins.is_empty() || plugin.is_some_and(|plugin| self.plugins.contains(plugin))
    }

    /// Whether it says something about the call. What restricts is not got around by a spelling that servers read
    /// differently, nor by an address that it does not name.
    pub(super) fn applies(&self, axis: Axis, resource: &Resource) -> bool {
        match self.effect {
            Effect::Deny | Effect::Ask => self.capability.may_cover(axis, resource),
            // One that does not name a guarded address says nothing about it.
            Effect::Allow => self.capability.covers(axis, resource) && resource.ip().is_none_or(|ip| self.reaches(ip)),
        }
    }

    /// Whether it leads to the address: one of the public internet, or one that it names.
    fn reaches(&self, ip: IpAddr) -> bool {
        guarded_range(ip).is_none() || self.names(ip)
    }

    fn names(&self, ip: IpAddr) -> bool {
        self.capability.names_address(ip) || self.addresses.iter().any(|network| network.contains(&ip))
    }
}

/// Where the value of a secret may go.
#[derive(Debug, Clone)]
pub struct SecretRule {
    /// The secret.
    pub name: String,
    /// Requests to which, as capabilities of `net.http`.
    pub hosts: Vec<CapabilityId>,
    /// In which headers, in lower case.
    pub headers: Vec<String>,
    /// Where it stands.
    pub source: SourceRef,
}

/// An address that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{ip} is a {range} address, and no rule names it; the operator can add to the rule in policy.toml: addresses = [\"{ip}\"]"
)]
pub struct GuardedAddress {
    /// The address.
    pub ip: IpAddr,
    /// What it belongs to.
    pub range: &'static str,
}

/// The operator's policy, as it was written.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whether it is applied.
    pub mode: Mode,
    /// In file order.
    pub rules: Vec<Rule>,
    /// In file order.
    pub mounts: Vec<MountRule>,
    /// In file order.
    pub secrets: Vec<SecretRule>,
    /// SHA-256 of the file, or of the built-in text.
    pub digest: Digest,
}

/// What the policy says of one call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ruling<'a> {
    Allowed(&'a SourceRef),
    Asks(&'a Rule),
    Denied(&'a SourceRef),
    Unmentioned,
}

impl Policy {
    /// One that has no rules, and so allows nothing unless it only watches.
    pub const fn empty(mode: Mode, digest: Digest) -> Self {
        Self { mode, rules: Vec::new(), mounts: Vec::new(), secrets: Vec::new(), digest }
    }

    /// Whether a call that was allowed may really go to an address that its host name has. Looking a name up goes
    /// nowhere yet, so there a rule on any axis is enough.
    pub(super) fn may_reach(
        &self,
        plugin: Option<&PluginId>,
        axis: Axis,
        resource: &Resource,
        ip: IpAddr,
    ) -> Result<(), GuardedAddress> {
        let Some(range) = guarded_range(ip) else { return Ok(()) };
        let is_named = self.rules.iter().any(|rule| {
            rule.effect != Effect::Deny
                && rule.is_about(plugin)
                && rule.names(ip)
                && (axis == Axis::NetDns || rule.capability.covers(axis, resource))
        });
        if is_named { Ok(()) } else { Err(GuardedAddress { ip, range }) }
    }

    /// The rule that lets this host folder be mounted with this access, if one does.
    pub fn mount_rule(&self, host: &Path, access: MountAccess) -> Option<&MountRule> {
        self.mounts.iter().find(|rule| host.starts_with(&rule.path) && rule.access.includes(access))
    }
}
