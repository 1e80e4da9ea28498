//! The flight recorder: what may be written ([`Redaction`]), how it gets into the outbox ([`Recorder`]), and
//! where reviewers look it up ([`Projection`], a DuckDB file).
//!
//! DuckDB holds nothing of its own: the file is a projection of the outbox and can be rebuilt from it at any
//! time. This is the only crate that knows DuckDB, and no public signature shows it.

mod export;
mod projection;
mod recorder;
mod redaction;
mod trace;

#[cfg(test)]
mod memory_outbox;

pub use export::{ExportError, ParquetFile};
pub use projection::{EventPage, EventQuery, MatrixQuery, MatrixRow, Projection, ProjectionStatus, RecordedEvent};
pub use recorder::Recorder;
pub use redaction::{Redaction, SHORTEST_EXACT};
pub use trace::{TraceNode, TraceNodeKind, TraceTree};
