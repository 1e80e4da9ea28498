//! Triggers: workflows that run by themselves, at times that survive restarts.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::event::Actor;
use crate::job::canonical_enum;
use crate::workflow::Period;
use crate::{InvalidName, JobId, Timestamp, TriggerId, TriggerName};

/// Longest workflow, bytes; the engine reads no longer one.
const MAX_WORKFLOW_BYTES: usize = 1 << 20;
/// Longest name of a file, bytes.
const MAX_FILE_BYTES: usize = 4 << 10;
/// Longest error that is kept, bytes.
pub const MAX_TRIGGER_ERROR_BYTES: usize = 4 << 10;

/// The input that gets the time for which a trigger fires, if the workflow declares it as a string.
pub const SCHEDULED_AT: &str = "scheduled_at";

/// At which times a trigger fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Five fields, in UTC.
    Cron(String),
    /// From one time to the next; counted from when the trigger was added.
    Every(Period),
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(expression) => write!(f, "{expression} UTC"),
            Self::Every(period) => write!(f, "every {period}"),
        }
    }
}

canonical_enum! {
    /// What happens to times at which no process served.
    Missed, "way to treat missed times" {
        /// Those that are more than a minute past are left out.
        Skip = "skip",
        /// All of them become one run.
        Once = "once",
        /// Each of them gets its run.
        All = "all",
    }
}

impl Default for Missed {
    /// One run: most workflows look at how things stand now, and need not do so twice.
    fn default() -> Self {
        Self::Once
    }
}

impl Missed {
    /// What happens, in words that continue "missed times".
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Skip => "are left out when they are more than a minute past",
            Self::Once => "become one run",
            Self::All => "get a run each",
        }
    }
}

/// A workflow that runs by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Its id.
    pub trigger_id: TriggerId,
    /// Its name, unique in the database; not the form of an id.
    pub name: TriggerName,
    /// The workflow as it was when the trigger was added, at most 1 MiB.
    pub workflow: String,
    /// Name of its file, as messages show it; its extension tells the format.
    pub file: String,
    /// Inputs by name, already of the declared types.
    pub inputs: Map<String, Value>,
    /// Folder that relative paths of mounts start from.
    pub base: PathBuf,
    /// At which times it fires.
    pub schedule: Schedule,
    /// What happens to times at which no process served.
    pub missed: Missed,
    /// The first time that was not looked at yet; [`Timestamp::NEVER`] when there is none.
    pub next_at: Timestamp,
    /// The last time for which a job was submitted.
    pub last_at: Option<Timestamp>,
    /// That job. It may be deleted meanwhile.
    pub last_job: Option<JobId>,
    /// Why the last time brought no job; at most 4 KiB.
    pub last_error: Option<String>,
    /// Who added it.
    pub created_by: Actor,
    /// When.
    pub created_at: Timestamp,
}

/// A trigger that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrigger {
    /// Nobody could tell it from an id.
    #[error("`{0}` is not a name of a trigger: it has the form of an id")]
    NameIsId(TriggerName),
    /// A text is too long, or missing.
    #[error("the {what} of a trigger has {bytes} bytes, and must have 1 to {most}")]
    Length {
        /// Which.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
}

impl Trigger {
    /// Checks what its types do not.
    pub fn check(&self) -> Result<(), InvalidTrigger> {
        if Uuid::parse_str(self.name.as_str()).is_ok() {
            return Err(InvalidTrigger::NameIsId(self.name.clone()));
        }
        let texts = [
            ("workflow", self.workflow.len(), MAX_WORKFLOW_BYTES),
            ("file", self.file.len(), MAX_FILE_BYTES),
            ("error", self.last_error.as_ref().map_or(1, String::len), MAX_TRIGGER_ERROR_BYTES),
        ];
        match texts.into_iter().find(|(_, bytes, most)| !(1..=*most).contains(bytes)) {
            Some((what, bytes, most)) => Err(InvalidTrigger::Length { what, bytes, most }),
            None => Ok(()),
        }
    }

    /// The key of the job for one of its times. Who submits twice for the same time gets the same job.
    pub fn idempotency_key(&self, at: Timestamp) -> String {
        format!("trigger:{}:{}", self.trigger_id, at.micros())
    }
}

/// A trigger as people refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TriggerRef {
    /// By its id.
    Id(TriggerId),
    /// By its name.
    Name(TriggerName),
}

impl fmt::Display for TriggerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl FromStr for TriggerRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => TriggerName::new(text).map(Self::Name),
        }
    }
}

#[cfg(test)]
#[path = "trigger_tests.rs"]
mod tests;
