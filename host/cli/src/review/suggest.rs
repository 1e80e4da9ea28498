//! The smallest manifests, grants and policy that would have let some runs through.

use std::collections::{BTreeMap, BTreeSet};

use handshake_core::capability::{Axis, CapabilityId, Effect, Policy, Profile, Resource};
use handshake_core::event::Outcome;
use handshake_core::mount::MountAccess;
use handshake_core::step::StepExecutor as _;
use handshake_core::storage::JobFilter;
use handshake_core::workflow::{Step, Workflow};
use handshake_core::{Digest, JobId, PluginId, RunId};
use handshake_recorder::{MatrixQuery, ResourceUse};
use serde::{Deserialize, Serialize};

use super::rights::{self, StoredRun};
use super::scopes::narrowest;
use crate::error::CliError;
use crate::host::HostState;

/// Whose uses to look at.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuggestRequest {
    /// The runs; those of workflows that their steps run belong to them.
    pub(crate) runs: Vec<RunId>,
    /// Whether what was denied is let through as well.
    #[serde(default)]
    pub(crate) with_denied: bool,
}

/// Files that are ready to use.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Suggested {
    /// The files, by their paths below the folder that they are for.
    pub(crate) files: Vec<SuggestedFile>,
    /// What they allow, for a person to read.
    pub(crate) grants: Vec<SuggestedGrants>,
    /// What could not be let through, and why.
    pub(crate) notes: Vec<String>,
}

/// A file.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct SuggestedFile {
    /// `policy.toml`, `NAME.json` of a workflow, `plugins/ID/plugin.toml`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// What one step needs.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct SuggestedGrants {
    /// The workflow.
    pub(crate) workflow: String,
    /// The step.
    pub(crate) step: String,
    /// Its plugin: id and version.
    pub(crate) plugin: String,
    /// What it is granted now.
    pub(crate) now: Vec<String>,
    /// What is enough.
    pub(crate) enough: Vec<String>,
}

/// What was used: by workflow (the part that a step belongs to), step and axis.
type Uses = BTreeMap<(String, String), BTreeMap<Axis, BTreeSet<String>>>;

/// One workflow file, with all that its runs have used.
struct File {
    workflow: Workflow,
    /// By the name of the child workflow, which is empty for the file's own steps, and the step.
    uses: Uses,
    /// Plugins by the same key.
    plugins: BTreeMap<(String, String), String>,
}

/// Gathers over all runs.
struct Gathering<'a> {
    host: &'a HostState,
    with_denied: bool,
    files: BTreeMap<(Digest, String), File>,
    manifests: BTreeMap<String, Digest>,
    notes: BTreeSet<String>,
}

/// Looks at the runs, and words what would have been enough for them.
pub(crate) async fn suggest(host: &HostState, request: &SuggestRequest) -> Result<Suggested, CliError> {
    if request.runs.is_empty() {
        return Err(CliError::usage("no run is named"));
    }
    let mut gathering = Gathering {
        host,
        with_denied: request.with_denied,
        files: BTreeMap::new(),
        manifests: BTreeMap::new(),
        notes: BTreeSet::new(),
    };
    for run in &request.runs {
        let stored = StoredRun::load(host, *run).await?;
        if stored.job.parent_job_id.is_some() {
            return Err(CliError::usage(format!("run `{run}` belongs to a step of another run"))
                .hint("name the run of the job that was submitted"));
        }
        let file = (stored.run.pinned.workflow, stored.job.protocol_id.clone());
        gathering.add(&file, stored).await?;
    }
    gathering.word().await
}

