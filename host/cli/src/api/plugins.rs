//! Plugins: which there are, and whether one is what its manifest says.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use handshake_core::capability::CapabilityId;
use handshake_core::step::{Descriptor, Plugin, PluginError, StepExecutor};
use serde::{Deserialize, Serialize};

use super::{Answer, Document, Host, Refusal};
use crate::error::CliError;
use crate::host::HostState;

pub(super) fn routes() -> Router<Arc<HostState>> {
    Router::new().route("/v1/plugins", get(list)).route("/v1/plugins/check", post(check))
}

/// Plugins, by id.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PluginList {
    /// The plugins.
    pub(crate) plugins: Vec<PluginLine>,
}

/// Whether a plugin can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PluginState {
    /// Yes.
    Ready,
    /// Its source is there, its component is not.
    NotBuilt,
    /// No.
    Broken,
}

/// One plugin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PluginLine {
    /// Id.
    pub(crate) id: String,
    /// Whether it can be used.
    pub(crate) state: PluginState,
    /// Why not.
    pub(crate) problem: Option<String>,
    /// Version.
    pub(crate) version: Option<String>,
    /// What it does.
    pub(crate) description: Option<String>,
    /// Capabilities that it may ask for.
    pub(crate) capabilities: Vec<String>,
    /// SHA-256 of its component.
    pub(crate) component_sha256: Option<String>,
    /// Where it is.
    pub(crate) folder: Option<PathBuf>,
}

impl PluginLine {
    fn ready(plugin: &Plugin) -> Self {
        let manifest = &plugin.manifest;
        Self {
            id: manifest.id.to_string(),
            state: PluginState::Ready,
            problem: None,
            version: Some(manifest.version.clone()),
            description: Some(manifest.description.clone()),
            capabilities: manifest.capabilities.iter().map(|declared| declared.id.to_string()).collect(),
            component_sha256: Some(plugin.component_sha256.to_string()),
            folder: Some(plugin.folder.clone()),
        }
    }

    fn unusable(id: String, error: &PluginError) -> Self {
        let state =
            if matches!(error, PluginError::NotBuilt { .. }) { PluginState::NotBuilt } else { PluginState::Broken };
        Self {
            id,
            state,
            problem: Some(error.to_string()),
            version: None,
            description: None,
            capabilities: Vec::new(),
            component_sha256: None,
            folder: None,
        }
    }
}

/// Which plugin to check: by id in the configured folders, or the one in a folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum CheckRequest {
    /// `id`, `id@0.1` or `id@0.1.0`.
    Uses(String),
    /// Absolute; its last part is the plugin's id.
    Folder(PathBuf),
}

/// What a check found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PluginCheck {
    /// The plugin.
    pub(crate) plugin: PluginLine,
    /// What its component says about itself.
    pub(crate) descriptor: Descriptor,
    /// Where the two differ; empty when all is well.
    pub(crate) problems: Vec<String>,
    /// What is worth knowing.
    pub(crate) notes: Vec<String>,
}

async fn list(State(host): Host) -> Answer<PluginList> {
    let found = tokio::task::spawn_blocking(move || host.runtime.list())
        .await
        .map_err(|error| CliError::internal("looking for plugins failed").because(&error))?;
    let lines = found.into_iter().map(|(id, plugin)| match plugin {
        Ok(plugin) => PluginLine::ready(&plugin),
        Err(error) => PluginLine::unusable(id, &error),
    });
    Ok(Json(PluginList { plugins: lines.collect() }))
}

async fn check(State(host): Host, Document(request): Document<CheckRequest>) -> Answer<PluginCheck> {
    let elsewhere;
    let (runtime, uses) = match request {
        CheckRequest::Uses(uses) => (&*host.runtime, uses),
        CheckRequest::Folder(folder) => {
            let (Some(parent), Some(id), true) =
                (folder.parent(), folder.file_name().and_then(|name| name.to_str()), folder.is_absolute())
            else {
                return Err(Refusal(CliError::usage(format!("`{}` is not the folder of a plugin", folder.display()))));
            };
            elsewhere = host.runtime_for(parent.to_owned())?;
            (&elsewhere, id.to_owned())
        }
    };
    let plugin = runtime.find(&uses)?;
    let descriptor = runtime.prepare(&plugin).await?;
    let (problems, notes) = compare(&plugin, &descriptor);
    Ok(Json(PluginCheck { plugin: PluginLine::ready(&plugin), descriptor, problems, notes }))
}

