//! What a step does: it runs a plugin, asks people, waits, or runs another workflow.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Budget, InputSpec, JobSpec, Map, MountSpec, Period, Recovery, Step, Workflow};

/// What a step does. A step says exactly one of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action<'a> {
    /// Runs a plugin: `id`, `id@0.1` or `id@0.1.0`.
    Plugin(&'a str),
    /// Asks people.
    Approval(&'a ApprovalSpec),
    /// Waits for a length of time.
    Sleep(&'a str),
    /// Waits until a moment.
    SleepUntil(&'a str),
    /// Runs one of the file's other workflows, as a job of its own.
    Workflow(&'a str),
}

impl Action<'_> {
    /// The keys, in the order in which messages name them.
    pub const KEYS: [&'static str; 5] = ["uses", "approval", "sleep", "sleep_until", "workflow"];

    /// The key that says it.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Plugin(_) => "uses",
            Self::Approval(_) => "approval",
            Self::Sleep(_) => "sleep",
            Self::SleepUntil(_) => "sleep_until",
            Self::Workflow(_) => "workflow",
        }
    }
}

impl Step {
    /// Everything that the step says it does; exactly one in a workflow that was checked.
    pub fn actions(&self) -> Vec<Action<'_>> {
        [
            self.uses.as_deref().map(Action::Plugin),
            self.approval.as_ref().map(Action::Approval),
            self.sleep.as_deref().map(Action::Sleep),
            self.sleep_until.as_deref().map(Action::SleepUntil),
            self.workflow.as_deref().map(Action::Workflow),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The plugin that it runs, if it runs one.
    pub fn plugin(&self) -> Option<&str> {
        self.uses.as_deref()
    }
}

/// A question to people.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApprovalSpec {
    /// Who may answer: a name or several; everybody when nobody is named.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "OneOrMany")]
    pub by: BTreeSet<String>,
    /// How many must say yes; 1 by default. A single no is a no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// What is asked; may hold `${…}` expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// How long people have; for ever when it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Period>,
    /// What its silence means then.
    pub on_expiry: OnExpiry,
}

/// What happens when nobody has answered in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    /// The step fails, as after a no.
    #[default]
    Reject,
    /// The run goes on, as after a yes.
    Approve,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(BTreeSet<String>),
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(name) => BTreeSet::from([name]),
        OneOrMany::Many(names) => names,
    })
}

/// A workflow that steps of this file run. It shares the file's job, mounts and other workflows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChildWorkflow {
    /// Inputs, given in `with` of the step that runs it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<InputSpec>,
    /// What happens to steps that a lost host was executing; by default as the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// How much each run of it may spend of what the file's own budget leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Outputs, which become the output of the step.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub outputs: Map<serde_json::Value>,
}

impl Workflow {
    /// One of the file's other workflows as a workflow of its own, with these mounts. What it proposes is for the
    /// validators of the job that it is part of.
    pub fn child(&self, name: &str, mounts: Map<MountSpec>) -> Option<Self> {
        let child = self.workflows.get(name)?;
        Some(Self {
            name: format!("{}/{name}", self.name),
            job: JobSpec { validators: Vec::new(), ..self.job.clone() },
            inputs: child.inputs.clone(),
            mounts,
            recovery: child.recovery.or(self.recovery),
            budget: child.budget.clone(),
            steps: child.steps.clone(),
            outputs: child.outputs.clone(),
            workflows: self.workflows.clone(),
            trigger: None,
        })
    }
}
