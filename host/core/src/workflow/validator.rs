//! Plugins that look at what a job proposes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Map, Step};
use crate::StepId;
use crate::capability::CapabilityId;

/// A plugin that looks at all proposals of a job once its steps are done, and lets them pass or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidatorSpec {
    /// The plugin: `id`, `id@0.1` or `id@0.1.0`.
    pub uses: String,
    /// What it is given besides the proposals; may hold `${…}` expressions.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<Value>,
    /// Capabilities that it may use; never `doc.propose`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<CapabilityId>,
}

impl ValidatorSpec {
    /// The step that runs it, with an id that no step of a file has.
    pub fn step(&self, id: StepId) -> Step {
        Step {
            id,
            uses: Some(self.uses.clone()),
            approval: None,
            sleep: None,
            sleep_until: None,
            workflow: None,
            needs: Vec::new(),
            when: None,
            for_each: None,
            max_parallel: None,
            with: self.with.clone(),
            grants: self.grants.clone(),
            retry: None,
            recovery: None,
            idempotent: false,
            timeout: None,
        }
    }
}
