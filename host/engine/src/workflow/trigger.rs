//! Checks the `trigger` of a workflow.

use std::time::Duration;

use handshake_core::workflow::{TriggerSpec, Workflow};

use super::problem::{Place, Problem};
use crate::triggers::Cron;

/// More often than that, looking for what is due would be most of the work.
const SHORTEST: Duration = Duration::from_secs(1);
/// Far beyond what anybody waits for, and near enough that times can be added.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

pub(super) fn check(workflow: &Workflow, problems: &mut Vec<Problem>) {
    if let Some(spec) = &workflow.trigger {
        problems.extend(problem(spec, &Place::default().key("trigger")));
    }
}

fn problem(spec: &TriggerSpec, place: &Place) -> Option<Problem> {
    match (&spec.cron, spec.every) {
        (None, None) => {
            let remedy = "write `cron: \"0 6 * * *\"` or `every: 15m`";
            Some(Problem::at(place.clone(), "a trigger has `cron` or `every`, and this one has neither", remedy))
        }
        (Some(_), Some(_)) => {
            let what = "a trigger has `cron` or `every`, and this one has both";
            Some(Problem::at(place.key("every"), what, "remove one of the two"))
        }
        (Some(expression), None) => {
            let what = Cron::parse(expression).err()?;
            let remedy = "write minute, hour, day of the month, month and day of the week, in UTC: `0 6 * * *` is each \
                          day at six";
            Some(Problem::at(place.key("cron"), what, remedy))
        }
        (None, Some(every)) if every.0 < SHORTEST || every.0 > LONGEST => {
            let what = format!("`{every}` is not between one second and ten years");
            Some(Problem::at(place.key("every"), what, "write for example `30s`, `15m` or `24h`"))
        }
        (None, Some(_)) => None,
    }
}
