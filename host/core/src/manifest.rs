//! `plugin.toml`: what a plugin is, what it may ask for, and its limits.

use serde::{Deserialize, Serialize};

use crate::capability::CapabilityId;
use crate::job::canonical_enum;
use crate::{Digest, PluginId};

canonical_enum! {
    /// What a component exports.
    PluginApi, "plugin interface" {
        /// A handler, which describes itself and takes and gives JSON.
        Step = "handshake:step@0.1",
        /// A program, which takes arguments and standard input and gives standard output.
        Program = "wasi:cli@0.2",
    }
}

/// The manifest, schema 1. Unknown keys fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginManifest {
    /// Version of this form: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// The plugin's id.
    pub id: PluginId,
    /// Its version, `major.minor.patch`.
    pub version: String,
    /// The interface it is built for: `handshake:step@0.1`, or `wasi:cli@0.2` for programs.
    pub api: PluginApi,
    /// One sentence.
    pub description: String,
    /// Whether running a step twice does no harm. A claim: it counts only where a workflow step or the policy
    /// confirms it.
    #[serde(default)]
    pub idempotent: bool,
    /// The component.
    pub component: ComponentRef,
    /// Its limits.
    #[serde(default)]
    pub limits: Limits,
    /// What it may ask for.
    #[serde(default, rename = "capability")]
    pub capabilities: Vec<DeclaredCapability>,
}

/// The component file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentRef {
    /// File beside the manifest.
    pub path: String,
    /// SHA-256 of the file; written by `handshake plugin build`, checked at load.
    pub sha256: Option<Digest>,
}

/// A capability that the plugin may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredCapability {
    /// Its id.
    pub id: CapabilityId,
    /// Why, for whoever grants it.
    pub reason: String,
}

/// Limits of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// All linear memories and tables together, MiB; 1 to 1024.
    #[schemars(range(min = 1, max = 1024))]
    pub memory_mb: u32,
    /// Wall time, milliseconds; 1 to 86,400,000.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub wall_ms: u64,
    /// Instructions, as wasmtime counts fuel; none for no bound.
    pub fuel: Option<u64>,
    /// Result, and everything written to standard output and error, KiB each; 1 to 65,536.
    #[schemars(range(min = 1, max = 65_536))]
    pub output_kb: u32,
    /// Calls into the host of any kind, so that one guest cannot flood the record.
    #[schemars(range(min = 1))]
    pub host_calls: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mb: 64, wall_ms: 30_000, fuel: None, output_kb: 1024, host_calls: 100_000 }
    }
}

/// What is wrong with a manifest of the right form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct ManifestProblem {
    /// The key, for example `limits.memory_mb` or `capability[1].reason`.
    pub key: String,
    /// What is wrong and what to do.
    pub what: String,
}

impl ManifestProblem {
    fn new(key: impl Into<String>, what: String) -> Self {
        Self { key: key.into(), what }
    }
}

impl PluginManifest {
    /// Checks what the types cannot. Returns the first problem.
    pub fn validate(&self) -> Result<(), ManifestProblem> {
        let refuse = |key: &str, what: String| Err(ManifestProblem::new(key, what));
        let within = |name: &str, value: u64, most: u64| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            let range = if most == u64::MAX { "at least 1".to_owned() } else { format!("between 1 and {most}") };
            Err(ManifestProblem::new(format!("limits.{name}"), format!("{value} is not {range}")))
        };
        if self.schema != 1 {
            return refuse("schema", format!("this host reads schema 1, not {}; write: schema = 1", self.schema));
        }
        let version: Vec<_> = self.version.split('.').collect();
        if version.len() != 3 || version.iter().any(|part| part.parse::<u32>().is_err()) {
            let what = format!("`{}` is not of the form major.minor.patch; write for example \"0.1.0\"", self.version);
            return refuse("version", what);
        }
        if self.description.trim().is_empty() {
            return refuse("description", "is empty; say in one sentence what the plugin does".to_owned());
        }
        let path = std::path::Path::new(&self.component.path);
        if path.file_name() != Some(path.as_os_str()) {
            let what = format!("`{}` must be a file name beside the manifest", self.component.path);
            return refuse("component.path", what);
        }
        within("memory_mb", self.limits.memory_mb.into(), 1024)?;
        within("wall_ms", self.limits.wall_ms, 86_400_000)?;
        within("output_kb", self.limits.output_kb.into(), 65_536)?;
        within("host_calls", self.limits.host_calls, u64::MAX)?;
        within("fuel", self.limits.fuel.unwrap_or(1), u64::MAX)?;
        for (at, declared) in self.capabilities.iter().enumerate() {
            if declared.reason.trim().is_empty() {
                let what =
                    format!("is empty; say why the plugin needs `{}`: whoever grants it reads that", declared.id);
                return refuse(&format!("capability[{at}].reason"), what);
            }
            if self.capabilities[..at].iter().any(|other| other.id == declared.id) {
                let what = format!("`{}` is declared twice; remove one of them", declared.id);
                return refuse(&format!("capability[{at}].id"), what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
