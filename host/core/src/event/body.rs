//! The types of events and their payloads (R6.3).

use serde::{Deserialize, Serialize};

use super::{
    AuthRefusal, DebugBundleExport, DecisionRecord, Diagnostic, EditorEdit, Gap, GrantNote, MutationRecord,
    OutcomeRecord, PolicyChange, SignOff, SimulationRecord, TerminalCommand,
};
use crate::job::{JobState, canonical_enum};
use crate::model::TokenUsage;
use crate::run::RunState;
use crate::{ApprovalId, Digest, ReportId, RunId, Timestamp, TraceId};

canonical_enum! {
    /// The type of an event. Each has a number under which documents know it, see [`EventType::alias`].
    EventType, "type of events" {
        /// A command in a terminal.
        TerminalCommand = "terminal_command",
        /// Work in an editor.
        EditorEdit = "editor_edit",
        /// Something is wrong with what the host was given.
        Diagnostic = "diagnostic",
        /// A bundle for the search of faults was written.
        DebugBundleExport = "debug_bundle_export",
        /// One call of a model.
        LlmInference = "llm_inference",
        /// Recovery found an interrupted run.
        WorkflowRecovery = "workflow_recovery",
        /// One decision about a call.
        CapabilityAction = "capability_action",
        /// Somebody tried to get around the host.
        SecurityViolation = "security_violation",
        /// The host itself.
        System = "system",
        /// The janitor is done.
        GcSummary = "gc_summary",
        /// A job, run or step begins.
        SpanStart = "span_start",
        /// It ended.
        SpanEnd = "span_end",
        /// A job changed its state.
        JobTransition = "job_transition",
        /// Content was created, changed or deleted.
        ContentMutation = "content_mutation",
        /// What became of an allowed call.
        CapabilityOutcome = "capability_outcome",
        /// People were asked, or answered.
        Approval = "approval",
        /// Somebody vouches for something.
        SignOff = "sign_off",
        /// Somebody was not let in.
        AuthRefusal = "auth_refusal",
        /// Another policy is in force.
        PolicyChange = "policy_change",
        /// What another policy would have said.
        Simulation = "simulation",
        /// Records that are not there any more.
        Gap = "gap",
    }
}

impl EventType {
    /// The number that documents give it, for example `FR-EVT-007`; programs use the type itself (R7).
    pub fn alias(self) -> String {
        let at = Self::ALL.iter().position(|known| *known == self).unwrap_or_default();
        format!("FR-EVT-{:03}", at + 1)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
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
        /// `requested`, `approved` or `rejected` by somebody, `expired`, `cancelled`; `granted` and `revoked` of a capability.
        decision: String,
        /// What was asked, or why it was decided so.
        reason: Option<String>,
        /// What was granted or taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grant: Option<Box<GrantNote>>,
    },
    /// A command in a terminal.
    TerminalCommand(TerminalCommand),
    /// Work in an editor.
    EditorEdit(EditorEdit),
    /// Something is wrong with what the host was given.
    Diagnostic(Diagnostic),
    /// A bundle for the search of faults was written.
    DebugBundleExport(DebugBundleExport),
    /// Somebody vouches for something.
    SignOff(SignOff),
    /// Somebody was not let in.
    AuthRefusal(AuthRefusal),
    /// Another policy is in force.
    PolicyChange(PolicyChange),
    /// What another policy would have said.
    Simulation(SimulationRecord),
    /// Records that are not there any more.
    Gap(Gap),
}

impl EventBody {
    /// Its type.
    pub const fn kind(&self) -> EventType {
        match self {
            Self::CapabilityAction(_) => EventType::CapabilityAction,
            Self::CapabilityOutcome(_) => EventType::CapabilityOutcome,
            Self::LlmInference { .. } => EventType::LlmInference,
            Self::WorkflowRecovery { .. } => EventType::WorkflowRecovery,
            Self::SecurityViolation { .. } => EventType::SecurityViolation,
            Self::System { .. } => EventType::System,
            Self::GcSummary { .. } => EventType::GcSummary,
            Self::SpanStart { .. } => EventType::SpanStart,
            Self::SpanEnd { .. } => EventType::SpanEnd,
            Self::JobTransition { .. } => EventType::JobTransition,
            Self::ContentMutation(_) => EventType::ContentMutation,
            Self::Approval { .. } => EventType::Approval,
            Self::TerminalCommand(_) => EventType::TerminalCommand,
            Self::EditorEdit(_) => EventType::EditorEdit,
            Self::Diagnostic(_) => EventType::Diagnostic,
            Self::DebugBundleExport(_) => EventType::DebugBundleExport,
            Self::SignOff(_) => EventType::SignOff,
            Self::AuthRefusal(_) => EventType::AuthRefusal,
            Self::PolicyChange(_) => EventType::PolicyChange,
            Self::Simulation(_) => EventType::Simulation,
            Self::Gap(_) => EventType::Gap,
        }
    }

    /// The type string that events are keyed by (R7).
    pub const fn event_type(&self) -> &'static str {
        self.kind().as_str()
    }
}
