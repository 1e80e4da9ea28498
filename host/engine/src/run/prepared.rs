//! What a run needs before its first step: its plan, and per step the plugin, rights and folders, as they are now.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use handshake_core::StepId;
use handshake_core::capability::{EffectiveRights, Profile};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::AiJob;
use handshake_core::mount::Mount;
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::step::{Plugin, PluginError};
use handshake_core::workflow::{Step, Workflow};
use serde_json::Value;

use super::bounded;
use super::poison::Violation;
use crate::engine::{EngineError, EngineServices};
use crate::submission::{mount_paths, pinned, resolve_mounts};
use crate::workflow::Plan;

/// What every attempt of one step is given.
#[derive(Clone)]
pub(super) struct StepResources {
    pub(super) plugin: Arc<Plugin>,
    pub(super) rights: Arc<EffectiveRights>,
    pub(super) mounts: Vec<Mount>,
    pub(super) settings: Arc<BTreeMap<String, Value>>,
}

/// Why a run cannot go on.
pub(super) enum Unprepared {
    /// Something is not there, or not what it was. A sentence for a person: why, and what to do.
    Changed(String),
    /// Somebody has put something else in the place of what is to be executed.
    Violated(Violation),
}

impl From<String> for Unprepared {
    fn from(reason: String) -> Self {
        Self::Changed(reason)
    }
}

/// Why a plugin cannot be had. A component that does not fit its manifest is a violation when it is the very manifest
/// that the run is pinned to; with any other the plugin is about to be replaced, and that is for a person to say.
fn unfound(run: &WorkflowRun, error: &PluginError) -> Unprepared {
    match error {
        PluginError::ComponentTampered { manifest_sha256, .. }
            if run.pinned.plugins.values().any(|pinned| pinned.manifest == *manifest_sha256) =>
        {
            let kind = error.violation().unwrap_or_default().to_owned();
            Unprepared::Violated(Violation { kind, detail: error.to_string() })
        }
        _ => Unprepared::Changed(bounded(error.to_string())),
    }
}

/// Compiles the workflow that the run was made with.
pub(crate) fn compile(run: &WorkflowRun) -> Result<Plan, EngineError> {
    let unreadable = |problem: String| EngineError::Workflow { run: run.run_id, problem };
    let workflow: Workflow =
        serde_json::from_value(run.workflow.clone()).map_err(|error| unreadable(error.to_string()))?;
    Plan::compile(workflow)
        .map_err(|problems| unreadable(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
}

/// The steps of the workflow that a run was made with, the job's validators among them.
pub fn steps_of(run: &WorkflowRun) -> Result<Vec<Step>, EngineError> {
    Ok(compile(run)?.steps.into_iter().map(|planned| planned.step).collect())
}

/// The steps of the workflow that a run was made with, each behind those that it needs, with those.
pub fn graph_of(run: &WorkflowRun) -> Result<Vec<(StepId, Vec<StepId>)>, EngineError> {
    let plan = compile(run)?;
    let steps = plan.order.iter().filter_map(|at| plan.steps.get(*at));
    Ok(steps.map(|planned| (planned.step.id.clone(), plan.ids(&planned.needs))).collect())
}

/// Looks everything up again, in the order of the plan's steps, at the word of `by`.
pub(super) fn prepare(
    services: &EngineServices,
    plan: &Plan,
    (run, job): (&WorkflowRun, &AiJob),
    by: &Actor,
) -> Result<Vec<Option<StepResources>>, Unprepared> {
    // A run that is executed goes on when the policy changes: each call is decided under the one in force. Taking it up
    // again under another one than it was made under is for a person to say.
    if services.policy.current().policy().digest != run.pinned.policy && by.kind != ActorKind::Human {
        let remedy = match run.state {
            RunState::Queued => "submit the workflow again so that it is checked against the new one".to_owned(),
            _ => {
                format!("`handshake jobs resume {}` goes on under the new one", job.parent_job_id.unwrap_or(run.job_id))
            }
        };
        return Err(format!("the policy changed since the run was made; {remedy}").into());
    }
    let profile = services.profiles.iter().find(|profile| profile.id == job.capability_profile_id);
    let profile = profile.ok_or_else(|| {
        format!(
            "profile `{}` does not exist any more; submit the workflow again with another",
            job.capability_profile_id
        )
    })?;
    if run.pinned.profile.is_some_and(|pinned| pinned != profile.digest()) {
        let reason = "its profile changed since the run was made; submit the workflow again so that it is checked against the new one";
        return Err(reason.to_owned().into());
    }
    let inputs = Arc::new(run.inputs.clone());
    let paths = mount_paths(plan, &inputs).map_err(|problem| format!("{problem}; {}", problem.remedy))?;
    let mounts =
        resolve_mounts(&*services.mounts, plan, &run.base, &paths).map_err(|error| bounded(error.to_string()))?;
    plan.steps
        .iter()
        .map(|planned| {
            let Some(uses) = planned.step.plugin() else { return Ok(None) };
            let plugin = services.executor.find(uses).map_err(|error| unfound(run, &error))?;
            if run.pinned.plugins.get(&plugin.label()) != Some(&pinned(&plugin)) {
                return Err(format!(
                    "plugin `{}` of step `{}` is not the one that the run was made with; submit the workflow again to use the changed plugin",
                    plugin.label(),
                    planned.step.id
                )
                .into());
            }
            Ok(Some(StepResources {
                rights: rights(services, &planned.step, &plugin, profile, job, &run.base),
                // All of them: what a step may do there is for the gate to decide, on record.
                mounts: mounts.clone(),
                settings: services.settings.get(&plugin.manifest.id).cloned().unwrap_or_default(),
                plugin,
            }))
        })
        .collect()
}

/// What a step may do, by what its plugin, the job and the policy say today.
pub(crate) fn rights(
    services: &EngineServices,
    step: &Step,
    plugin: &Plugin,
    profile: &Arc<Profile>,
    job: &AiJob,
    base: &Path,
) -> Arc<EffectiveRights> {
    Arc::new(EffectiveRights {
        plugin: Some(plugin.manifest.id.clone()),
        declared: plugin.manifest.capabilities.iter().map(|declared| declared.id.clone()).collect(),
        granted: step.grants.iter().cloned().collect(),
        profile: Arc::clone(profile),
        access_mode: job.access_mode,
        policy: services.policy.clone(),
        manifest_sha256: plugin.manifest_sha256,
        workspace: base.to_str().map(Arc::from),
    })
}
