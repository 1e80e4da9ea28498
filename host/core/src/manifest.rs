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

impl PluginManifest {
    /// Checks what the types cannot. Returns the first problem with the key it is in.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, most: u64| {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("limits.{name}: {value} is not between 1 and {most}"))
            }
        };
        if self.schema != 1 {
            return Err(format!("schema: this host reads schema 1, not {}", self.schema));
        }
        let version: Vec<_> = self.version.split('.').collect();
        if version.len() != 3 || version.iter().any(|part| part.parse::<u32>().is_err()) {
            return Err(format!("version: `{}` is not of the form major.minor.patch", self.version));
        }
        let path = std::path::Path::new(&self.component.path);
        if path.file_name() != Some(path.as_os_str()) {
            return Err(format!("component.path: `{}` must be a file name beside the manifest", self.component.path));
        }
        within("memory_mb", self.limits.memory_mb.into(), 1024)?;
        within("wall_ms", self.limits.wall_ms, 86_400_000)?;
        within("output_kb", self.limits.output_kb.into(), 65_536)?;
        within("host_calls", self.limits.host_calls, u64::MAX)?;
        if let Some(duplicate) = self
            .capabilities
            .iter()
            .enumerate()
            .find(|(at, one)| self.capabilities[..*at].iter().any(|other| other.id == one.id))
        {
            return Err(format!("capability: `{}` is declared twice", duplicate.1.id));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
