//! A compiled workflow: what the engine executes.

use std::collections::BTreeSet;

use handshake_core::StepId;
use handshake_core::workflow::{Action, Map, MountSpec, Step, Workflow};

use super::expression::Expression;
use super::graph;
use super::problem::{Place, Problem};
use super::template::{self, Template};
use super::{validate, validators};
use crate::nearest::suggest;

/// How many items of a step run at the same time when the workflow does not say.
const DEFAULT_PARALLEL: u32 = 4;

/// A compiled workflow.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) workflow: Workflow,
    /// In file order; behind them the job's validators.
    pub(crate) steps: Vec<PlannedStep>,
    /// Positions of steps; each comes after those it needs.
    pub(crate) order: Vec<usize>,
    /// Paths of mounts, in file order.
    pub(crate) mounts: Vec<(String, Template)>,
    /// Outputs of the workflow.
    pub(crate) outputs: Template,
    /// The workflows that its steps may run, in file order.
    pub(crate) children: Vec<(String, Plan)>,
}

/// A compiled step.
#[derive(Debug)]
pub(crate) struct PlannedStep {
    pub(crate) step: Step,
    /// Positions of the steps that must end first.
    pub(crate) needs: BTreeSet<usize>,
    pub(crate) when: Option<Expression>,
    pub(crate) for_each: Option<Expression>,
    /// The input: `with` of a step that runs something, and what a built-in step is told.
    pub(crate) with: Template,
    /// Whether it is one of the job's validators, which comes after all steps and is given what they propose.
    pub(crate) validates: bool,
}

impl PlannedStep {
    /// How many of its items may run at the same time.
    pub(crate) fn parallel(&self) -> usize {
        usize::try_from(self.step.max_parallel.unwrap_or(DEFAULT_PARALLEL)).unwrap_or(1)
    }
}

impl Plan {
    /// The ids of the steps at these positions.
    pub(crate) fn ids<'a>(&self, positions: impl IntoIterator<Item = &'a usize>) -> Vec<StepId> {
        positions.into_iter().filter_map(|at| self.steps.get(*at)).map(|planned| planned.step.id.clone()).collect()
    }

    /// Compiles a workflow and checks all that can be checked without looking at the world. Everything that is wrong
    /// is told at once.
    pub(crate) fn compile(workflow: Workflow) -> Result<Self, Vec<Problem>> {
        let top = Place::default();
        let mut problems = Vec::new();
        validate::names(&workflow, &mut problems);
        validators::number(&workflow, &mut problems);
        super::trigger::check(&workflow, &mut problems);
        let mut children = Vec::new();
        for name in workflow.workflows.keys() {
            // Where its folders are depends on the run; here it only matters which there are.
            let Some(child) = workflow.child(name, literal(&workflow.mounts)) else { continue };
            let place = top.key("workflows").key(name);
            children.extend(Self::one(child, &place, &mut problems).map(|plan| (name.clone(), plan)));
        }
        if let Some(problem) = recursion(&workflow) {
            problems.push(problem);
        }
        let plan = Self::one(workflow, &top, &mut problems);
        match plan {
            Some(plan) if problems.is_empty() => Ok(Self { children, ..plan }),
            _ => Err(problems),
        }
    }

    /// Compiles a workflow without those that its steps run.
    fn one(workflow: Workflow, top: &Place, problems: &mut Vec<Problem>) -> Option<Self> {
        let known = problems.len();
        validate::structure(&workflow, top, problems);
        let steps = workflow.steps.iter().enumerate();
        let mut steps: Vec<_> =
            steps.map(|(at, step)| compile_step(&workflow, &top.key("steps").index(at), step, problems)).collect();
        for (place, step) in validators::steps(&workflow) {
            validators::check(&workflow, &place, &step, problems);
            let needs = (0..workflow.steps.len()).collect();
            let compiled = compile_step(&workflow, &place, &step, problems);
            steps.push(PlannedStep { needs, validates: true, ..compiled });
        }

        let mut mounts = Vec::new();
        for (name, mount) in &workflow.mounts {
            let place = top.key("mounts").key(name).key("path");
            mounts.extend(noted(problems, mount_path(&workflow, &mount.path, &place)).map(|path| (name.clone(), path)));
        }
        let place = top.key("outputs");
        let outputs = noted(problems, Template::map(&workflow.outputs, &place)).unwrap_or(Template::Map(Vec::new()));
        let each = outputs.each_expression(&place, &mut |expression, place| {
            noted(problems, resolve(&workflow, expression, place, false));
            Ok(())
        });
        debug_assert!(each.is_ok());
        if problems.len() > known {
            return None;
        }
        let needs: Vec<_> = steps.iter().map(|step| step.needs.clone()).collect();
        match graph::order(&needs) {
            Ok(order) => Some(Self { steps, order, mounts, outputs, children: Vec::new(), workflow }),
            Err(cycle) => {
                problems.push(of_cycle(&workflow, top, &cycle.0));
                None
            }
        }
    }

    /// The plugins of all steps and validators as the file names them, those of children included.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &str> {
        let children = self.children.iter().map(|(_, plan)| plan);
        std::iter::once(self).chain(children).flat_map(|plan| plan.steps.iter().filter_map(|step| step.step.plugin()))
    }
}

