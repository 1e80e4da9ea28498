//! Checks a parsed workflow against the plugins and profiles that there are.

use std::sync::Arc;

use handshake_core::StepId;
use handshake_core::capability::Profile;
use handshake_core::step::{Plugin, PluginError, StepExecutor};
use serde::Serialize;

use super::parse::ParsedWorkflow;
use super::problem::{Place, Problem, WorkflowError};
use crate::nearest::suggest;

/// A workflow that could be submitted, with its graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckedWorkflow {
    /// Its name.
    pub name: String,
    /// Steps in file order.
    pub steps: Vec<CheckedStep>,
    /// Steps in an order in which each comes after those it needs.
    pub order: Vec<StepId>,
}

/// A step with what it needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckedStep {
    /// Its id.
    pub id: StepId,
    /// Plugin, as the file names it.
    pub uses: String,
    /// Plugin, `id@version`.
    pub plugin: String,
    /// Steps that it directly needs, from `needs` and from expressions.
    pub needs: Vec<StepId>,
    /// The condition, if it has one.
    pub when: Option<String>,
    /// The list, if it runs once per item.
    pub for_each: Option<String>,
    /// Capabilities that it grants.
    pub grants: Vec<String>,
}

/// What a check found: one plugin per step, and the profile.
pub(crate) struct Checked {
    pub(crate) plugins: Vec<Arc<Plugin>>,
}

/// Looks up every plugin and the profile.
pub(crate) fn check(
    parsed: &ParsedWorkflow,
    executor: &dyn StepExecutor,
    profiles: &[Arc<Profile>],
) -> Result<Checked, WorkflowError> {
    let job = &parsed.workflow.job;
    crate::submission::check_kind(&parsed.workflow).map_err(|problem| parsed.locate(problem))?;
    if !profiles.iter().any(|profile| profile.id == job.profile) {
        let known = profiles.iter().map(|profile| profile.id.as_str());
        let remedy = suggest(job.profile.as_str(), "profiles", known);
        let place = Place::default().key("job").key("profile");
        return Err(parsed.locate(Problem::at(place, format!("profile `{}` is not defined", job.profile), remedy)));
    }
    let mut plugins = Vec::with_capacity(parsed.plan.steps.len());
    for (at, planned) in parsed.plan.steps.iter().enumerate() {
        let plugin = executor.find(&planned.step.uses).map_err(|error| {
            let (what, remedy) = of_plugin(&error);
            parsed.locate(Problem::at(Place::step(at).key("uses"), what, remedy))
        })?;
        plugins.push(plugin);
    }
    Ok(Checked { plugins })
}

/// What is wrong with a plugin, and what to do.
pub(crate) fn of_plugin(error: &PluginError) -> (String, String) {
    let remedy = match error {
        PluginError::Unknown { wanted, known, .. } => {
            suggest(wanted.split('@').next().unwrap_or(wanted), "known plugins", known.iter().map(String::as_str))
        }
        PluginError::NotBuilt { .. } => "build it first".to_owned(),
        PluginError::Manifest { .. } | PluginError::Component { .. } => {
            "`handshake plugin check` tells more".to_owned()
        }
        PluginError::CacheTampered { .. } => "delete the file after finding out who changed it".to_owned(),
        PluginError::Host(_) => "`handshake doctor` looks for what is wrong with the host".to_owned(),
    };
    (error.to_string(), remedy)
}

impl Checked {
    /// The graph for whoever wants to see it.
    pub(crate) fn describe(&self, parsed: &ParsedWorkflow) -> CheckedWorkflow {
        let plan = &parsed.plan;
        let id = |at: &usize| plan.steps.get(*at).map(|planned| planned.step.id.clone());
        let steps = plan.steps.iter().zip(&self.plugins).map(|(planned, plugin)| CheckedStep {
            id: planned.step.id.clone(),
            uses: planned.step.uses.clone(),
            plugin: plugin.label(),
            needs: planned.needs.iter().filter_map(id).collect(),
            when: planned.step.when.clone(),
            for_each: planned.step.for_each.clone(),
            grants: planned.step.grants.iter().map(ToString::to_string).collect(),
        });
        CheckedWorkflow {
            name: plan.workflow.name.clone(),
            steps: steps.collect(),
            order: plan.order.iter().filter_map(id).collect(),
        }
    }
}
