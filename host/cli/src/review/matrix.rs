//! Plugin by capability: what was declared, what was granted, what was used, and what was tried all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use handshake_core::capability::{Axis, CapabilityId, Resource};
use handshake_core::event::Outcome;
use handshake_core::{Digest, HostId, RunId};
use handshake_recorder::{MatrixQuery, MatrixRow, ResourceUse};
use serde::{Deserialize, Serialize};

use super::rights::{self, StoredRun};
use crate::error::CliError;
use crate::host::HostState;

/// Who asked for what, beside what was allowed.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Matrix {
    /// By plugin, then capability.
    pub(crate) rows: Vec<MatrixLine>,
    /// How many runs it is about.
    pub(crate) runs: u64,
    /// Whether there are more runs, whose declarations and grants are not in it.
    pub(crate) more_runs: bool,
    /// Whether it was looked for what is new. Not over everything, and not in more than 50,000 allowed calls.
    pub(crate) new_is_known: bool,
    /// Of a run or a job: other hosts that executed parts of it, on whose records it is what those asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) elsewhere: Vec<HostId>,
}

/// One plugin and one axis.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct MatrixLine {
    /// Decisions in numbers.
    #[serde(flatten)]
    pub(crate) row: MatrixRow,
    /// What the manifests declare.
    pub(crate) declared: Vec<String>,
    /// What steps grant.
    pub(crate) granted: Vec<String>,
    /// Grants that nothing which was allowed has needed. Of a run or a job each grant is looked at, otherwise a
    /// capability is unused when nothing of it was allowed at all.
    pub(crate) unused_grants: Vec<String>,
    /// Resources that the plugin, of whichever version, was let at for the first time; the first 20. Only of a run, a
    /// job or a time.
    pub(crate) new_resources: Vec<String>,
    /// How many.
    pub(crate) new_resources_total: u64,
}

impl MatrixLine {
    fn of(plugin: &str, capability: &str) -> Self {
        let row = MatrixRow {
            plugin: plugin.to_owned(),
            capability: capability.to_owned(),
            allowed: 0,
            denied: 0,
            would_deny: 0,
            denied_reasons: BTreeMap::new(),
        };
        let none = Vec::new;
        let (declared, granted, unused_grants, new_resources) = (none(), none(), none(), none());
        Self { row, declared, granted, unused_grants, new_resources, new_resources_total: 0 }
    }
}

/// Ids by plugin label and axis.
#[derive(Default)]
struct Allowances {
    declared: BTreeMap<(String, Axis), BTreeSet<String>>,
    granted: BTreeMap<(String, Axis), BTreeSet<String>>,
}

/// Puts the matrix together.
pub(crate) async fn matrix(host: &HostState, query: &MatrixQuery) -> Result<Matrix, CliError> {
    let projection = host.projection().await?;
    let counted = projection.matrix(query).await?;
    let (runs, more_runs) = runs_of(host, query).await?;
    let allowances = allowances(host, query, &runs).await?;

    let mut lines: BTreeMap<(String, String), MatrixLine> = BTreeMap::new();
    let of = |key: &(String, Axis)| (key.0.clone(), key.1.name().to_owned());
    for row in counted {
        let key = (row.plugin.clone(), row.capability.clone());
        let line = MatrixLine { row, ..MatrixLine::of(&key.0, &key.1) };
        lines.insert(key, line);
    }
    for (key, ids) in allowances.declared {
        let key = of(&key);
        lines.entry(key.clone()).or_insert_with(|| MatrixLine::of(&key.0, &key.1)).declared = ids.into_iter().collect();
    }
    for (key, ids) in allowances.granted {
        let key = of(&key);
        lines.entry(key.clone()).or_insert_with(|| MatrixLine::of(&key.0, &key.1)).granted = ids.into_iter().collect();
    }
    let is_whole = query.run_id.is_none() && query.job_id.is_none();
    let used = if is_whole { Vec::new() } else { projection.resources(query).await? };
    for line in lines.values_mut() {
        let needed = |grant: &String| match is_whole {
            true => line.row.allowed > 0,
            false => used.iter().any(|used| needs(grant, used, &line.row)),
        };
        line.unused_grants = line.granted.iter().filter(|grant| !needed(grant)).cloned().collect();
    }
    let limited = !is_whole || query.since.is_some();
    let new = if limited { projection.new_resources(query).await? } else { None };
    let new_is_known = new.is_some();
    for new in new.into_iter().flatten() {
        if let Some(line) = lines.get_mut(&(new.actor, new.capability)) {
            (line.new_resources, line.new_resources_total) = (new.resources, new.count);
        }
    }
    let elsewhere = if is_whole { Vec::new() } else { super::elsewhere(host, &runs).await? };
    Ok(Matrix { rows: lines.into_values().collect(), runs: runs.len() as u64, more_runs, new_is_known, elsewhere })
}

