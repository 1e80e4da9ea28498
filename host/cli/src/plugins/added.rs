//! Plugins in the data directory: looked at before they are added, added as they were looked at, removed.

use std::path::{Path, PathBuf};

use handshake_core::Digest;
use handshake_core::capability::CapabilityId;
use handshake_core::event::Actor;
use handshake_core::manifest::{DeclaredCapability, Limits, PluginManifest};
use handshake_core::step::{Plugin, PluginRequest, StepExecutor};
use handshake_runtime::manifest::{MANIFEST, ManifestFile};
use handshake_runtime::{Added, Staged};
use serde::{Deserialize, Serialize};

use super::check;
use crate::error::CliError;
use crate::host::HostState;

/// What a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Asked {
    /// The capability.
    pub(crate) id: CapabilityId,
    /// Why.
    pub(crate) reason: String,
    /// Whether the version that was added before did not ask for it.
    pub(crate) new: bool,
}

/// A plugin as it would be added.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Offer {
    /// Id.
    pub(crate) id: String,
    /// Version.
    pub(crate) version: String,
    /// What it does.
    pub(crate) description: String,
    /// SHA-256 of its manifest, which names the component's.
    pub(crate) manifest_sha256: Digest,
    /// SHA-256 of its component.
    pub(crate) component_sha256: Digest,
    /// Size of its component.
    pub(crate) component_bytes: u64,
    /// What it asks for.
    pub(crate) asks: Vec<Asked>,
    /// The version that was added last, if there is one.
    pub(crate) earlier: Option<String>,
    /// Which limits are wider than those of that version.
    pub(crate) wider: Vec<String>,
    /// Whether it is there already.
    pub(crate) already_added: bool,
    /// Why it cannot be added.
    pub(crate) problems: Vec<String>,
    /// What is worth knowing.
    pub(crate) notes: Vec<String>,
}

/// Which plugin to add.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddRequest {
    /// Absolute: its folder, its manifest, or its component beside the manifest.
    pub(crate) path: PathBuf,
    /// SHA-256 of the manifest that somebody has looked at: only this one is added.
    pub(crate) manifest_sha256: Digest,
}

/// Says what would be added, and leaves nothing behind.
pub(crate) async fn offer(host: &HostState, path: &Path) -> Result<Offer, CliError> {
    let staged = stage(host, path).await?;
    look_at(host, &staged).await
}

/// Adds what somebody has looked at. It is copied first, and what was copied is compared, checked and kept: what becomes
/// of the original meanwhile makes no difference.
pub(crate) async fn add(host: &HostState, actor: Actor, request: &AddRequest) -> Result<Offer, CliError> {
    let staged = stage(host, &request.path).await?;
    if staged.plugin.manifest_sha256 != request.manifest_sha256 {
        return Err(CliError::conflict(format!(
            "`{}` was changed after it was shown: its manifest's SHA-256 was {}, and is {}",
            request.path.display(),
            request.manifest_sha256,
            staged.plugin.manifest_sha256
        ))
        .hint("find out who changed it, then look at it and add it again"));
    }
    let offer = look_at(host, &staged).await?;
    if let Some(problem) = offer.problems.first() {
        return Err(CliError::usage(format!("plugin `{}` is not added: {problem}", staged.plugin.label()))
            .code("invalid_plugin")
            .hint("`handshake plugin check` shows everything that is wrong"));
    }
    if offer.already_added {
        return Ok(offer);
    }
    let asks: Vec<_> = offer.asks.iter().map(|asked| asked.id.to_string()).collect();
    let detail = format!(
        "`{}`, manifest {}, component {}, asks for: {}",
        staged.plugin.label(),
        offer.manifest_sha256,
        offer.component_sha256,
        if asks.is_empty() { "nothing".to_owned() } else { asks.join(", ") }
    );
    host.record_system(actor, "plugin_added", detail).await?;
    host.plugin_store().keep(staged)?;
    Ok(offer)
}

/// Which plugin to remove.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveRequest {
    /// `id`, `id@0.1`, or `id@0.1.0`.
    pub(crate) plugin: String,
}

/// What was removed.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Removed {
    /// `id@version`.
    pub(crate) plugin: String,
    /// SHA-256 of its manifest.
    pub(crate) manifest_sha256: Digest,
}

/// Removes one version of an added plugin. Runs that it is part of do not go on without it.
pub(crate) async fn remove(host: &HostState, actor: Actor, request: &RemoveRequest) -> Result<Removed, CliError> {
    let wanted: PluginRequest = request.plugin.parse().map_err(CliError::usage)?;
    let store = host.plugin_store();
    let versions = store.versions(wanted.id.as_str());
    let fitting: Vec<&Added> =
        versions.iter().filter(|added| wanted.accepts(&added.version, added.manifest_sha256)).collect();
    let added = match fitting[..] {
        [added] => added,
        [] => {
            let hint = if versions.is_empty() {
                "`handshake plugin list` shows which were added; those of the project's folders are removed there"
                    .to_owned()
            } else {
                format!("there are: {}", labels(&versions))
            };
            return Err(CliError::not_found(format!("no plugin `{}` was added", request.plugin)).hint(hint));
        }
        _ => {
            return Err(CliError::usage(format!("`{}` could be several versions", request.plugin))
                .hint(format!("name one of: {}", labels(&versions))));
        }
    };
    let label = format!("{}@{}", added.id, added.version);
    let detail = format!("`{label}`, manifest {}", added.manifest_sha256);
    host.record_system(actor, "plugin_removed", detail).await?;
    store.remove(added)?;
    Ok(Removed { plugin: label, manifest_sha256: added.manifest_sha256 })
}

