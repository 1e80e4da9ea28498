//! The port through which the engine has steps executed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::budget::BudgetMeter;
use crate::capability::{Asked, Denial, EffectiveRights};
use crate::document::Proposal;
use crate::gate::AttemptIdentity;
use crate::job::{AccessMode, JobMetrics};
use crate::manifest::{Limits, PluginManifest};
use crate::mount::Mount;
use crate::{Digest, Json, PluginId, Timestamp};

/// A plugin that was found, read and checked against its manifest.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its manifest.
    pub manifest: PluginManifest,
    /// SHA-256 of the manifest's text.
    pub manifest_sha256: Digest,
    /// SHA-256 of the component.
    pub component_sha256: Digest,
    /// The folder it was found in.
    pub folder: std::path::PathBuf,
}

impl Plugin {
    /// `id@version`, as records show it.
    pub fn label(&self) -> String {
        format!("{}@{}", self.manifest.id, self.manifest.version)
    }
}

/// Everything that one attempt is given.
pub struct StepInvocation {
    /// Which attempt.
    pub identity: AttemptIdentity,
    /// What to run.
    pub plugin: Arc<Plugin>,
    /// Input.
    pub input: Json,
    /// What it may do.
    pub rights: Arc<EffectiveRights>,
    /// What its calls of models may use, together with all others of the run.
    pub budget: Arc<BudgetMeter>,
    /// Access mode, as the guest sees it.
    pub access_mode: AccessMode,
    /// Its folders.
    pub mounts: Vec<Mount>,
    /// Its limits.
    pub limits: Limits,
    /// The same on every attempt.
    pub idempotency_key: String,
    /// When it starts; the guest's wall clock begins here.
    pub started_at: Timestamp,
    /// How long it may take.
    pub wall: Duration,
    /// Seed of its randomness.
    pub random_seed: [u8; 32],
    /// Settings that the operator gave the plugin.
    pub settings: Arc<BTreeMap<String, Value>>,
    /// Watches it.
    pub observer: Arc<dyn StepObserver>,
}

/// Who watches an attempt. Calls must not block.
pub trait StepObserver: Send + Sync {
    /// A log line, bounded and with control characters escaped.
    fn log(&self, level: LogLevel, line: &str);
    /// Progress in the step's own units.
    fn progress(&self, done: u64, total: Option<u64>, message: &str);
    /// What the attempt has used, once, when it has ended in whatever way.
    fn used(&self, _usage: Usage) {}
}

/// What stands in the text of a [`StepFailure::Trap`] before the guest's functions, innermost first, ` < ` between them.
pub const GUEST_BACKTRACE: &str = "; guest backtrace: ";

/// What one attempt has used, as the host counted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All linear memories and tables together, bytes; they never shrink.
    pub memory_bytes: u64,
    /// Calls into the host of any kind.
    pub host_calls: u64,
    /// Instructions, as wasmtime counts fuel; none when the plugin has no limit of it, because then it is not counted.
    pub fuel: Option<u64>,
}

crate::job::canonical_enum! {
    /// How important a log line is.
    LogLevel, "log level" {
        /// Trace.
        Trace = "trace",
        /// Debug.
        Debug = "debug",
        /// Info.
        Info = "info",
        /// Warning.
        Warn = "warn",
        /// Error.
        Error = "error",
    }
}

/// What a successful attempt produced.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// Output.
    pub output: Value,
    /// What the step measured.
    pub measurements: BTreeMap<String, f64>,
    /// What it cost, as the host counted it.
    pub metrics: JobMetrics,
    /// What it proposes.
    pub proposals: Vec<Proposal>,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepFailure {
    /// The input is not what the step takes.
    #[error("invalid input: {0}")]
    InvalidInput(String),
    /// A call that it cannot do without was denied.
    #[error("{0}")]
    Denied(Denial),
    /// May be retried.
    #[error("{0}")]
    Transient(String),
    /// Not to be retried.
    #[error("{0}")]
    Permanent(String),
    /// The guest trapped.
    #[error("the plugin crashed: {0}")]
    Trap(String),
    /// It went past one of its limits.
    #[error("limit `{limit}` exceeded: {detail}")]
    Limit {
        /// Name of the limit as in the manifest, for example `memory_mb`.
        limit: &'static str,
        /// How much was allowed, and what to do.
        detail: String,
    },
    /// It did not end in time.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
    /// The component is not a step, or not the one that the manifest names.
    #[error("{0}")]
    Contract(String),
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The host was attacked, or what was to be executed is not what the run is pinned to. Its job is poisoned (R2.5).
    #[error("security violation `{kind}`: {detail}")]
    Violation {
        /// Stable label, for example `compiled_code_tampered`.
        kind: String,
        /// What was found.
        detail: String,
    },
    /// A rule of the policy wants a person asked; the call did not happen.
    #[error("`{}` on `{}` waits for a person, as the rule at {} says", .0.capability, .0.resource, .0.rule)]
    NeedsApproval(Box<Asked>),
    /// The host itself failed.
    #[error("host failure: {0}")]
    Host(String),
}

