//! Events of the flight recorder: the envelope (R6.2), the typed bodies (R6.3), and admission.
//!
//! An [`Event`] cannot be stored. Only an [`AdmittedEvent`] can, and the one way to get it is through validation
//! and redaction; so nothing unvalidated or secret reaches a disk.

use serde::{Deserialize, Serialize};

use crate::capability::{DenialLabel, Layer, Mode, SourceRef};
use crate::content::ContentKind;
use crate::edit::{EditAction, EditMetadata};
use crate::job::{JobState, canonical_enum};
use crate::model::TokenUsage;
use crate::redaction::redact_event;
pub use crate::redaction::{RedactionScope, Redactor};
use crate::run::RunState;
use crate::{ApprovalId, Digest, EventId, JobId, ReportId, RunId, SpanId, StepId, Timestamp, TraceId};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

canonical_enum! {
    /// What the gate decided.
    Outcome, "decision outcome" {
        /// Allowed.
        Allow = "allow",
        /// Denied.
        Deny = "deny",
    }
}

/// Body of `capability_action`: one decision, written before its effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Same as the envelope's, in the place where R6.3 asks for it.
    pub capability_id: String,
    /// Same as the envelope's actor.
    pub actor_id: String,
    /// Same as the envelope's.
    pub job_id: Option<JobId>,
    /// Allow or deny.
    pub decision_outcome: Outcome,
    /// Position within `for_each`.
    pub index: Option<u32>,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Number of the call within the attempt, from 1.
    pub call: u64,
    /// SHA-256 of the component; none for a person at the command line.
    pub component_sha256: Option<Digest>,
    /// WIT interface, for example `handshake:step/models@0.1.0`.
    pub interface: String,
    /// WIT function.
    pub function: String,
    /// The resource in canonical form.
    pub resource: String,
    /// The host folder behind it, for paths.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host_path: Option<String>,
    /// Why it was denied; none when allowed.
    pub reason: Option<DenialLabel>,
    /// The layer that decided.
    pub layer: Layer,
    /// The policy rule that decided.
    pub rule: Option<SourceRef>,
    /// Enforce or observe.
    pub mode: Mode,
    /// Whether the policy would have denied what observe mode let pass.
    pub would_deny: bool,
    /// SHA-256 of the policy.
    pub policy_sha256: Digest,
    /// SHA-256 of the manifest.
    pub manifest_sha256: Digest,
    /// SHA-256 over the call's arguments.
    pub arguments_sha256: Digest,
    /// How long the decision took, nanoseconds.
    pub evaluation_ns: u64,
}

/// Body of `capability_outcome`: what became of an allowed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// Event id of the decision.
    pub decision: EventId,
    /// Same as the decision's.
    pub capability_id: String,
    /// Number of the call within the attempt.
    pub call: u64,
    /// `ok`, an error label, or `abandoned`.
    pub result: String,
    /// Bytes that went into the guest.
    pub bytes_in: u64,
    /// Bytes that came out of it.
    pub bytes_out: u64,
    /// From the decision to the end, microseconds.
    pub duration_us: u64,
}

/// Body of `content_mutation`: one change of content, on record in the transaction that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutationRecord {
    /// What kind of content.
    pub entity: ContentKind,
    /// Which.
    pub entity_id: String,
    /// What was done to it.
    pub action: EditAction,
    /// What is stored with the content, and after a deletion nowhere else. Its `edit_event_id` is this event's id.
    pub edit: EditMetadata,
    /// The `edit_event_id` that it had before; none when it was created.
    pub previous: Option<EventId>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event_type", content = "payload", rename_all = "snake_case")]
