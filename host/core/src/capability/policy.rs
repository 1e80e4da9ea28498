//! The operator's policy: the outermost layer, and the only one that can be looked up by file and line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::CapabilityId;
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

/// The operator's policy, as it was written.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whether it is applied.
    pub mode: Mode,
    /// In file order.
    pub rules: Vec<Rule>,
    /// In file order.
    pub mounts: Vec<MountRule>,
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
    /// The rule that lets this host folder be mounted with this access, if one does.
    pub fn mount_rule(&self, host: &Path, access: MountAccess) -> Option<&MountRule> {
        self.mounts.iter().find(|rule| host.starts_with(&rule.path) && rule.access.includes(access))
    }
}
