//! The domain of Handshake: jobs, workflows, capabilities, events, the gate, and the ports that the other
//! crates implement.
//!
//! Nothing here performs I/O or knows an async runtime. Time, ids and randomness come in through [`Clock`]
//! and [`Ids`].

mod canonical;
mod clock;
mod digest;
mod id;
mod json;

pub mod approval;
pub mod artifact;
pub mod budget;
pub mod capability;
pub mod chain;
pub mod content;
pub mod credential;
pub mod docs_profile;
pub mod document;
pub mod edit;
pub mod event;
pub mod gate;
pub mod job;
pub mod manifest;
pub mod model;
pub mod mount;
pub mod node;
pub mod recorder;
mod redaction;
pub mod run;
pub mod secret;
pub mod step;
pub mod storage;
pub mod terminal;
pub mod testing;
pub mod token;
pub mod trigger;
pub mod workflow;

pub use clock::{Clock, Timestamp};
pub use digest::Digest;
pub use id::{
    ApprovalId, BlockId, BundleId, CanvasEdgeId, CanvasId, CanvasNodeId, DiagnosticId, DocumentId, EventId, GrantId,
    HostId, Ids, InvalidName, JobId, PluginId, ProfileId, ReportId, RunId, SessionId, SpanId, StepId, TokenId, TraceId,
    TriggerId, TriggerName, WorkspaceId,
};
pub use json::Json;