/// Holds what a component says about itself against its manifest.
fn compare(plugin: &Plugin, descriptor: &Descriptor) -> (Vec<String>, Vec<String>) {
    let manifest = &plugin.manifest;
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    if descriptor.name != manifest.id.as_str() {
        problems.push(format!("the component calls itself `{}`, plugin.toml says `{}`", descriptor.name, manifest.id));
    }
    if descriptor.version != manifest.version {
        problems.push(format!(
            "the component is version {}, plugin.toml says {}; build it again",
            descriptor.version, manifest.version
        ));
    }
    for wanted in &descriptor.capabilities {
        match wanted.parse::<CapabilityId>() {
            Err(error) => problems.push(format!("the component asks for {error}")),
            Ok(id) if manifest.capabilities.iter().all(|declared| declared.id.axis() != id.axis()) => {
                problems.push(format!("the component asks for `{id}`, which plugin.toml does not declare; add: [[capability]] id = \"{id}\" with a reason"));
            }
            Ok(_) => {}
        }
    }
    for declared in &manifest.capabilities {
        let axis = declared.id.axis();
        let asked = descriptor
            .capabilities
            .iter()
            .filter_map(|wanted| wanted.parse::<CapabilityId>().ok())
            .any(|wanted| wanted.axis() == axis);
        if !asked {
            notes.push(format!("plugin.toml declares `{}`, which the component does not say it asks for", declared.id));
        }
        if !axis.is_grantable() {
            notes.push(format!("plugin.toml declares `{}`, which this version of the host never grants", declared.id));
        }
    }
    for (name, schema) in [("input", &descriptor.input_schema), ("output", &descriptor.output_schema)] {
        if !schema.is_object() && !schema.is_boolean() {
            problems.push(format!("the {name} schema is not a JSON Schema"));
        }
    }
    (problems, notes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::Digest;
    use serde_json::json;

    use super::*;

    fn plugin() -> Plugin {
        let manifest = toml::from_str(
            "schema = 1\nid = \"summarize\"\nversion = \"0.1.0\"\napi = \"handshake:step@0.1\"\ndescription = \"d\"\n[component]\npath = \"a.wasm\"\n[[capability]]\nid = \"model.infer\"\nreason = \"r\"\n",
        );
        Plugin {
            manifest: manifest.unwrap(),
            manifest_sha256: Digest::ZERO,
            component_sha256: Digest::ZERO,
            folder: "/p".into(),
        }
    }

    fn descriptor(capabilities: &[&str]) -> Descriptor {
        let capabilities = capabilities.iter().map(|id| (*id).to_owned()).collect();
        Descriptor {
            name: "summarize".into(),
            version: "0.1.0".into(),
            input_schema: json!({}),
            output_schema: json!({}),
            capabilities,
        }
    }

    #[test]
    fn a_component_that_agrees_with_its_manifest_has_no_problems() {
        assert_eq!(compare(&plugin(), &descriptor(&["model.infer:default"])), (vec![], vec![]));
    }

    #[test]
    fn an_undeclared_capability_another_name_and_an_unused_declaration_are_told() {
        let (problems, notes) = compare(
            &plugin(),
            &Descriptor { name: "other".into(), version: "0.2.0".into(), ..descriptor(&["fs.read", "fs.peek"]) },
        );
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[2].contains("[[capability]] id = \"fs.read\""), "{problems:?}");
        assert!(problems[3].contains("HSK-4001"), "{problems:?}");
        assert_eq!(notes.len(), 1, "{notes:?}");
    }
}
