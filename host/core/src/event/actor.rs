//! Who did something.

use serde::{Deserialize, Serialize};

use crate::job::canonical_enum;

canonical_enum! {
    /// Who did it.
    ActorKind, "actor kind" {
        /// A person.
        Human = "human",
        /// A plugin.
        Agent = "agent",
        /// The host.
        System = "system",
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Actor {
    /// Kind.
    pub kind: ActorKind,
    /// Plugin id and version, a person's name, or the host's component; never empty.
    pub id: String,
}

impl Actor {
    /// The host itself.
    pub fn system() -> Self {
        Self { kind: ActorKind::System, id: "handshake".into() }
    }
}