fn labels(versions: &[Added]) -> String {
    versions.iter().map(|added| format!("{}@{}", added.id, added.version)).collect::<Vec<_>>().join(", ")
}

async fn stage(host: &HostState, path: &Path) -> Result<Staged, CliError> {
    if !path.is_absolute() {
        return Err(CliError::usage(format!("`{}` is not an absolute path", path.display())));
    }
    let (store, path) = (host.plugin_store(), path.to_owned());
    let staged = tokio::task::spawn_blocking(move || store.stage(&path)).await;
    Ok(staged.map_err(|error| CliError::internal("copying a plugin failed").because(&error))??)
}

async fn look_at(host: &HostState, staged: &Staged) -> Result<Offer, CliError> {
    let store = host.plugin_store();
    let plugin = &staged.plugin;
    let manifest = &plugin.manifest;
    let versions = store.versions(manifest.id.as_str());
    let already_added = versions.iter().any(|added| added.manifest_sha256 == plugin.manifest_sha256);
    let earlier = versions.iter().find(|added| added.manifest_sha256 != plugin.manifest_sha256);
    let before =
        earlier.and_then(|added| host.runtime.find(&format!("{}@sha256:{}", added.id, added.manifest_sha256)).ok());
    let file = ManifestFile::read(&plugin.folder.join(MANIFEST))?;
    let checked = check::check(&host.runtime, plugin, &file).await?;
    let mut problems = checked.findings.problems;
    if let Some(other) = store.conflict(plugin).filter(|_| !already_added) {
        problems.push(format!(
            "version {} was added with another content; raise the version, or run `handshake plugin remove {}@{}` first",
            manifest.version, other.id, other.version
        ));
    }
    let before = before.as_ref().map(|plugin| &plugin.manifest);
    Ok(Offer {
        id: manifest.id.to_string(),
        version: manifest.version.clone(),
        description: manifest.description.clone(),
        manifest_sha256: plugin.manifest_sha256,
        component_sha256: plugin.component_sha256,
        component_bytes: checked.component_bytes,
        asks: manifest.capabilities.iter().map(|declared| asked(declared, before)).collect(),
        earlier: earlier.map(|added| added.version.clone()),
        wider: before.map(|before| wider(&before.limits, &manifest.limits)).unwrap_or_default(),
        already_added,
        // They are about a copy that is gone when somebody reads them.
        problems: problems.iter().map(|problem| without_folder(problem, plugin)).collect(),
        notes: checked.findings.notes.iter().map(|note| without_folder(note, plugin)).collect(),
    })
}

fn without_folder(text: &str, plugin: &Plugin) -> String {
    text.replace(&format!("{}/", plugin.folder.display()), "")
}

fn asked(declared: &DeclaredCapability, before: Option<&PluginManifest>) -> Asked {
    let is_new = before.is_some_and(|before| {
        let whole = CapabilityId::bare(declared.id.axis());
        !before.capabilities.iter().any(|known| known.id == declared.id || known.id == whole)
    });
    Asked { id: declared.id.clone(), reason: declared.reason.clone(), new: is_new }
}

/// Which limits have grown.
fn wider(before: &Limits, now: &Limits) -> Vec<String> {
    let fuel = |limits: &Limits| limits.fuel.unwrap_or(u64::MAX);
    let limits = [
        ("memory_mb", u64::from(before.memory_mb), u64::from(now.memory_mb)),
        ("wall_ms", before.wall_ms, now.wall_ms),
        ("fuel", fuel(before), fuel(now)),
        ("output_kb", u64::from(before.output_kb), u64::from(now.output_kb)),
        ("host_calls", before.host_calls, now.host_calls),
    ];
    let shown = |value: u64| if value == u64::MAX { "no limit".to_owned() } else { value.to_string() };
    let grown = limits.into_iter().filter(|(_, before, now)| now > before);
    grown.map(|(name, before, now)| format!("limits.{name}: {} instead of {}", shown(now), shown(before))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn manifest(capabilities: &[&str]) -> PluginManifest {
        let mut text = "schema = 1\nid = \"a\"\nversion = \"0.1.0\"\napi = \"handshake:step@0.1\"\ndescription = \"d\"\n[component]\npath = \"a.wasm\"\n".to_owned();
        for id in capabilities {
            text.push_str(&format!("[[capability]]\nid = \"{id}\"\nreason = \"r\"\n"));
        }
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn what_a_newer_version_asks_for_beyond_the_old_one_is_new() {
        let before = manifest(&["fs.read", "model.infer:default"]);
        let now = manifest(&["fs.read:docs", "model.infer", "net.http:https://example.com"]);
        let new = now.capabilities.iter().map(|declared| asked(declared, Some(&before)).new);
        assert_eq!(new.collect::<Vec<_>>(), [false, true, true]);
        assert!(!asked(&now.capabilities[2], None).new, "of a first version nothing is");
    }

    #[test]
    fn limits_that_have_grown_are_told() {
        let before = Limits { fuel: Some(5), ..Limits::default() };
        let now = Limits { memory_mb: 128, wall_ms: 1, ..Limits::default() };
        assert_eq!(wider(&before, &now), ["limits.memory_mb: 128 instead of 64", "limits.fuel: no limit instead of 5"]);
        assert!(wider(&now, &now).is_empty());
    }
}
