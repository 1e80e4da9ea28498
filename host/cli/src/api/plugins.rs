//! Plugins: which there are, whether one is what its manifest says, and those that are added.

use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::{Path as UrlPath, State};
use axum::response::Response;
use handshake_core::step::{Descriptor, Plugin, PluginError, StepExecutor};
use handshake_core::token::Right;
use handshake_runtime::manifest::{MANIFEST, ManifestFile};
use serde::{Deserialize, Serialize};

use super::{Answer, Caller, Document, Host, Refusal, Routes, jobs};
use crate::error::CliError;
use crate::plugins::added::{self, AddRequest, Offer, RemoveRequest, Removed};
use crate::plugins::cases::{self, TestReport, TestRequest};
use crate::plugins::check::{self, ImportedInterface};
use crate::plugins::single::{self, Recorded, SingleRequest};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::See, "/plugins", "Plugins, by id", list)
        .post(Right::Own, "/plugins/check", "Compares a plugin with its manifest", check)
        .post(Right::Own, "/plugins/run", "Runs one step without a workflow; the answer is the stream of its run", run)
        .get(Right::Own, "/plugins/runs/{job}", "What is on record about such a run", recorded)
        .post(Right::Own, "/plugins/test", "Runs a plugin's tests over fakes", test)
        .post(Right::Own, "/plugins/offer", "What a plugin asks for, before it is added", offer)
        .post(Right::Own, "/plugins/add", "Adds a plugin that somebody has looked at", add)
        .post(Right::Own, "/plugins/remove", "Removes an added plugin", remove)
}

/// Plugins, by id.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct PluginList {
    /// The plugins.
    pub(crate) plugins: Vec<PluginLine>,
}

/// Whether a plugin can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// Whether it was added to the data directory.
    #[serde(default)]
    pub(crate) added: bool,
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
            added: false,
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
            added: false,
        }
    }
}

/// Which plugin to check: by id in the configured folders, or the one in a folder.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum CheckRequest {
    /// `id`, `id@0.1` or `id@0.1.0`.
    Uses(String),
    /// Absolute; its last part is the plugin's id.
    Folder(PathBuf),
}

/// What a check found.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct PluginCheck {
    /// The plugin.
    pub(crate) plugin: PluginLine,
    /// What its component says about itself.
    pub(crate) descriptor: Descriptor,
    /// Where the two differ; empty when all is well.
    pub(crate) problems: Vec<String>,
    /// What is worth knowing.
    pub(crate) notes: Vec<String>,
    /// What its component imports.
    pub(crate) imports: Vec<ImportedInterface>,
    /// Size of its component.
    pub(crate) component_bytes: u64,
}

async fn list(State(host): Host) -> Answer<PluginList> {
    let store = host.plugin_store();
    let found = tokio::task::spawn_blocking(move || host.runtime.list())
        .await
        .map_err(|error| CliError::internal("looking for plugins failed").because(&error))?;
    let lines = found.into_iter().map(|(id, plugin)| match plugin {
        Ok(plugin) => PluginLine { added: plugin.folder.starts_with(store.folder()), ..PluginLine::ready(&plugin) },
        Err(error) => PluginLine::unusable(id, &error),
    });
    Ok(Json(PluginList { plugins: lines.collect() }))
}

async fn check(State(host): Host, Document(request): Document<CheckRequest>) -> Answer<PluginCheck> {
    let mut found = Vec::new();
    let (plugin, manifest) = match request {
        CheckRequest::Uses(uses) => {
            let plugin = host.runtime.find(&uses)?;
            let manifest = check::written_manifest(&plugin)?;
            (plugin, manifest)
        }
        CheckRequest::Folder(folder) => {
            let source = source_folder(&folder)?;
            // What its author wrote comes first: an older build of it may still be there.
            let written = ManifestFile::read(&source.join(MANIFEST))?;
            found.extend(check::folder_name(&source, &written));
            (host.runtime.lend(&source)?, written)
        }
    };
    let checked = check::check(&host.runtime, &plugin, &manifest).await?;
    found.extend(checked.findings.problems);
    Ok(Json(PluginCheck {
        plugin: PluginLine::ready(&plugin),
        descriptor: checked.descriptor,
        problems: found,
        notes: checked.findings.notes,
        imports: checked.imports,
        component_bytes: checked.component_bytes,
    }))
}

/// The folder of a plugin's source, or of one that has no source. Clients name it in full.
pub(crate) fn source_folder(folder: &Path) -> Result<PathBuf, CliError> {
    if !folder.is_absolute() {
        return Err(CliError::usage(format!("`{}` is not an absolute path", folder.display())));
    }
    Ok(check::source_of(folder).to_owned())
}

/// Runs one step; the answer is the stream of its run.
async fn run(
    State(host): Host,
    caller: Caller,
    Document(request): Document<SingleRequest>,
) -> Result<Response, Refusal> {
    let begun = jobs::begin_submission(&host, &caller, single::submission(&host, request)?).await?;
    jobs::answer(&host, begun, true)
}

async fn recorded(State(host): Host, UrlPath(job): UrlPath<String>) -> Answer<Recorded> {
    Ok(Json(single::recorded(&host, jobs::job_id(&job)?).await?))
}

async fn test(State(host): Host, Document(request): Document<TestRequest>) -> Answer<TestReport> {
    Ok(Json(cases::run(&host, &request).await?))
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfferRequest {
    /// Absolute: its folder, its manifest, or its component beside the manifest.
    path: PathBuf,
}

async fn offer(State(host): Host, Document(request): Document<OfferRequest>) -> Answer<Offer> {
    Ok(Json(added::offer(&host, &request.path).await?))
}

async fn add(State(host): Host, caller: Caller, Document(request): Document<AddRequest>) -> Answer<Offer> {
    Ok(Json(added::add(&host, caller.actor, &request).await?))
}

async fn remove(State(host): Host, caller: Caller, Document(request): Document<RemoveRequest>) -> Answer<Removed> {
    Ok(Json(added::remove(&host, caller.actor, &request).await?))
}
