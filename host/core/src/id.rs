//! Ids as types. Raw UUIDs and strings stop at the edges.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where ids and randomness come from. The process has one; tests make them predictable.
pub trait Ids: Send + Sync {
    /// A fresh UUID, unique and ordered by time (version 7).
    fn uuid(&self) -> Uuid;
    /// Fills the buffer with cryptographically strong random bytes.
    fn random(&self, buffer: &mut [u8]);
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": "uuid" })
            }
        }

        impl $name {
            /// Draws a fresh one.
            pub fn fresh(ids: &dyn Ids) -> Self {
                Self(ids.uuid())
            }
            /// Wraps an existing UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
            /// The UUID inside.
            pub const fn uuid(&self) -> Uuid {
                self.0
            }
            /// Whether it is the nil UUID, which no record may carry.
            pub const fn is_nil(&self) -> bool {
                self.0.is_nil()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

uuid_id! {
    /// A job; survives retries.
    JobId,
    /// One execution of a job's workflow.
    RunId,
    /// A trace: every event of a job carries the same one.
    TraceId,
    /// One event in the flight recorder.
    EventId,
    /// One host's data directory, the owner of one chain of events.
    HostId,
    /// A span within a trace.
    SpanId,
    /// One report of the janitor.
    ReportId,
    /// A session in a terminal.
    SessionId,
    /// A diagnostic.
    DiagnosticId,
    /// A bundle for the search of faults.
    BundleId,
    /// A workspace: what documents and canvases belong to.
    WorkspaceId,
    /// A document.
    DocumentId,
    /// A block of a document.
    BlockId,
    /// A canvas.
    CanvasId,
    /// A node of a canvas.
    CanvasNodeId,
    /// An edge between two nodes of a canvas.
    CanvasEdgeId,
    /// A question to people on which a run waits.
    ApprovalId,
    /// What runs a workflow at certain times.
    TriggerId,
    /// A person's yes to what a rule wants asked.
    GrantId,
    /// A token of the API.
    TokenId,
}

impl TraceId {
    /// The 32 hexadecimal digits that W3C trace context uses.
    pub fn w3c(&self) -> String {
        self.0.simple().to_string()
    }
}

impl SpanId {
    /// The 16 hexadecimal digits that W3C trace context uses, of [`SpanId::w3c_bytes`].
    pub fn w3c(&self) -> Option<String> {
        self.w3c_bytes().map(|bytes| format!("{:016x}", u64::from_be_bytes(bytes)))
    }

    /// The eight bytes that W3C trace context and OpenTelemetry use: the second half of the id, which is the random
    /// one. None when they are all zero, which those standards do not allow.
    pub fn w3c_bytes(&self) -> Option<[u8; 8]> {
        let (_, half) = self.0.as_u64_pair();
        (half != 0).then(|| half.to_be_bytes())
    }
}

/// A name that is not of the form its kind asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a valid {kind}: it must match `{pattern}`")]
pub struct InvalidName {
    kind: &'static str,
    pattern: &'static str,
    name: String,
}

macro_rules! name_id {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $pattern:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Takes a name of the form `", $pattern, "`.")]
            pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
                let name = name.into();
                let valid = (1..=64).contains(&name.len())
                    && !name.starts_with('-')
                    && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || (b == b'_' && $pattern.contains('_')));
                if valid { Ok(Self(name)) } else { Err(InvalidName { kind: $kind, pattern: $pattern, name }) }
            }
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": concat!("^", $pattern, "$") })
            }
        }
    )*};
}

name_id! {
    /// A plugin.
    PluginId, "plugin id", "[a-z0-9][a-z0-9-]{0,63}",
    /// A step of a workflow, as its file names it. Expressions write `steps.read` or `steps["sign-off"]`.
    StepId, "step id", "[a-z0-9][a-z0-9_-]{0,63}",
    /// A capability profile.
    ProfileId, "profile id", "[a-z0-9][a-z0-9-]{0,63}",
    /// The name of a trigger, as people type it.
    TriggerName, "name of a trigger", "[a-z0-9][a-z0-9_-]{0,63}",
}

impl ProfileId {
    /// The profile of jobs that name none.
    pub fn analyst() -> Self {
        Self("analyst".to_owned())
    }
}
