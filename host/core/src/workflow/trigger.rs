//! At which times a workflow runs by itself.

use serde::{Deserialize, Serialize};

use super::Period;
use crate::trigger::{Missed, Schedule};

/// At which times a workflow runs by itself: `cron` or `every`, exactly one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerSpec {
    /// Minute, hour, day of the month, month and day of the week, in UTC: `0 6 * * *` is each day at six.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// A length of time from one run to the next, at least `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// What happens to times at which no process served.
    #[serde(default)]
    pub missed: Missed,
}

impl TriggerSpec {
    /// The schedule; none unless exactly one of the two keys is there.
    pub fn schedule(&self) -> Option<Schedule> {
        match (&self.cron, self.every) {
            (Some(cron), None) => Some(Schedule::Cron(cron.clone())),
            (None, Some(every)) => Some(Schedule::Every(every)),
            _ => None,
        }
    }
}