pub enum EventBody {
    /// A decision.
    CapabilityAction(Box<DecisionRecord>),
    /// What became of an allowed call.
    CapabilityOutcome(OutcomeRecord),
    /// One call of a model, failed or not.
    LlmInference {
        /// Same as the envelope's.
        trace_id: TraceId,
        /// Configured name.
        model_id: String,
        /// Tokens; zero when the call failed before any were used.
        token_usage: TokenUsage,
        /// Duration.
        latency_ms: u64,
        /// SHA-256 of the request.
        prompt_hash: Digest,
        /// SHA-256 of the answer; none when it failed.
        response_hash: Option<Digest>,
        /// Error label; none when it succeeded.
        error: Option<String>,
    },
    /// Recovery found an interrupted run.
    WorkflowRecovery {
        /// The run.
        workflow_run_id: RunId,
        /// Before.
        from_state: RunState,
        /// After.
        to_state: RunState,
        /// Why.
        reason: String,
        /// Last sign of life.
        last_heartbeat_ts: Option<Timestamp>,
        /// Age that counts as dead, seconds; 0 when it is the host's own earlier process.
        threshold_secs: u64,
    },
    /// Somebody tried to get around the host.
    SecurityViolation {
        /// Stable label.
        kind: String,
        /// One sentence.
        detail: String,
    },
    /// The host itself.
    System {
        /// Stable label, for example `host_started`.
        kind: String,
        /// One sentence.
        detail: String,
    },
    /// A job, run or step begins.
    SpanStart {
        /// `job`, `run` or `step`.
        span: String,
        /// Name, for example the step's id.
        name: String,
        /// Attempt, for steps.
        attempt: Option<u32>,
    },
    /// It ended.
    SpanEnd {
        /// `job`, `run` or `step`.
        span: String,
        /// Name.
        name: String,
        /// `ok` or an error label.
        result: String,
        /// Duration.
        duration_us: u64,
        /// Metrics that the step reported.
        metrics: std::collections::BTreeMap<String, f64>,
    },
    /// The janitor is done.
    GcSummary {
        /// Its report.
        report_id: ReportId,
        /// Whether it only looked.
        dry_run: bool,
        /// Jobs that need not be kept.
        candidates: u64,
        /// Jobs that were deleted.
        jobs: u64,
        /// Their runs.
        runs: u64,
        /// Artifacts that were deleted; after only looking those that nobody lists.
        artifacts: u64,
        /// Bytes of them.
        bytes: u64,
    },
    /// A job changed its state.
    JobTransition {
        /// Before; none when it was created.
        from_state: Option<JobState>,
        /// After.
        to_state: JobState,
        /// Why.
        reason: String,
    },
    /// Content was created, changed or deleted.
    ContentMutation(MutationRecord),
    /// People were asked, or answered; the envelope says who and about which step.
    Approval {
        /// The question; none for the review of what a job proposes.
        approval_id: Option<ApprovalId>,
        /// `requested`, `approved` or `rejected` by somebody, `expired`, `cancelled`.
        decision: String,
        /// What was asked, or why it was decided so.
        reason: Option<String>,
    },
}

impl EventBody {
    /// The type string that events are keyed by (R7).
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::CapabilityAction(_) => "capability_action",
            Self::CapabilityOutcome(_) => "capability_outcome",
            Self::LlmInference { .. } => "llm_inference",
            Self::WorkflowRecovery { .. } => "workflow_recovery",
            Self::SecurityViolation { .. } => "security_violation",
            Self::System { .. } => "system",
            Self::GcSummary { .. } => "gc_summary",
            Self::SpanStart { .. } => "span_start",
            Self::SpanEnd { .. } => "span_end",
            Self::JobTransition { .. } => "job_transition",
            Self::ContentMutation(_) => "content_mutation",
            Self::Approval { .. } => "approval",
        }
    }
}

/// One event with its envelope (R6.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Never nil.
    pub event_id: EventId,
    /// Never nil.
    pub trace_id: TraceId,
    /// When it happened.
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

/// Why an event was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// A rule of the envelope is broken.
    #[error("HSK-400-INVALID-EVENT: {event_type}: {problem}")]
    Envelope {
        /// Its type.
        event_type: &'static str,
        /// Which rule.
        problem: &'static str,
    },
    /// It has no canonical JSON.
    #[error("HSK-400-INVALID-EVENT: {event_type}: cannot be written as canonical JSON")]
    Unserializable {
        /// Its type.
        event_type: &'static str,
        /// Cause.
        source: serde_json::Error,
    },
}

/// An event that was validated and redacted: the only form that storage accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmittedEvent {
    pub(crate) event_id: EventId,
    pub(crate) event_type: &'static str,
    pub(crate) json: String,
}

impl AdmittedEvent {
    /// Validates and redacts. Called by the recorder alone (a boundary test holds that).
    pub fn admit(event: &Event, redactor: &dyn Redactor) -> Result<Self, InvalidEvent> {
        let event_type = event.body.event_type();
        let refuse = |problem| Err(InvalidEvent::Envelope { event_type, problem });
        if event.event_id.is_nil() {
            return refuse("event_id is nil");
        }
        if event.trace_id.is_nil() {
            return refuse("trace_id is nil");
        }
        if event.actor.id.is_empty() {
            return refuse("actor id is empty");
        }
        if let EventBody::SpanEnd { metrics, .. } = &event.body
            && !metrics.values().all(|value| value.is_finite())
        {
            // JSON would turn it into null, and the stored event could not be read any more.
            return refuse("a metric is not a finite number");
        }
        let unserializable = |source| InvalidEvent::Unserializable { event_type, source };
        let mut value = serde_json::to_value(event).map_err(unserializable)?;
        redact_event(&mut value, redactor);
        let json = serde_jcs::to_string(&value).map_err(unserializable)?;
        Ok(Self { event_id: event.event_id, event_type, json })
    }

    /// Its id.
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// Canonical JSON (RFC 8785) of the event.
    pub fn json(&self) -> &str {
        &self.json
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
