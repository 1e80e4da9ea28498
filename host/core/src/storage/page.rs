//! Pages of lists.

use serde::{Deserialize, Serialize};

/// Which part of a list to read. Lists are newest first by creation, then by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Page<Id> {
    /// At most so many; 0 means 50, and 1,000 is the most.
    pub limit: u32,
    /// Continues behind this one.
    pub after: Option<Id>,
}

impl<Id> Default for Page<Id> {
    fn default() -> Self {
        Self { limit: 0, after: None }
    }
}

impl<Id> Page<Id> {
    /// How many that is.
    pub fn size(&self) -> u32 {
        match self.limit {
            0 => 50,
            limit => limit.min(1_000),
        }
    }
}