/// Notes what is wrong, and goes on without it.
fn noted<T>(problems: &mut Vec<Problem>, result: Result<T, Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

/// The mounts of a workflow without their paths.
fn literal(mounts: &Map<MountSpec>) -> Map<MountSpec> {
    mounts.iter().map(|(name, mount)| (name.clone(), MountSpec { path: ".".to_owned(), ..mount.clone() })).collect()
}

fn mount_path(workflow: &Workflow, path: &str, place: &Place) -> Result<Template, Problem> {
    let path = Template::text(path, place)?;
    path.each_expression(place, &mut |expression, place| {
        resolve(workflow, expression, place, false)?;
        if expression.references().steps.is_empty() {
            Ok(())
        } else {
            let what = "the path of a mount cannot depend on a step: mounts are opened before the first step";
            Err(Problem::at(place.clone(), what, "use inputs only").pointing(expression.source(), 0))
        }
    })?;
    Ok(path)
}

fn compile_step(workflow: &Workflow, place: &Place, step: &Step, problems: &mut Vec<Problem>) -> PlannedStep {
    let mut needs = BTreeSet::new();
    for (position, need) in step.needs.iter().enumerate() {
        let found = position_of(workflow, need);
        let found = found.ok_or_else(|| unknown_step(workflow, need, place.key("needs").index(position)));
        needs.extend(noted(problems, found));
    }
    let mut compiled = |key: &str, source: &Option<String>| -> Option<Expression> {
        let place = place.key(key);
        let expression = noted(problems, bare(&place, key, source.as_ref()?))?;
        needs.extend(noted(problems, resolve(workflow, &expression, &place, false)).unwrap_or_default());
        Some(expression)
    };
    let when = compiled("when", &step.when);
    let for_each = compiled("for_each", &step.for_each);
    let (with, base) = noted(problems, parameters(step, place)).unwrap_or((Template::Map(Vec::new()), place.clone()));
    let each = with.each_expression(&base, &mut |expression, place| {
        needs
            .extend(noted(problems, resolve(workflow, expression, place, step.for_each.is_some())).unwrap_or_default());
        Ok(())
    });
    debug_assert!(each.is_ok());
    PlannedStep { step: step.clone(), needs, when, for_each, with, validates: false }
}

/// What a step is given, and the place whose keys it is made of.
fn parameters(step: &Step, place: &Place) -> Result<(Template, Place), Problem> {
    let one = |base: Place, key: &str, text: &str| {
        let value = Template::text(text, &base.key(key))?;
        Ok((Template::Map(vec![(key.to_owned(), value)]), base))
    };
    match step.actions().first() {
        Some(Action::Approval(approval)) => {
            one(place.key("approval"), "prompt", approval.prompt.as_deref().unwrap_or_default())
        }
        Some(action @ (Action::Sleep(text) | Action::SleepUntil(text))) => one(place.clone(), action.key(), text),
        Some(Action::Plugin(_) | Action::Workflow(_)) | None => {
            let base = place.key("with");
            Ok((Template::map(&step.with, &base)?, base))
        }
    }
}

fn bare(place: &Place, key: &str, source: &str) -> Result<Expression, Problem> {
    if source.contains("${") {
        let what = format!("`{key}` is always an expression");
        return Err(Problem::at(place.clone(), what, "write it without `${` and `}`"));
    }
    Expression::compile(source).map_err(|error| template::invalid(place, source, error))
}

/// A workflow that runs itself, directly or through others.
fn recursion(workflow: &Workflow) -> Option<Problem> {
    let names: Vec<_> = workflow.workflows.keys().collect();
    let runs = |steps: &[Step]| -> BTreeSet<usize> {
        let named = steps.iter().filter_map(|step| step.workflow.as_ref());
        named.filter_map(|name| names.iter().position(|known| *known == name)).collect()
    };
    let needs: Vec<_> = workflow.workflows.values().map(|child| runs(&child.steps)).collect();
    let cycle = graph::order(&needs).err()?.0;
    let ring = cycle.iter().chain(cycle.first()).filter_map(|at| Some(format!("`{}`", names.get(*at)?)));
    let first = names.get(*cycle.first()?)?;
    Some(Problem::at(
        Place::default().key("workflows").key(first),
        format!("the workflows run each other without end: {}", ring.collect::<Vec<_>>().join(" runs ")),
        "remove one of these steps; `for_each` repeats a workflow for each item of a list",
    ))
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

fn of_cycle(workflow: &Workflow, top: &Place, cycle: &[usize]) -> Problem {
    let names: Vec<_> =
        cycle.iter().chain(cycle.first()).filter_map(|at| Some(format!("`{}`", workflow.steps.get(*at)?.id))).collect();
    let place = top.key("steps").index(cycle.first().copied().unwrap_or(0)).key("id");
    Problem::at(
        place,
        format!("the steps need each other in a cycle: {}", names.join(" needs ")),
        "remove one of these dependencies from `needs` or from an expression",
    )
}
