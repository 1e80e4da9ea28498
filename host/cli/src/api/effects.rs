//! What a job's steps were permitted to do, for who has to say whether it goes on.

use std::collections::{BTreeMap, BTreeSet};

use handshake_core::storage::StorageError;
use handshake_core::{RunId, StepId};
use serde::{Deserialize, Serialize};

use crate::host::HostState;

/// Different effects that are told.
const MOST_EFFECTS: usize = 100;

/// What a step was permitted to do, however often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct PermittedEffect {
    /// The step.
    pub(crate) step_id: StepId,
    /// The capability.
    pub(crate) capability: String,
    /// On what.
    pub(crate) resource: String,
    /// How often, in all attempts and for all items of a list.
    pub(crate) count: u64,
}

/// The effects of some runs, in the order of the first of each, and how many different ones were left out.
pub(crate) async fn of_runs(
    host: &HostState,
    runs: BTreeSet<RunId>,
) -> Result<(Vec<PermittedEffect>, usize), StorageError> {
    let mut told: Vec<PermittedEffect> = Vec::new();
    let mut places: BTreeMap<(StepId, String, String), usize> = BTreeMap::new();
    for run in runs {
        for note in host.database.effects(run).await? {
            let key = (note.step.clone(), note.capability.clone(), note.resource.clone());
            let place = *places.entry(key).or_insert_with(|| {
                let (step_id, capability, resource) = (note.step, note.capability, note.resource);
                told.push(PermittedEffect { step_id, capability, resource, count: 0 });
                told.len() - 1
            });
            told[place].count += 1;
        }
    }
    let omitted = told.len().saturating_sub(MOST_EFFECTS);
    told.truncate(MOST_EFFECTS);
    Ok((told, omitted))
}
