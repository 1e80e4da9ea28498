//! How much a job may spend, as workflow files say it.

use serde::{Deserialize, Serialize};

use super::Period;

/// How much a job may spend in one run, the workflows that its steps run included. What is not said is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Tokens of models, of requests and answers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tokens: Option<u64>,
    /// Calls of models, those that fail included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub model_calls: Option<u64>,
    /// Time that a host executes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall: Option<Period>,
    /// Attempts of steps that run plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// KiB of results of such steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub output_kb: Option<u64>,
    /// What happens when one of them is used up.
    #[serde(skip_serializing_if = "OnExceeded::is_default")]
    pub on_exceeded: OnExceeded,
}

/// What happens when a budget is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExceeded {
    /// The job fails.
    #[default]
    Fail,
    /// It waits for a person, who grants the budget once more by resuming it.
    Ask,
}

impl OnExceeded {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Budget {
    /// The keys that allow nothing at all, with which no job could do anything.
    pub fn zeros(&self) -> Vec<&'static str> {
        let keys = [
            ("tokens", self.tokens == Some(0)),
            ("model_calls", self.model_calls == Some(0)),
            ("wall", self.wall.is_some_and(|wall| wall.0.is_zero())),
            ("steps", self.steps == Some(0)),
            ("output_kb", self.output_kb == Some(0)),
        ];
        keys.into_iter().filter(|(_, zero)| *zero).map(|(key, _)| key).collect()
    }
}
