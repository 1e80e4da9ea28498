//! Checks a parsed workflow against the plugins and profiles that there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use handshake_core::StepId;
use handshake_core::capability::Profile;
use handshake_core::step::{Plugin, PluginError, StepExecutor};
use serde::Serialize;

use super::parse::ParsedWorkflow;
use super::problem::{InvalidWorkflow, Place, Problem};
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
    /// Plugin or workflow, as the file names it; none for a step that asks people or waits.
    pub uses: Option<String>,
    /// Plugin, `id@version`, or the key of a step that runs none: `approval`, `sleep`, `sleep_until`, `workflow`.
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

/// What a check found: every plugin that the workflow can run.
pub(crate) struct Checked {
    pub(crate) plugins: Vec<Arc<Plugin>>,
    /// Those of its own steps, by the position of the step.
    own: BTreeMap<usize, Arc<Plugin>>,
}

/// Looks up every plugin and the profile. Everything that is wrong is told at once.
pub(crate) fn check(
    parsed: &ParsedWorkflow,
    executor: &dyn StepExecutor,
    profiles: &[Arc<Profile>],
) -> Result<Checked, InvalidWorkflow> {
    let mut problems = Vec::new();
    let job = &parsed.workflow.job;
    let place = Place::default().key("job");
    problems.extend(crate::submission::check_kind(&parsed.workflow).err());
    if !profiles.iter().any(|profile| profile.id == job.profile) {
        let known = profiles.iter().map(|profile| profile.id.as_str());
        let remedy = suggest(job.profile.as_str(), "profiles", known);
        problems.push(Problem::at(place.key("profile"), format!("profile `{}` is not defined", job.profile), remedy));
    }
    let mut plugins = BTreeMap::new();
    let mut own = BTreeMap::new();
    for (place, planned, uses) in parsed.plan.plugin_steps() {
        match executor.find(uses) {
            Ok(plugin) => {
                let at = parsed.plan.steps.iter().position(|known| std::ptr::eq(known, planned));
                own.extend(at.map(|at| (at, Arc::clone(&plugin))));
                plugins.insert(plugin.label(), plugin);
            }
            Err(error) => {
                let (what, remedy) = of_plugin(&error);
                problems.push(Problem::at(place.key("uses"), what, remedy));
            }
        }
    }
    if problems.is_empty() {
        Ok(Checked { plugins: plugins.into_values().collect(), own })
    } else {
        Err(parsed.locate_all(problems))
    }
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
        let steps = plan.steps.iter().enumerate().map(|(at, planned)| CheckedStep {
            id: planned.step.id.clone(),
            uses: planned.step.plugin().or(planned.step.workflow.as_deref()).map(str::to_owned),
            plugin: match (self.own.get(&at), planned.step.actions().first()) {
                (Some(plugin), _) => plugin.label(),
                (None, Some(action)) => action.key().to_owned(),
                (None, None) => String::new(),
            },
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