impl Gathering<'_> {
    async fn add(&mut self, file: &(Digest, String), root: StoredRun) -> Result<(), CliError> {
        let mut open = vec![root];
        while let Some(stored) = open.pop() {
            let part = stored.job.protocol_id.rsplit_once('/').map_or("", |(_, child)| child).to_owned();
            let part = if stored.job.parent_job_id.is_some() { part } else { String::new() };
            self.look(file, &part, &stored).await?;
            for child in self.children(stored.job.job_id).await? {
                open.push(child);
            }
        }
        Ok(())
    }

    async fn children(&self, job: JobId) -> Result<Vec<StoredRun>, CliError> {
        let filter = JobFilter { parent: Some(job), limit: 1000, ..JobFilter::default() };
        let mut found = Vec::new();
        for child in self.host.database.jobs(&filter).await? {
            for run in self.host.database.runs_of(child.job_id).await? {
                found.push(StoredRun::load(self.host, run.run_id).await?);
            }
        }
        Ok(found)
    }

    async fn look(&mut self, file: &(Digest, String), part: &str, stored: &StoredRun) -> Result<(), CliError> {
        super::require_whole(self.host, stored.run.run_id).await?;
        let query = MatrixQuery { run_id: Some(stored.run.run_id), ..MatrixQuery::default() };
        let used = self.host.projection().await?.resources(&query).await?;
        if !self.files.contains_key(file) {
            let workflow: Workflow = serde_json::from_value(stored.run.workflow.clone())
                .map_err(|error| CliError::internal("the workflow of a run cannot be read").because(&error))?;
            let empty = File { workflow, uses: Uses::new(), plugins: BTreeMap::new() };
            self.files.insert(file.clone(), empty);
        }
        let Some(gathered) = self.files.get_mut(file) else { return Ok(()) };
        for step in &stored.steps {
            let Some((label, digest)) = step.plugin().and_then(|uses| stored.pinned(uses)) else { continue };
            self.manifests.insert(label.to_owned(), digest);
            let key = (part.to_owned(), step.id.to_string());
            gathered.plugins.insert(key.clone(), label.to_owned());
            gathered.uses.entry(key).or_default();
        }
        let profile = rights::profile(self.host, stored);
        for used in used {
            let (Some(step), Some(axis)) = (&used.step, Axis::from_name(&used.capability)) else { continue };
            let resource = match used.outcome {
                Outcome::Allow => used.resource.clone(),
                Outcome::Deny if !self.with_denied => continue,
                Outcome::Deny => match could_be_let_through(axis, &used, stored, profile.as_ref()) {
                    Ok(()) => used.resource.clone(),
                    Err(why) => {
                        self.notes.insert(why);
                        continue;
                    }
                },
            };
            let key = (part.to_owned(), step.clone());
            gathered.uses.entry(key).or_default().entry(axis).or_default().insert(resource);
        }
        Ok(())
    }

    async fn word(self) -> Result<Suggested, CliError> {
        let (mut files, mut grants) = (Vec::new(), Vec::new());
        let mut by_plugin: BTreeMap<String, BTreeMap<Axis, BTreeSet<String>>> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for ((_, name), mut file) in self.files {
            for (key, axes) in &file.uses {
                let Some(label) = file.plugins.get(key) else { continue };
                let enough: Vec<CapabilityId> = axes.iter().flat_map(|(axis, used)| enough(*axis, used)).collect();
                let (part, step) = key;
                let now = set_grants(&mut file.workflow, part, step, &enough);
                let texts = |ids: &[CapabilityId]| ids.iter().map(ToString::to_string).collect();
                grants.push(SuggestedGrants {
                    workflow: if part.is_empty() { name.clone() } else { format!("{name}/{part}") },
                    step: step.clone(),
                    plugin: label.clone(),
                    now: texts(&now),
                    enough: texts(&enough),
                });
                let of_plugin = by_plugin.entry(label.clone()).or_default();
                for (axis, used) in axes {
                    of_plugin.entry(*axis).or_default().extend(used.iter().cloned());
                }
            }
            let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
            let path = (1..).map(|n| if n == 1 { format!("{stem}.json") } else { format!("{stem}-{n}.json") });
            let path = path.into_iter().find(|path| names.insert(path.clone())).unwrap_or_default();
            let text = serde_json::to_string_pretty(&file.workflow)
                .map_err(|error| CliError::internal("a workflow cannot be written").because(&error))?;
            files.push(SuggestedFile { path, text: text + "\n" });
        }
        let mut notes = self.notes;
        for (label, digest) in &self.manifests {
            let mut used: BTreeSet<Axis> =
                by_plugin.get(label).map(|axes| axes.keys().copied().collect()).unwrap_or_default();
            let wanted = match wanted(self.host, label).await {
                Ok(wanted) => wanted,
                Err(error) => {
                    notes.insert(format!("`{label}`: what its component asks for cannot be told: {}", error.message));
                    BTreeSet::new()
                }
            };
            let unused = wanted.into_iter().filter(|axis| !used.contains(axis));
            let unused: Vec<Axis> = unused.collect();
            if !unused.is_empty() {
                let names: Vec<_> = unused.iter().map(|axis| axis.name()).collect();
                notes.insert(format!(
                    "`{label}`: its component says that it asks for {}, so its manifest must declare that, used or not",
                    names.join(", ")
                ));
                used.extend(unused);
            }
            match manifest(self.host, *digest, &used)? {
                Some((id, text)) => files.push(SuggestedFile { path: format!("plugins/{id}/plugin.toml"), text }),
                None => {
                    notes.insert(format!("the manifest of `{label}` was not kept, so none is suggested"));
                }
            }
        }
        let in_force = self.host.policy.current();
        files.push(SuggestedFile { path: "policy.toml".to_owned(), text: policy(in_force.policy(), &by_plugin) });
        Ok(Suggested { files, grants, notes: notes.into_iter().collect() })
    }
}

