//! The workflow file: YAML, TOML or JSON of one structure. Parsing and checking are the engine's.

mod action;
mod budget;
mod trigger;
mod validator;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use self::action::{Action, ApprovalSpec, ChildWorkflow, OnExpiry};
pub use self::budget::{Budget, OnExceeded};
pub use self::trigger::TriggerSpec;
pub use self::validator::ValidatorSpec;
use crate::capability::CapabilityId;
use crate::job::{AccessMode, JobKind, SafetyMode};
use crate::mount::MountAccess;
use crate::{ProfileId, StepId};

/// Maps keep the order of the file.
pub type Map<V> = indexmap::IndexMap<String, V>;

/// A workflow. Unknown keys fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// Name, as jobs show it.
    pub name: String,
    /// What kind of job it makes.
    #[serde(default)]
    pub job: JobSpec,
    /// Inputs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<InputSpec>,
    /// Host folders by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub mounts: Map<MountSpec>,
    /// What happens to steps that a lost host was executing; steps can say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// How much the job may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Steps; their order is that of their dependencies.
    pub steps: Vec<Step>,
    /// Outputs: values with `${…}` expressions.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub outputs: Map<Value>,
    /// Workflows that steps of this file run with `workflow: NAME`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub workflows: Map<ChildWorkflow>,
    /// At which times it runs by itself, once `handshake triggers add` was told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerSpec>,
}

/// What kind of job a workflow makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobSpec {
    /// Kind.
    pub kind: JobKind,
    /// Capability profile.
    pub profile: ProfileId,
    /// What the job may do with the world.
    pub access_mode: AccessMode,
    /// How careful the host is with its inputs.
    pub safety_mode: SafetyMode,
    /// Whether a person is asked before its proposals are applied.
    #[serde(skip_serializing_if = "Review::is_default")]
    pub review: Review,
    /// Plugins that look at its proposals, besides the host's own validators.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub validators: Vec<ValidatorSpec>,
}

/// Whether a person is asked before a job's proposals are applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// Always.
    #[default]
    Always,
    /// When a validator asks for one.
    WhenFlagged,
}

impl Review {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            kind: JobKind::WorkflowRun,
            profile: ProfileId::analyst(),
            access_mode: AccessMode::AnalysisOnly,
            safety_mode: SafetyMode::Normal,
            review: Review::Always,
            validators: Vec::new(),
        }
    }
}

/// Type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    /// Text.
    String,
    /// Whole number.
    Integer,
    /// Number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// List of anything.
    List,
    /// Map of anything.
    Object,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Type.
    #[serde(rename = "type")]
    pub kind: InputType,
    /// Value when none is given; without one the input is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// One host folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    /// Folder; relative to where the command runs. May hold `${inputs.…}`.
    pub path: String,
    /// Reading or writing.
    pub access: MountAccess,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// Runs a plugin: `id`, `id@0.1` or `id@0.1.0`. A step has this or one of the next four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<String>,
    /// Asks people, and waits for their answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalSpec>,
    /// Waits for a length of time such as `1h`; may hold `${…}` expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<String>,
    /// Waits until a moment such as `2026-01-31T08:00:00Z`; may hold `${…}` expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_until: Option<String>,
    /// Runs a workflow of `workflows`, as a job of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Steps that must end first, besides those that its expressions name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<StepId>,
    /// Runs only when this CEL expression is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Runs once for each item of this CEL expression's list; `item` and `index` are its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<String>,
    /// How many items run at the same time; 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_parallel: Option<u32>,
    /// Input: values with `${…}` expressions. A string that is one expression keeps its type.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<Value>,
    /// Capabilities that the step may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<CapabilityId>,
    /// What happens after a failure that may pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What happens to it when the host was lost while it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Confirms what its plugin says of itself: that running it twice does no harm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// Wall time of one attempt; the plugin's own limit holds too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

/// What happens to a step whose host was lost while it ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// It runs again if the record shows that it had no effect, or if its plugin and the step say that running it
    /// twice does no harm. Otherwise a person decides.
    #[default]
    Auto,
    /// A person decides.
    Manual,
    /// It runs again.
    Always,
}

/// How a step is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first included; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// How waits grow.
    #[serde(default)]
    pub backoff: Backoff,
    /// First wait.
    #[serde(default = "Retry::initial_default")]
    pub initial: Period,
    /// Longest wait.
    #[serde(default = "Retry::max_default")]
    pub max: Period,
}

impl Retry {
    fn initial_default() -> Period {
        Period(Duration::from_secs(1))
    }
    fn max_default() -> Period {
        Period(Duration::from_secs(60))
    }
}

/// How waits grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Always the first wait.
    Constant,
    /// Doubled each time.
    #[default]
    Exponential,
}

/// A length of time, written as `500ms`, `1s`, `5m` or `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| format!("`{text}` is not a length of time such as `500ms`, `1s`, `5m` or `24h`: {error}"))
    }
}

impl schemars::JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a length of time such as 500ms, 1s, 5m or 24h" })
    }
}

#[cfg(test)]
#[path = "workflow_tests.rs"]
mod tests;
