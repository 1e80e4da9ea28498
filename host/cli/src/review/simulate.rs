//! Whether a plugin could do something in a job, decided by all layers as they are now, and recorded as a question.

use std::str::FromStr;

use handshake_core::capability::{
    Axis, CapabilityId, CapabilitySet, DenialLabel, EffectiveRights, Layer, LayerAnswer, Policy, PolicyInForce,
    Resource, ScopeForm, Verdict,
};
use handshake_core::event::{Actor, Event, EventBody, Outcome, SimulationRecord};
use handshake_core::step::{PluginRequest, StepExecutor};
use handshake_core::workflow::Step;
use handshake_core::{EventId, JobId, StepId};
use serde::{Deserialize, Serialize};

use super::rights::{StoredRun, everywhere};
use crate::error::CliError;
use crate::host::HostState;

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimulateRequest {
    /// The job.
    pub(crate) job: JobId,
    /// The plugin: `id` or `id@version`.
    pub(crate) plugin: String,
    /// The capability: an axis, or an axis and a scope.
    pub(crate) capability: String,
    /// The resource as records show it; by default what the capability's scope names.
    #[serde(default)]
    pub(crate) resource: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Simulated {
    /// Whether some step of the job that uses the plugin would be allowed.
    pub(crate) allowed: bool,
    /// The axis.
    pub(crate) capability: String,
    /// The resource in canonical form.
    pub(crate) resource: String,
    /// For each step that uses the plugin; one without a step when none does.
    pub(crate) steps: Vec<SimulatedStep>,
}

/// The answer for one step.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct SimulatedStep {
    /// The step; none when no step of the job uses the plugin.
    pub(crate) step: Option<StepId>,
    /// Plugin id and version.
    pub(crate) plugin: String,
    /// What would be decided.
    pub(crate) outcome: Outcome,
    /// Why it would be denied.
    pub(crate) reason: Option<DenialLabel>,
    /// The layer that would decide.
    pub(crate) layer: Layer,
    /// Whether the policy only watches and would deny.
    pub(crate) would_deny: bool,
    /// What each layer says.
    pub(crate) layers: Vec<SimulatedLayer>,
    /// The event that records the question.
    pub(crate) event: EventId,
}

/// What a layer says.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct SimulatedLayer {
    /// The layer.
    pub(crate) layer: Layer,
    /// Why it refuses; none when it allows.
    pub(crate) refusal: Option<DenialLabel>,
    /// The id or the rule behind it.
    pub(crate) by: Option<String>,
    /// What would make it allow.
    pub(crate) remedy: Option<String>,
}

impl From<LayerAnswer> for SimulatedLayer {
    fn from(answer: LayerAnswer) -> Self {
        let by = answer.rule.map(|rule| rule.to_string()).or_else(|| answer.by.map(|id| id.to_string()));
        Self { layer: answer.layer, refusal: answer.refusal, by, remedy: answer.remedy }
    }
}

