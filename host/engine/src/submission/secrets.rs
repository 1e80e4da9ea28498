//! Inputs that look like secrets: refused or warned about, as the job's safety mode says. Inputs are stored exactly, so
//! a secret among them would lie in the database for as long as its job.

use handshake_core::job::SafetyMode;
use handshake_core::secret::SecretFinding;
use serde_json::Value;

use crate::engine::EngineServices;

/// What to do with a secret that a step needs.
const INSTEAD: &str =
    "name the secret in [secrets] of handshake.toml and grant `secrets.use:NAME`: the step gets a placeholder then";

/// Inputs that look like secrets. Neither the message nor anything else holds their values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; the job's safety mode is `strict`, so nothing was stored", listed(.0))]
pub struct SecretInputs(Vec<SecretFinding>);

impl SecretInputs {
    /// What to do about them.
    pub fn hint(&self) -> String {
        format!("{INSTEAD}; if it is none, write `safety_mode: normal` under `job`")
    }
}

/// Looks through the inputs of a job. What a person should know, unless the safety mode refuses it.
pub(super) fn look(services: &EngineServices, mode: SafetyMode, inputs: &Value) -> Result<Vec<String>, SecretInputs> {
    let found = services.safeguards.scanner.as_ref().map_or_else(Vec::new, |scanner| scanner.secrets(inputs));
    match mode {
        SafetyMode::Strict if !found.is_empty() => Err(SecretInputs(found)),
        SafetyMode::Strict | SafetyMode::Normal | SafetyMode::Experimental => {
            let warning = |found: &SecretFinding| format!("{}, and is stored with the job; {INSTEAD}", told(found));
            Ok(found.iter().map(warning).collect())
        }
    }
}

fn told(found: &SecretFinding) -> String {
    format!("input `{}` looks like a secret (`{}`)", found.path, found.detector)
}

fn listed(found: &[SecretFinding]) -> String {
    found.iter().map(told).collect::<Vec<_>>().join(", ")
}
