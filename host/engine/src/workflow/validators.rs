//! The validators of a job as steps of its plan: they run as nodes, so their checkpoints, their decisions and what
//! happens after a crash are those of every step.

use handshake_core::StepId;
use handshake_core::capability::Axis;
use handshake_core::workflow::{Step, Workflow};

use super::problem::{Place, Problem};
use super::validate;

/// Each of them is given all proposals and looks at all of it.
const MOST: usize = 16;

/// Them with their places in the file.
pub(super) fn steps(workflow: &Workflow) -> Vec<(Place, Step)> {
    let place = Place::default().key("job").key("validators");
    let specs = workflow.job.validators.iter().enumerate();
    specs.filter_map(|(at, spec)| Some((place.index(at), spec.step(id(at)?)))).collect()
}

/// By its number, and not its plugin's id, so that the same plugin can be there twice.
fn id(at: usize) -> Option<StepId> {
    StepId::new(format!("{}validator-{}", validate::HOSTS_OWN, at + 1)).ok()
}

pub(super) fn number(workflow: &Workflow, problems: &mut Vec<Problem>) {
    let number = workflow.job.validators.len();
    if number > MOST {
        let what = format!("the job has {number} validators; {MOST} is the most");
        problems.push(Problem::at(
            Place::default().key("job").key("validators"),
            what,
            "let one plugin do the work of several",
        ));
    }
}

/// Checks one of them like a step. That it proposes is out of the question: nobody would validate that.
pub(super) fn check(workflow: &Workflow, place: &Place, step: &Step, problems: &mut Vec<Problem>) {
    validate::whole(workflow, place, step, problems);
    for (at, grant) in step.grants.iter().enumerate().filter(|(_, grant)| grant.axis() == Axis::DocPropose) {
        let what = format!("`{grant}` cannot be granted to a validator: it looks at proposals and makes none");
        problems.push(Problem::at(place.key("grants").index(at), what, "remove the grant"));
    }
}
