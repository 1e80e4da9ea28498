//! The flight recorder: what may be written ([`Redaction`]), how it gets into the outbox ([`Recorder`]), and
//! where reviewers look it up ([`Projection`], a DuckDB file).
//!
//! DuckDB holds nothing of its own: the file is a projection of the sealed segments and the outbox, and can be rebuilt
//! from them at any time. This is the only crate that knows DuckDB, and no public signature shows it.

mod disk;
mod export;
mod gap;
pub mod head;
mod keeper;
mod log;
mod projection;
mod recorder;
mod redaction;
mod retention;
mod segments;
mod sign_off;
pub mod signing;
mod sql;
mod trace;
mod verify;

#[cfg(test)]
mod memory_outbox;

pub use export::{ExportError, ParquetFile};
pub use keeper::{Keeper, KeeperError, KeeperPolicy, KeeperServices, KeeperStatus, SealReport};
pub use log::RecordLog;
pub use projection::{
    Compaction, DecisionLine, EventPage, EventQuery, Gap, MatrixQuery, MatrixRow, ModelUse, NewResources, Probe,
    Projection, ProjectionOptions, ProjectionStatus, Rebuilt, RecordedEvent, ResourceUse, probe_file,
};
pub use recorder::Recorder;
pub use redaction::{Redaction, SHORTEST_EXACT};
pub use segments::{Archive, ArchiveError, Manifest, Tombstone};
pub use sign_off::{KeptStatement, SignOffStatement};
pub use sql::{QueryColumn, QueryLine, QueryProblem, QueryRequest, RecordCopy, VIEWS, View, ViewColumn, run_query};
pub use trace::{TraceNode, TraceNodeKind, TraceTree};
pub use verify::{Finding, Proof, ProofError, Proved, Verification, check_proof};
