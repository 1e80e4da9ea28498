//! Checks a workflow against the plugins, profiles and credentials that there are, together with all that is wrong with
//! its file.

use std::collections::BTreeMap;
use std::sync::Arc;

use handshake_core::StepId;
use handshake_core::capability::Profile;
use handshake_core::credential::Credentials;
use handshake_core::step::{Plugin, PluginError, PluginRequest, StepExecutor};
use handshake_core::workflow::{Step, Workflow};
use serde::Serialize;

use super::parse::{self, ParsedWorkflow};
use super::plan::Plan;
use super::problem::{InvalidWorkflow, Place, Problem};
use super::rights;
use super::source::WorkflowSource;
use super::validators;
use crate::nearest::suggest;

/// A workflow that could be submitted, with its graph.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct CheckedWorkflow {
    /// Its name.
    pub name: String,
    /// Steps in file order.
    pub steps: Vec<CheckedStep>,
    /// Steps in an order in which each comes after those it needs.
    pub order: Vec<StepId>,
}

/// A step with what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
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

/// What a workflow is checked against.
pub(crate) struct Surroundings<'a> {
    pub(crate) executor: &'a dyn StepExecutor,
    pub(crate) profiles: &'a [Arc<Profile>],
    /// None when nobody knows; then they are not checked.
    pub(crate) credentials: Option<&'a Credentials>,
}

/// Reads a workflow, compiles it, and looks up every plugin, the profile, and what its steps are granted. Everything
/// that is wrong is told at once.
pub(crate) fn check(
    source: &WorkflowSource,
    around: &Surroundings<'_>,
) -> Result<(ParsedWorkflow, Checked), InvalidWorkflow> {
    let draft = parse::read(source)?;
    let mut problems = Vec::new();
    let plan = Plan::compile(draft.workflow.clone()).map_err(|found| problems.extend(found)).ok();
    let checked = checked(&draft.workflow, around, &mut problems);
    match plan {
        Some(plan) if problems.is_empty() => Ok((draft.planned(plan), checked)),
        _ => Err(draft.locator.locate_all(problems)),
    }
}

fn checked(workflow: &Workflow, around: &Surroundings<'_>, problems: &mut Vec<Problem>) -> Checked {
    let job = &workflow.job;
    let place = Place::default().key("job");
    problems.extend(crate::submission::check_kind(workflow).err());
    let profile = around.profiles.iter().find(|profile| profile.id == job.profile);
    if profile.is_none() {
        let known = around.profiles.iter().map(|profile| profile.id.as_str());
        let remedy = suggest(job.profile.as_str(), "profiles", known);
        problems.push(Problem::at(place.key("profile"), format!("profile `{}` is not defined", job.profile), remedy));
    }
    let mut found = Checked { plugins: Vec::new(), own: BTreeMap::new() };
    let mut plugins = BTreeMap::new();
    let validators = validators::steps(workflow);
    let behind = validators.iter().enumerate().map(|(at, (place, step))| {
        // As in the plan, where they stand behind the steps.
        (Some(workflow.steps.len() + at), place.clone(), step)
    });
    for (own, place, step) in steps(workflow).chain(behind) {
        let plugin = step.plugin().and_then(|uses| plugin(around.executor, uses, &place, problems));
        rights::check(&place, step, plugin.as_deref(), job, profile.map(|profile| &**profile), around, problems);
        if let Some(plugin) = plugin {
            found.own.extend(own.map(|at| (at, Arc::clone(&plugin))));
            plugins.insert(plugin.label(), plugin);
        }
    }
    found.plugins = plugins.into_values().collect();
    found
}

/// Every step with its place, those of other workflows of the file included; those of its own with their position.
fn steps(workflow: &Workflow) -> impl Iterator<Item = (Option<usize>, Place, &Step)> {
    let place = |top: Place, at: usize| top.key("steps").index(at);
    let own = workflow.steps.iter().enumerate();
    let own = own.map(move |(at, step)| (Some(at), place(Place::default(), at), step));
    let others = workflow.workflows.iter().flat_map(move |(name, child)| {
        let top = Place::default().key("workflows").key(name);
        child.steps.iter().enumerate().map(move |(at, step)| (None, place(top.clone(), at), step))
    });
    own.chain(others)
}

fn plugin(executor: &dyn StepExecutor, uses: &str, place: &Place, problems: &mut Vec<Problem>) -> Option<Arc<Plugin>> {
    // The plan says what is wrong with a name that is none.
    uses.parse::<PluginRequest>().ok()?;
    let found = executor.find(uses).map_err(|error| {
        let (what, remedy) = of_plugin(&error);
        problems.push(Problem::at(place.key("uses"), what, remedy));
    });
    found.ok()
}

/// What is wrong with a plugin, and what to do.
pub(crate) fn of_plugin(error: &PluginError) -> (String, String) {
    let remedy = match error {
        PluginError::Unknown { wanted, known, .. } => {
            suggest(wanted.split('@').next().unwrap_or(wanted), "known plugins", known.iter().map(String::as_str))
        }
        PluginError::NotBuilt { .. } => "build it first".to_owned(),
        PluginError::Manifest { .. } | PluginError::Component { .. } | PluginError::ComponentTampered { .. } => {
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
        let steps = plan.steps.iter().enumerate().map(|(at, planned)| CheckedStep {
            id: planned.step.id.clone(),
            uses: planned.step.plugin().or(planned.step.workflow.as_deref()).map(str::to_owned),
            plugin: match (self.own.get(&at), planned.step.actions().first()) {
                (Some(plugin), _) => plugin.label(),
                (None, Some(action)) => action.key().to_owned(),
                (None, None) => String::new(),
            },
            needs: plan.ids(&planned.needs),
            when: planned.step.when.clone(),
            for_each: planned.step.for_each.clone(),
            grants: planned.step.grants.iter().map(ToString::to_string).collect(),
        });
        CheckedWorkflow { name: plan.workflow.name.clone(), steps: steps.collect(), order: plan.ids(&plan.order) }
    }
}
