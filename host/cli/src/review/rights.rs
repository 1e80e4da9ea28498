//! What a step of a run was allowed, put together again from what is kept.

use std::sync::Arc;

use handshake_core::capability::{
    Axis, CapabilityId, CapabilitySet, EffectiveRights, Layer, Mode, MountRule, Policy, PolicyInForce, Profile,
    SourceRef,
};
use handshake_core::job::{AccessMode, AiJob};
use handshake_core::manifest::PluginManifest;
use handshake_core::mount::MountAccess;
use handshake_core::run::WorkflowRun;
use handshake_core::workflow::Step;
use handshake_core::{Digest, PluginId, ProfileId, RunId, StepId};

use super::{Source, paragraph};
use crate::error::CliError;
use crate::host::HostState;
use crate::policy;
use crate::toml_file::TomlFile;

/// A run, its job, and the steps of its workflow.
pub(super) struct StoredRun {
    pub(super) run: WorkflowRun,
    pub(super) job: AiJob,
    pub(super) steps: Vec<Step>,
}

impl StoredRun {
    pub(super) async fn load(host: &HostState, id: RunId) -> Result<Self, CliError> {
        let run = host.database.run(id).await?;
        let job = host.database.job(run.job_id).await?;
        let steps = handshake_engine::steps_of(&run)?;
        Ok(Self { run, job, steps })
    }

    pub(super) fn step(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.id.as_str() == id)
    }

    /// The `id@version` that a step's `uses` stood for, with the digest of its manifest.
    pub(super) fn pinned(&self, uses: &str) -> Option<(&str, Digest)> {
        let request: handshake_core::step::PluginRequest = uses.parse().ok()?;
        self.run.pinned.plugins.iter().find_map(|(label, pinned)| {
            let (id, version) = label.split_once('@')?;
            (id == request.id.as_str() && request.accepts(version, pinned.manifest))
                .then_some((label.as_str(), pinned.manifest))
        })
    }
}

/// What was in force when a call was decided, as far as it is known.
pub(super) struct PastRights {
    pub(super) rights: EffectiveRights,
    /// Layers about which nothing is known any more; the rights let everything of the axis pass there.
    pub(super) unknown: Vec<Layer>,
    manifest: Option<String>,
    policy: Option<TomlFile>,
}

/// What a decision names.
pub(super) struct Named<'a> {
    pub(super) plugin: Option<PluginId>,
    pub(super) step: Option<&'a StepId>,
    pub(super) axis: Axis,
    pub(super) policy: Digest,
    /// The name of the policy's file, as the record has it.
    pub(super) policy_name: &'a str,
    pub(super) manifest: Digest,
}

/// The manifest with this digest.
pub(super) fn manifest(host: &HostState, digest: Digest) -> Option<(PluginManifest, String)> {
    let text = host.evidence.text(digest)?;
    toml::from_str(&text).ok().map(|manifest| (manifest, text))
}

/// Every folder. What is asked about lies in a mount that was made, and which folders could be mounted then is not known
/// from a text.
pub(super) fn everywhere() -> Vec<MountRule> {
    vec![MountRule {
        path: "/".into(),
        access: MountAccess::Write,
        source: SourceRef { file: "mounts".into(), line: 1 },
    }]
}

impl PastRights {
    /// Puts together what decided.
    pub(super) fn of(host: &HostState, stored: Option<&StoredRun>, named: &Named<'_>) -> Self {
        let mut unknown = Vec::new();
        let all = || CapabilitySet::from_iter([CapabilityId::bare(named.axis)]);
        let (declared, manifest) = match manifest(host, named.manifest) {
            Some((manifest, text)) => (ids(&manifest), Some(text)),
            None => {
                unknown.push(Layer::Manifest);
                (all(), None)
            }
        };
        let step = named.step.and_then(|id| stored?.step(id.as_str()));
        let granted = match step {
            Some(step) => step.grants.iter().cloned().collect(),
            None => {
                unknown.push(Layer::Grant);
                all()
            }
        };
        let profile = stored.and_then(|stored| profile(host, stored));
        if profile.is_none() {
            unknown.push(Layer::Profile);
        }
        let profile = profile.or_else(|| {
            let id = stored.map_or_else(ProfileId::analyst, |stored| stored.job.capability_profile_id.clone());
            Some(Profile { id, capabilities: all() })
        });
        if stored.is_none() {
            unknown.push(Layer::AccessMode);
        }
        let file = host.evidence.text(named.policy).map(|text| TomlFile { name: named.policy_name.to_owned(), text });
        let policy = file.as_ref().and_then(|file| policy::rules_of(file).ok());
        if policy.is_none() {
            unknown.push(Layer::Policy);
        }
        let nothing = || Policy::empty(Mode::Observe, named.policy);
        let policy = Policy { mounts: everywhere(), ..policy.unwrap_or_else(nothing) };
        let rights = EffectiveRights {
            plugin: named.plugin.clone(),
            declared,
            granted,
            profile: Arc::new(profile.unwrap_or_else(|| Profile { id: ProfileId::analyst(), capabilities: all() })),
            access_mode: stored.map_or(AccessMode::ApplyScoped, |stored| stored.job.access_mode),
            policy: PolicyInForce::new(policy),
            manifest_sha256: named.manifest,
            workspace: None,
        };
        Self { rights, unknown, manifest, policy: file }
    }

    /// Where the manifest declares an id.
    pub(super) fn declaration(&self, id: &str) -> Option<Source> {
        declaration(self.manifest.as_deref()?, id)
    }

    /// What stands at a line of the policy.
    pub(super) fn rule(&self, file: &str, line: u32) -> Source {
        let text = self.policy.as_ref().and_then(|policy| paragraph(&policy.text, line));
        Source { file: file.to_owned(), line, text }
    }
}

pub(super) fn ids(manifest: &PluginManifest) -> CapabilitySet {
    manifest.capabilities.iter().map(|declared| declared.id.clone()).collect()
}

/// Where a manifest declares an id.
pub(super) fn declaration(text: &str, id: &str) -> Option<Source> {
    let quoted = format!("\"{id}\"");
    let at = text.lines().position(|line| line.trim_start().starts_with("id") && line.contains(&quoted))?;
    let line = u32::try_from(at + 1).ok()?;
    Some(Source { file: "plugin.toml".to_owned(), line, text: paragraph(text, line) })
}

/// The profile that a run was made with.
pub(super) fn profile(host: &HostState, stored: &StoredRun) -> Option<Profile> {
    let id = &stored.job.capability_profile_id;
    let text = host.evidence.text(stored.run.pinned.profile?)?;
    Profile::from_text(id.clone(), &text).ok()
}