impl StepFailure {
    /// The stable label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "invalid-input",
            Self::Denied(_) => "denied",
            Self::Transient(_) => "transient",
            Self::Permanent(_) => "permanent",
            Self::Trap(_) => "trap",
            Self::Limit { .. } => "limit",
            Self::Timeout(_) => "timeout",
            Self::Contract(_) => "contract",
            Self::Cancelled => "cancelled",
            Self::Violation { .. } => "violation",
            Self::NeedsApproval(_) => Self::NEEDS_APPROVAL,
            Self::Host(_) => "host",
        }
    }

    /// The label of an attempt that waits for a person.
    pub const NEEDS_APPROVAL: &'static str = "needs-approval";

    /// Labels of failures after which another attempt can do better.
    pub const RETRYABLE: [&'static str; 2] = ["transient", "timeout"];

    /// Whether another attempt can do better.
    pub fn is_retryable(&self) -> bool {
        Self::RETRYABLE.contains(&self.label())
    }
}

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It was not found.
    #[error("plugin `{wanted}` was not found; looked in {}", looked_in.join(", "))]
    Unknown {
        /// As the workflow names it.
        wanted: String,
        /// Folders.
        looked_in: Vec<String>,
        /// Ids that there are.
        known: Vec<String>,
    },
    /// Its source is there, but it was not built.
    #[error("plugin `{id}` is not built; run `handshake plugin build {folder}`")]
    NotBuilt {
        /// Id.
        id: String,
        /// Source folder.
        folder: String,
    },
    /// The manifest cannot be read or is wrong.
    #[error("{file}: {problem}")]
    Manifest {
        /// File, with line and column where known.
        file: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The component cannot be read, is not the one that the manifest names, or is no step.
    #[error("{file}: {problem}")]
    Component {
        /// File.
        file: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The component is not the one that its manifest names, or not the one that was to be executed.
    #[error("{file}: {problem}")]
    ComponentTampered {
        /// File.
        file: String,
        /// What is wrong and what to do.
        problem: String,
        /// SHA-256 of the manifest beside it.
        manifest_sha256: Digest,
    },
    /// An entry of the compiled-code cache was changed by somebody else.
    #[error(
        "{file}: compiled code failed its authentication ({problem}); nothing was loaded from it. Find out who can write to the cache, then delete the file to have it compiled again"
    )]
    CacheTampered {
        /// File.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The host itself failed.
    #[error("{0}")]
    Host(String),
}

impl PluginError {
    /// The kind of security violation that it is when a run is to be executed; none if it is something else.
    pub const fn violation(&self) -> Option<&'static str> {
        match self {
            Self::ComponentTampered { .. } => Some("component_tampered"),
            Self::CacheTampered { .. } => Some("compiled_code_tampered"),
            _ => None,
        }
    }
}

/// What a component says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Descriptor {
    /// Plugin id.
    pub name: String,
    /// Version.
    pub version: String,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// JSON Schema of the output.
    pub output_schema: Value,
    /// Capability ids it may ask for.
    pub capabilities: Vec<String>,
}

/// Executes steps.
#[async_trait]
pub trait StepExecutor: Send + Sync {
    /// Finds the plugin that `uses` names, as [`PluginRequest`] reads it. Cheap: reads the manifest and hashes the
    /// component.
    fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError>;
    /// Compiles it or loads it from the cache, checks that it is a step, and asks it to describe itself.
    async fn prepare(&self, plugin: &Plugin) -> Result<Descriptor, PluginError>;
    /// Runs one attempt in a fresh instance.
    async fn execute(&self, invocation: StepInvocation) -> Result<StepOutcome, StepFailure>;
}

/// Names a plugin in `uses`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRequest {
    /// Its id.
    pub id: PluginId,
    /// The version or its beginning, component-wise.
    pub version: Option<String>,
    /// SHA-256 of its manifest, which names the component's: this build and no other.
    pub exact: Option<Digest>,
}

impl std::str::FromStr for PluginRequest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, version) = match text.split_once('@') {
            Some((id, version)) => (id, Some(version)),
            None => (text, None),
        };
        let id = PluginId::new(id).map_err(|error| error.to_string())?;
        let refuse = |version| {
            Err(format!(
                "`{version}` is not a version: write `@1`, `@0.1`, `@0.1.0`, or `@sha256:` and a manifest's hash"
            ))
        };
        if let Some((version, digest)) = version.and_then(|version| Some((version, version.strip_prefix("sha256:")?))) {
            return match digest.parse() {
                Ok(digest) => Ok(Self { id, version: None, exact: Some(digest) }),
                Err(_) => refuse(version),
            };
        }
        if let Some(version) = version {
            let parts: Vec<_> = version.split('.').collect();
            if parts.len() > 3 || parts.iter().any(|part| part.parse::<u32>().is_err()) {
                return refuse(version);
            }
        }
        Ok(Self { id, version: version.map(str::to_owned), exact: None })
    }
}

impl PluginRequest {
    /// Whether a full version, with the SHA-256 of its manifest, is what was asked for.
    pub fn accepts(&self, version: &str, manifest: Digest) -> bool {
        if self.exact.is_some_and(|exact| exact != manifest) {
            return false;
        }
        match &self.version {
            None => true,
            Some(wanted) => {
                let mut have = version.split('.');
                wanted.split('.').all(|part| have.next() == Some(part))
            }
        }
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
