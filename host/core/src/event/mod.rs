//! Events of the flight recorder: the envelope (R6.2), the typed bodies (R6.3), and admission.
//!
//! An [`Event`] cannot be stored. Only an [`AdmittedEvent`] can, and the one way to get it is through validation
//! and redaction; so nothing unvalidated or secret reaches a disk.

mod actor;
mod body;
mod envelope;

mod content;
mod decision;
mod operation;
mod oversight;

mod admission;
mod normal;
mod rules;
mod schema;

pub use actor::{Actor, ActorKind};
pub use admission::{AdmittedEvent, DueEvent, InvalidEvent};
pub use body::{EventBody, EventType};
pub use content::{EditorEdit, EditorOperation, MutationRecord};
pub use decision::{DecisionRecord, Outcome, OutcomeRecord, SimulationRecord};
pub use envelope::{Event, FieldNote, StoredEvent};
pub use operation::{
    BundleScope, DebugBundleExport, Diagnostic, Gap, GapReason, RedactionMode, Severity, TerminalCommand,
};
pub use oversight::{AuthRefusal, GrantNote, Judgement, PolicyChange, SignOff};
pub use schema::{EVENTS_VERSION, events_schema};

pub use crate::redaction::{RedactionScope, Redactor};

#[cfg(test)]
mod tests;