/// Whether a call that was allowed is one that the grant covers.
fn needs(grant: &str, used: &ResourceUse, row: &MatrixRow) -> bool {
    used.outcome == Outcome::Allow
        && (&used.actor, &used.capability) == (&row.plugin, &row.capability)
        && covers(grant, &used.resource)
}

/// Whether an id covers a resource that was allowed, as the record shows it. What is not shown whole counts as covered.
pub(super) fn covers(id: &str, resource: &str) -> bool {
    let Ok(id) = CapabilityId::from_str(id) else { return false };
    // What was allowed was a path inside a mount.
    match Resource::from_record(id.axis(), resource, Some("")) {
        Some(resource) => id.covers(id.axis(), &resource),
        None => true,
    }
}

/// The runs that a query is about, even if nothing was decided in them.
async fn runs_of(host: &HostState, query: &MatrixQuery) -> Result<(Vec<RunId>, bool), CliError> {
    if let Some(run) = query.run_id {
        return Ok((vec![host.database.run(run).await?.run_id], false));
    }
    if let Some(job) = query.job_id {
        host.database.job(job).await?;
        let runs = host.database.runs_of(job).await?;
        return Ok((runs.into_iter().map(|run| run.run_id).collect(), false));
    }
    Ok(host.projection().await?.runs(query).await?)
}

async fn allowances(host: &HostState, query: &MatrixQuery, runs: &[RunId]) -> Result<Allowances, CliError> {
    let mut allowances = Allowances::default();
    // Runs of one workflow with the same plugins allow the same.
    let mut seen: BTreeSet<(Digest, String, Vec<Digest>)> = BTreeSet::new();
    for run in runs {
        let run = match host.database.run(*run).await {
            Ok(run) => run,
            // Its job was deleted meanwhile; the decisions are on record all the same.
            Err(handshake_core::storage::StorageError::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let name = run.workflow["name"].as_str().unwrap_or_default().to_owned();
        let manifests = run.pinned.plugins.values().map(|pinned| pinned.manifest).collect();
        if !seen.insert((run.pinned.workflow, name, manifests)) {
            continue;
        }
        let job = host.database.job(run.job_id).await?;
        let steps = handshake_engine::steps_of(&run)?;
        allowances.add(host, query, &StoredRun { run, job, steps });
    }
    Ok(allowances)
}

impl Allowances {
    fn add(&mut self, host: &HostState, query: &MatrixQuery, stored: &StoredRun) {
        for step in &stored.steps {
            let Some((label, digest)) = step.plugin().and_then(|uses| stored.pinned(uses)) else { continue };
            let wanted = |plugin: &str| plugin == label || label.split('@').next() == Some(plugin);
            if query.plugin.as_deref().is_some_and(|plugin| !wanted(plugin)) {
                continue;
            }
            let note = |ids: &mut BTreeMap<(String, Axis), BTreeSet<String>>, id: &CapabilityId| {
                ids.entry((label.to_owned(), id.axis())).or_default().insert(id.to_string());
            };
            step.grants.iter().for_each(|grant| note(&mut self.granted, grant));
            if let Some((manifest, _)) = rights::manifest(host, digest) {
                manifest.capabilities.iter().for_each(|declared| note(&mut self.declared, &declared.id));
            }
        }
    }
}