/// Whether manifest, grant and policy alone could let through what was denied.
fn could_be_let_through(
    axis: Axis,
    used: &ResourceUse,
    stored: &StoredRun,
    profile: Option<&Profile>,
) -> Result<(), String> {
    let what = format!("{} on {}", used.capability, used.resource);
    let profile_lists = |profile: &Profile| profile.capabilities.iter().any(|id| id.axis() == axis);
    if !axis.is_grantable() {
        return Err(format!("{what}: this version of the host never grants it"));
    }
    if !stored.job.access_mode.allows(axis) {
        return Err(format!("{what}: access mode `{}` excludes it", stored.job.access_mode));
    }
    if profile.is_some_and(|profile| !profile_lists(profile)) {
        return Err(format!("{what}: profile `{}` does not list it", stored.job.capability_profile_id));
    }
    if axis.scope_form() == handshake_core::capability::ScopeForm::Mount {
        let mount = used.resource.split('/').next().unwrap_or_default();
        let known = stored.run.workflow["mounts"].get(mount).is_some();
        if !known || used.resource.split('/').any(|part| part == "..") {
            return Err(format!("{what}: it leads out of every mount"));
        }
    }
    Ok(())
}

fn enough(axis: Axis, used: &BTreeSet<String>) -> Vec<CapabilityId> {
    narrowest(axis, &used.iter().map(String::as_str).collect())
}

/// What a plugin's component says that it asks for; it is not run with a manifest that declares less.
async fn wanted(host: &HostState, label: &str) -> Result<BTreeSet<Axis>, CliError> {
    let plugin = host.runtime.find(label)?;
    let described = host.runtime.prepare(&plugin).await?;
    let ids = described.capabilities.iter().filter_map(|id| id.parse::<CapabilityId>().ok());
    Ok(ids.map(|id| id.axis()).collect())
}

/// Gives a step of the file, or one of its validators, other grants; returns those it had.
fn set_grants(workflow: &mut Workflow, part: &str, step: &str, enough: &[CapabilityId]) -> Vec<CapabilityId> {
    let replace = |grants: &mut Vec<CapabilityId>| std::mem::replace(grants, enough.to_vec());
    let find = |steps: &mut Vec<Step>| {
        steps.iter_mut().find(|found| found.id.as_str() == step).map(|step| replace(&mut step.grants))
    };
    let validator = step.strip_prefix("_validator-").and_then(|number| number.parse::<usize>().ok());
    let found = match (part, validator) {
        (_, Some(number)) => number
            .checked_sub(1)
            .and_then(|at| workflow.job.validators.get_mut(at))
            .map(|spec| replace(&mut spec.grants)),
        ("", None) => find(&mut workflow.steps),
        (part, None) => workflow.workflows.get_mut(part).and_then(|child| find(&mut child.steps)),
    };
    found.unwrap_or_default()
}

