//! What the host has credentials for, as far as it can be told without using them.

use std::collections::BTreeMap;

/// Why something that is named cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What is wrong; never a credential.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// The models and secrets of the host's configuration by name, each with the reason why it cannot be used, if it
/// cannot. What is not there is not configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Models.
    pub models: BTreeMap<String, Option<Unusable>>,
    /// Secrets.
    pub secrets: BTreeMap<String, Option<Unusable>>,
}
