//! The envelope that all events share (R6.2).

use serde::{Deserialize, Serialize};

use super::{Actor, EventBody};
use crate::{EventId, JobId, RunId, SpanId, StepId, Timestamp, TraceId};

/// One event with its envelope (R6.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// Never nil.
    pub event_id: EventId,
    /// Never nil.
    pub trace_id: TraceId,
    /// When it happened. One that lies ahead of the recorder's clock is replaced by that: see `normalised`.
    pub timestamp: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// The job.
    pub job_id: Option<JobId>,
    /// The run.
    pub workflow_run_id: Option<RunId>,
    /// The step.
    pub step_id: Option<StepId>,
    /// The model.
    pub model_id: Option<String>,
    /// The span it happened in.
    pub activity_span_id: Option<SpanId>,
    /// The session's span.
    pub session_span_id: Option<SpanId>,
    /// The capability.
    pub capability_id: Option<String>,
    /// The decision that led to it.
    pub policy_decision_id: Option<EventId>,
    /// Workspaces.
    pub wsids: Vec<String>,
    /// Type and payload.
    #[serde(flatten)]
    pub body: EventBody,
}

impl Event {
    /// An event with an otherwise empty envelope.
    pub fn new(event_id: EventId, trace_id: TraceId, timestamp: Timestamp, actor: Actor, body: EventBody) -> Self {
        Self {
            event_id,
            trace_id,
            timestamp,
            actor,
            job_id: None,
            workflow_run_id: None,
            step_id: None,
            model_id: None,
            activity_span_id: None,
            session_span_id: None,
            capability_id: None,
            policy_decision_id: None,
            wsids: Vec::new(),
            body,
        }
    }
}

/// What was done to one field of an event before it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FieldNote {
    /// Where, for example `payload.resource` or `wsids[1]`.
    pub field: String,
    /// The rule: of a redaction its detector, else see `normalised`.
    pub rule: String,
}

/// An event as it is stored. Readers must pass over fields that they do not know: later versions add some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StoredEvent {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// Which fields held secrets, and which rules found them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redactions: Vec<FieldNote>,
    /// How many more there are than that list names; it names at most 64.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redactions_omitted: u64,
    /// Which fields are not what they were given as: `truncated`, `nul` (U+0000 became U+2400), `label` (characters
    /// that no label has became `_`), `time` (a timestamp that lay ahead or had no RFC 3339 form is that of recording).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalised: Vec<FieldNote>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