/// The plugin's manifest with no more than what was used. It declares axes: which mounts and names they are about is for
/// each workflow that uses the plugin to say.
fn manifest(host: &HostState, digest: Digest, used: &BTreeSet<Axis>) -> Result<Option<(PluginId, String)>, CliError> {
    let Some((mut manifest, _)) = rights::manifest(host, digest) else { return Ok(None) };
    let declared = std::mem::take(&mut manifest.capabilities);
    for axis in used {
        let reason = declared.iter().find(|declared| declared.id.axis() == *axis);
        let reason = reason.map_or_else(|| "it asked for it in a run".to_owned(), |declared| declared.reason.clone());
        let id = CapabilityId::bare(*axis);
        manifest.capabilities.push(handshake_core::manifest::DeclaredCapability { id, reason });
    }
    let text = toml::to_string_pretty(&manifest)
        .map_err(|error| CliError::internal("a manifest cannot be written").because(&error))?;
    Ok(Some((manifest.id, text)))
}

/// A rule of the suggested policy.
#[derive(Default)]
struct SuggestedRule<'a> {
    plugins: BTreeSet<&'a str>,
    /// Guarded addresses that the rules of now let these plugins reach with it. A record does not say which of them it was.
    addresses: BTreeSet<String>,
}

/// The folders that may be mounted and the secrets that may be sent now, and a rule for each thing that was used, for those
/// who used it.
fn policy(now: &Policy, by_plugin: &BTreeMap<String, BTreeMap<Axis, BTreeSet<String>>>) -> String {
    let mut rules: BTreeMap<String, SuggestedRule<'_>> = BTreeMap::new();
    let mut secrets = BTreeSet::new();
    for (label, axes) in by_plugin {
        let id = label.split('@').next().unwrap_or(label);
        for (axis, used) in axes {
            if *axis == Axis::SecretsUse {
                secrets.extend(used.iter().map(String::as_str));
            }
            for capability in enough(*axis, used) {
                let rule = rules.entry(capability.to_string()).or_default();
                rule.plugins.insert(id);
                let of_it = used
                    .iter()
                    .filter_map(|used| Resource::from_record(*axis, used, None))
                    .filter(|used| capability.covers(*axis, used));
                for used in of_it {
                    let covering = now.rules.iter().filter(|rule| {
                        rule.effect == Effect::Allow
                            && rule.capability.covers(*axis, &used)
                            && (rule.plugins.is_empty() || rule.plugins.iter().any(|plugin| plugin.as_str() == id))
                    });
                    rule.addresses.extend(covering.flat_map(|rule| &rule.addresses).map(ToString::to_string));
                }
            }
        }
    }
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |texts: &mut dyn Iterator<Item = String>| texts.map(|text| quoted(&text)).collect::<Vec<_>>().join(", ");
    let mut text = String::from(
        "# No more than what was used in some runs, as `handshake audit suggest` found it.\nschema = 1\nmode = \"enforce\"\n\n",
    );
    for mount in &now.mounts {
        let access = if mount.access == MountAccess::Write { "write" } else { "read" };
        let path = quoted(&mount.path.to_string_lossy());
        text.push_str(&format!("[[mount]]\npath = {path}\naccess = \"{access}\"\n\n"));
    }
    for (capability, SuggestedRule { plugins, addresses }) in rules {
        let plugins = list(&mut plugins.into_iter().map(str::to_owned));
        let capability = quoted(&capability);
        text.push_str(&format!("[[allow]]\ncapability = {capability}\nplugins = [{plugins}]\n"));
        if !addresses.is_empty() {
            text.push_str(&format!("addresses = [{}]\n", list(&mut addresses.into_iter())));
        }
        text.push('\n');
    }
    for secret in now.secrets.iter().filter(|secret| secrets.contains(secret.name.as_str())) {
        let mut hosts =
            secret.hosts.iter().filter_map(|id| id.as_str().split_once(':')).map(|(_, scope)| scope.to_owned());
        text.push_str(&format!(
            "[[secret]]\nname = {}\nhosts = [{}]\nheaders = [{}]\n\n",
            quoted(&secret.name),
            list(&mut hosts),
            list(&mut secret.headers.iter().cloned())
        ));
    }
    text
}
