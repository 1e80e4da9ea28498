//! What two runs, or two versions of a plugin, asked for differently.

use std::collections::BTreeMap;

use handshake_core::RunId;
use handshake_core::event::Outcome;
use handshake_recorder::{MatrixQuery, ResourceUse};
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::host::HostState;

/// What to compare: ids of runs, or plugins with their versions.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffRequest {
    /// The one.
    pub(crate) a: String,
    /// The other.
    pub(crate) b: String,
}

/// The differences.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Diff {
    /// The one, as it was named.
    pub(crate) a: String,
    /// The other.
    pub(crate) b: String,
    /// What is not the same in both, by plugin, capability and resource.
    pub(crate) differences: Vec<Difference>,
    /// How many resources were asked for, and treated, in the same way.
    pub(crate) same: u64,
}

/// What one plugin asked for of one resource.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Difference {
    /// The plugin, without version.
    pub(crate) plugin: String,
    /// The capability.
    pub(crate) capability: String,
    /// The resource.
    pub(crate) resource: String,
    /// In the one; none when it did not ask.
    pub(crate) a: Option<Asked>,
    /// In the other.
    pub(crate) b: Option<Asked>,
}

/// How often, and what was said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Asked {
    /// Allowed calls.
    pub(crate) allowed: u64,
    /// Denied calls.
    pub(crate) denied: u64,
}

impl Asked {
    /// How often something is done depends on the data; what is done and what is refused does not.
    fn is_like(&self, other: &Self) -> bool {
        (self.allowed > 0, self.denied > 0) == (other.allowed > 0, other.denied > 0)
    }
}

type Uses = BTreeMap<(String, String, String), Asked>;

/// Compares.
pub(crate) async fn diff(host: &HostState, request: DiffRequest) -> Result<Diff, CliError> {
    let (one, other) = (side(host, &request.a).await?, side(host, &request.b).await?);
    let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
    keys.sort();
    keys.dedup();
    let (mut differences, mut same) = (Vec::new(), 0);
    for key in keys {
        let (a, b) = (one.get(key).cloned(), other.get(key).cloned());
        if a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a.is_like(b)) {
            same += 1;
            continue;
        }
        let (plugin, capability, resource) = key.clone();
        differences.push(Difference { plugin, capability, resource, a, b });
    }
    Ok(Diff { a: request.a, b: request.b, differences, same })
}

async fn side(host: &HostState, text: &str) -> Result<Uses, CliError> {
    let query = match text.parse::<RunId>() {
        Ok(run) => {
            let run_id = host.database.run(run).await?.run_id;
            super::require_whole(host, run_id).await?;
            MatrixQuery { run_id: Some(run_id), ..MatrixQuery::default() }
        }
        Err(_) if text.contains('@') => MatrixQuery { plugin: Some(text.to_owned()), ..MatrixQuery::default() },
        Err(_) => {
            return Err(CliError::usage(format!("`{text}` is neither the id of a run nor a plugin with its version"))
                .hint("write ids of runs, or plugins as records show them: id@0.1.0"));
        }
    };
    let found = host.projection().await?.resources(&query).await?;
    if found.is_empty() && query.plugin.is_some() {
        return Err(CliError::not_found(format!("nothing is on record of `{text}`"))
            .hint("handshake audit matrix shows plugins with their versions"));
    }
    let mut uses = Uses::new();
    for used in found {
        let ResourceUse { actor, capability, resource, outcome, count, .. } = used;
        let plugin = actor.split('@').next().unwrap_or(&actor).to_owned();
        let asked = uses.entry((plugin, capability, resource)).or_default();
        match outcome {
            Outcome::Allow => asked.allowed += count,
            Outcome::Deny => asked.denied += count,
        }
    }
    Ok(uses)
}
