//! A compiled workflow: what the engine executes.

use std::collections::BTreeSet;

use handshake_core::StepId;
use handshake_core::workflow::{Step, Workflow};

use super::expression::Expression;
use super::graph;
use super::problem::{Place, Problem};
use super::template::{self, Template};
use super::validate;
use crate::nearest::suggest;

/// How many items of a step run at the same time when the workflow does not say.
const DEFAULT_PARALLEL: u32 = 4;

/// A compiled workflow.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) workflow: Workflow,
    /// In file order.
    pub(crate) steps: Vec<PlannedStep>,
    /// Positions of steps; each comes after those it needs.
    pub(crate) order: Vec<usize>,
    /// Paths of mounts, in file order.
    pub(crate) mounts: Vec<(String, Template)>,
    /// Outputs of the workflow.
    pub(crate) outputs: Template,
}

/// A compiled step.
#[derive(Debug)]
pub(crate) struct PlannedStep {
    pub(crate) step: Step,
    /// Positions of the steps that must end first.
    pub(crate) needs: BTreeSet<usize>,
    pub(crate) when: Option<Expression>,
    pub(crate) for_each: Option<Expression>,
    pub(crate) with: Template,
}

impl PlannedStep {
    /// How many of its items may run at the same time.
    pub(crate) fn parallel(&self) -> usize {
        usize::try_from(self.step.max_parallel.unwrap_or(DEFAULT_PARALLEL)).unwrap_or(1)
    }
}

impl Plan {
    /// Compiles a workflow and checks all that can be checked without looking at the world.
    pub(crate) fn compile(workflow: Workflow) -> Result<Self, Problem> {
        validate::structure(&workflow)?;
        let mut steps = Vec::with_capacity(workflow.steps.len());
        for (at, step) in workflow.steps.iter().enumerate() {
            steps.push(compile_step(&workflow, at, step)?);
        }
        let needs: Vec<_> = steps.iter().map(|step| step.needs.clone()).collect();
        let order = graph::order(&needs).map_err(|cycle| of_cycle(&workflow, &cycle.0))?;

        let mut mounts = Vec::new();
        for (name, mount) in &workflow.mounts {
            let place = Place::default().key("mounts").key(name).key("path");
            let path = Template::text(&mount.path, &place)?;
            path.each_expression(&place, &mut |expression, place| {
                resolve(&workflow, expression, place, false)?;
                if expression.references().steps.is_empty() {
                    Ok(())
                } else {
                    let what = "the path of a mount cannot depend on a step: mounts are opened before the first step";
                    Err(Problem::at(place.clone(), what, "use inputs only").pointing(expression.source(), 0))
                }
            })?;
            mounts.push((name.clone(), path));
        }
        let place = Place::default().key("outputs");
        let outputs = Template::map(&workflow.outputs, &place)?;
        outputs
            .each_expression(&place, &mut |expression, place| resolve(&workflow, expression, place, false).map(drop))?;
        Ok(Self { workflow, steps, order, mounts, outputs })
    }
}

fn compile_step(workflow: &Workflow, at: usize, step: &Step) -> Result<PlannedStep, Problem> {
    let place = Place::step(at);
    let mut needs = BTreeSet::new();
    for (position, need) in step.needs.iter().enumerate() {
        needs.insert(
            position_of(workflow, need)
                .ok_or_else(|| unknown_step(workflow, need, place.key("needs").index(position)))?,
        );
    }
    let mut bare = |key: &str, source: &Option<String>| -> Result<Option<Expression>, Problem> {
        let Some(source) = source else { return Ok(None) };
        let place = place.key(key);
        if source.contains("${") {
            return Err(Problem::at(
                place,
                format!("`{key}` is always an expression"),
                "write it without `${` and `}`",
            ));
        }
        let expression = Expression::compile(source).map_err(|error| template::invalid(&place, source, error))?;
        needs.extend(resolve(workflow, &expression, &place, false)?);
        Ok(Some(expression))
    };
    let when = bare("when", &step.when)?;
    let for_each = bare("for_each", &step.for_each)?;
    let with = Template::map(&step.with, &place.key("with"))?;
    with.each_expression(&place.key("with"), &mut |expression, place| {
        needs.extend(resolve(workflow, expression, place, for_each.is_some())?);
        Ok(())
    })?;
    Ok(PlannedStep { step: step.clone(), needs, when, for_each, with })
}

/// Positions of the steps that an expression names; a problem when it names what is not there.
fn resolve(
    workflow: &Workflow,
    expression: &Expression,
    place: &Place,
    has_item: bool,
) -> Result<BTreeSet<usize>, Problem> {
    let references = expression.references();
    let point = |problem: Problem, name: &str| {
        let offset = expression.source().find(name).unwrap_or(0);
        problem.pointing(expression.source(), offset)
    };
    for name in &references.inputs {
        if !workflow.inputs.contains_key(name) {
            let problem = Problem::at(
                place.clone(),
                format!("input `{name}` is not defined"),
                suggest(name, "inputs", workflow.inputs.keys().map(String::as_str)),
            );
            return Err(point(problem, name));
        }
    }
    if references.item && !has_item {
        let what = "`item` and `index` are there only in `with` of a step with `for_each`";
        return Err(point(
            Problem::at(place.clone(), what, "add `for_each` to the step, or name the value another way"),
            "i",
        ));
    }
    let mut steps = BTreeSet::new();
    for id in &references.steps {
        let position = position_of(workflow, id);
        steps.insert(position.ok_or_else(|| point(unknown_step(workflow, id, place.clone()), id.as_str()))?);
    }
    Ok(steps)
}

fn position_of(workflow: &Workflow, id: &StepId) -> Option<usize> {
    workflow.steps.iter().position(|step| step.id == *id)
}

fn unknown_step(workflow: &Workflow, id: &StepId, place: Place) -> Problem {
    Problem::at(
        place,
        format!("step `{id}` is not defined"),
        suggest(id.as_str(), "steps", workflow.steps.iter().map(|step| step.id.as_str())),
    )
}

fn of_cycle(workflow: &Workflow, cycle: &[usize]) -> Problem {
    let names: Vec<_> =
        cycle.iter().chain(cycle.first()).filter_map(|at| Some(format!("`{}`", workflow.steps.get(*at)?.id))).collect();
    let place = Place::step(cycle.first().copied().unwrap_or(0)).key("id");
    Problem::at(
        place,
        format!("the steps need each other in a cycle: {}", names.join(" needs ")),
        "remove one of these dependencies from `needs` or from an expression",
    )
}