/// Answers a question, and records that it was asked.
pub(crate) async fn simulate(
    host: &HostState,
    actor: &Actor,
    request: &SimulateRequest,
) -> Result<Simulated, CliError> {
    let id = CapabilityId::from_str(&request.capability).map_err(|error| CliError::bad_input(&error))?;
    let axis = id.axis();
    let resource = resource(&id, request.resource.as_deref())?;
    let asked = PluginRequest::from_str(&request.plugin).map_err(CliError::usage)?;
    let job = host.database.job(request.job).await?;
    let runs = host.database.runs_of(job.job_id).await?;
    let run = runs.last().ok_or_else(|| CliError::conflict(format!("job `{}` has no run", job.job_id)))?;
    let stored = StoredRun::load(host, run.run_id).await?;
    let plugin = host.runtime.find(&request.plugin)?;
    let profile = host.profiles.iter().find(|profile| profile.id == job.capability_profile_id).cloned();
    let profile = profile.ok_or_else(|| {
        CliError::conflict(format!("profile `{}` of the job does not exist any more", job.capability_profile_id))
    })?;
    let uses = |step: &&Step| {
        let used = step.plugin().and_then(|uses| PluginRequest::from_str(uses).ok());
        used.is_some_and(|used| used.id == asked.id && used.accepts(&plugin.manifest.version, plugin.manifest_sha256))
    };
    let steps: Vec<Option<&Step>> = stored.steps.iter().filter(uses).map(Some).collect();
    let steps = if steps.is_empty() { vec![None] } else { steps };
    let mut answers = Vec::with_capacity(steps.len());
    for step in steps {
        let rights = EffectiveRights {
            plugin: Some(plugin.manifest.id.clone()),
            declared: super::rights::ids(&plugin.manifest),
            granted: step.map_or_else(CapabilitySet::default, |step| step.grants.iter().cloned().collect()),
            profile: profile.clone(),
            access_mode: job.access_mode,
            policy: PolicyInForce::new(Policy { mounts: everywhere(), ..host.policy.current().policy().clone() }),
            manifest_sha256: plugin.manifest_sha256,
            workspace: None,
        };
        let layers = rights.layers(axis, &resource);
        let would_deny = layers.iter().any(|answer| answer.observed);
        let (outcome, reason, layer) = match rights.decide(axis, &resource) {
            Verdict::Allowed { .. } => (Outcome::Allow, None, Layer::Policy),
            Verdict::Denied { denial, .. } | Verdict::Asks { denial, .. } => {
                (Outcome::Deny, Some(denial.reason), denial.layer)
            }
        };
        let event = EventId::fresh(&*host.gate.ids);
        let answer = SimulatedStep {
            step: step.map(|step| step.id.clone()),
            plugin: plugin.label(),
            outcome,
            reason,
            layer,
            would_deny,
            layers: layers.into_iter().map(SimulatedLayer::from).collect(),
            event,
        };
        record(host, actor, &stored, &answer, axis, &resource).await?;
        answers.push(answer);
    }
    let allowed = answers.iter().any(|answer| answer.outcome == Outcome::Allow);
    Ok(Simulated { allowed, capability: axis.name().to_owned(), resource: resource.to_string(), steps: answers })
}

async fn record(
    host: &HostState,
    actor: &Actor,
    stored: &StoredRun,
    answer: &SimulatedStep,
    axis: Axis,
    resource: &Resource,
) -> Result<(), CliError> {
    let body = EventBody::Simulation(SimulationRecord {
        capability_id: axis.name().to_owned(),
        resource: resource.to_string(),
        policy_sha256: host.policy.current().policy().digest,
        outcome: answer.outcome,
        reason: answer.reason,
        decision: None,
        plugin: Some(answer.plugin.clone()),
        layer: Some(answer.layer),
    });
    let mut event = Event::new(answer.event, stored.run.trace_id, host.gate.clock.now(), actor.clone(), body);
    event.job_id = Some(stored.job.job_id);
    event.workflow_run_id = Some(stored.run.run_id);
    event.step_id = answer.step.clone();
    event.capability_id = Some(axis.name().to_owned());
    Ok(host.gate.recorder.record_event(&event).await?)
}

/// What is asked about: the resource as records show it, or what the capability's own scope names.
fn resource(id: &CapabilityId, text: Option<&str>) -> Result<Resource, CliError> {
    let axis = id.axis();
    let Some(text) = text else {
        return Ok(match (id.mount(), id.name()) {
            (Some(mount), _) => Resource::Path { mount: mount.into(), path: String::new(), host: String::new() },
            (None, Some(name)) => Resource::name(name),
            (None, None) => Resource::Whole,
        });
    };
    let text = match axis.scope_form() {
        // Guests see a mount as a folder of the root.
        ScopeForm::Mount => text.strip_prefix('/').unwrap_or(text),
        _ => text,
    };
    let outside = text.split('/').any(|part| part == "..");
    let host = (!outside).then_some("");
    let resource = Resource::from_record(axis, text.trim_end_matches('/'), host)
        .ok_or_else(|| CliError::usage(format!("`{text}` is not a whole resource")))?;
    if id.as_str() != axis.name() && !id.covers(axis, &resource) {
        return Err(CliError::usage(format!("`{id}` does not cover `{resource}`"))
            .hint(format!("ask about the axis: --capability {axis} --resource {resource}")));
    }
    Ok(resource)
}
