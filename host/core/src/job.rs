//! The AI job: what somebody asked for, and its state (R1).

use serde::{Deserialize, Serialize};

use crate::capability::Axis;
use crate::{JobId, ProfileId, RunId, Timestamp, TraceId};

/// Declares a closed enum with one canonical string per value, used in JSON, databases and messages alike.
macro_rules! canonical_enum {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal $(| $alias:literal)?),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text $(, alias = $alias)?)] $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            /// The canonical string.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::job::UnknownValue;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text $(| $alias)? => Ok(Self::$variant),)*
                    _ => Err(crate::job::UnknownValue { what: $what, text: text.to_owned(), known: &[$($text),*] }),
                }
            }
        }
    };
}
pub(crate) use canonical_enum;

/// A string that is none of the values of a closed enum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; known are {}", known.join(", "))]
pub struct UnknownValue {
    pub(crate) what: &'static str,
    pub(crate) text: String,
    pub(crate) known: &'static [&'static str],
}

canonical_enum! {
    /// What kind of work a job is (R1.2).
    JobKind, "job kind" {
        /// Edits a document.
        DocEdit = "doc_edit",
        /// Rewrites a document.
        DocRewrite = "doc_rewrite",
        /// Summarizes a document.
        DocSummarize = "doc_summarize",
        /// Transforms a sheet.
        SheetTransform = "sheet_transform",
        /// Clusters a canvas.
        CanvasCluster = "canvas_cluster",
        /// Transcribes speech.
        AsrTranscribe = "asr_transcribe",
        /// Runs a workflow.
        WorkflowRun = "workflow_run",
        /// Routes a specification.
        SpecRouter = "spec_router",
        /// Exports a debug bundle.
        DebugBundleExport = "debug_bundle_export",
        /// Runs a terminal command. `term_exec` is read, never written.
        TerminalExec = "terminal_exec" | "term_exec",
        /// Takes a document in.
        DocIngest = "doc_ingest",
        /// Evaluates a distillation.
        DistillationEval = "distillation_eval",
    }
}

canonical_enum! {
    /// Where a job stands (R1.3).
    JobState, "job state" {
        /// Waits for a host.
        Queued = "queued",
        /// Is executed.
        Running = "running",
        /// Was interrupted; only recovery leads here (R1.10).
        Stalled = "stalled",
        /// Its proposals are being validated.
        AwaitingValidation = "awaiting_validation",
        /// Waits for a person.
        AwaitingUser = "awaiting_user",
        /// Done.
        Completed = "completed",
        /// Done, with something a person should look at.
        CompletedWithIssues = "completed_with_issues",
        /// Failed.
        Failed = "failed",
        /// Cancelled.
        Cancelled = "cancelled",
        /// Stopped for a security violation or after too many recoveries; never retried by itself.
        Poisoned = "poisoned",
    }
}

canonical_enum! {
    /// What the job may do with the world, whatever else is granted (R1.4).
    AccessMode, "access mode" {
        /// Reading, models, artifacts.
        AnalysisOnly = "analysis_only",
        /// The same and proposals, never applied.
        PreviewOnly = "preview_only",
        /// Whatever is granted.
        ApplyScoped = "apply_scoped",
    }
}

canonical_enum! {
    /// How careful the host is with the job's inputs (R1.4).
    SafetyMode, "safety mode" {
        /// Refuses inputs that look like secrets.
        Strict = "strict",
        /// Warns about them.
        Normal = "normal",
        /// Warns about them; for trying things out.
        Experimental = "experimental",
    }
}

impl AccessMode {
    /// Whether the mode admits an axis at all (R1.13).
    pub const fn allows(self, axis: Axis) -> bool {
        match (self, axis) {
            (Self::ApplyScoped, _) => true,
            (_, Axis::ModelInfer | Axis::ModelEmbed | Axis::ArtifactWrite) => true,
            (Self::PreviewOnly, Axis::DocPropose) => true,
            (_, axis) => !axis.is_effectful(),
        }
    }
}

canonical_enum! {
    /// What can happen to a job.
    JobEvent, "job event" {
        /// A host begins to execute it.
        Start = "start",
        /// Recovery found its run interrupted.
        Stall = "stall",
        /// An operator or the recovery policy lets it go on.
        Resume = "resume",
        /// Its steps are done and its proposals are to be validated.
        Validate = "validate",
        /// It needs a person.
        AskUser = "ask_user",
        /// It is done.
        Complete = "complete",
        /// It is done, with issues.
        CompleteWithIssues = "complete_with_issues",
        /// It failed.
        Fail = "fail",
        /// Somebody cancelled it.
        Cancel = "cancel",
        /// Somebody asked for another attempt.
        Retry = "retry",
        /// A security violation, or too many recoveries.
        Poison = "poison",
    }
}

/// A transition that the state machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is `{state}` cannot `{event}`")]
pub struct IllegalTransition {
    /// Where the job stands.
    pub state: JobState,
    /// What was asked of it.
    pub event: JobEvent,
}

impl JobState {
    /// The state after an event: a total function, so that every pair has an answer (R1.8).
    pub const fn after(self, event: JobEvent) -> Result<Self, IllegalTransition> {
        use JobEvent as E;
        use JobState as S;
        Ok(match (self, event) {
            (S::Queued, E::Start) => S::Running,
            (S::Running, E::Stall) => S::Stalled,
            (S::Stalled | S::AwaitingUser, E::Resume) => S::Running,
            (S::Running, E::Validate) => S::AwaitingValidation,
            (S::Running | S::Stalled | S::AwaitingValidation, E::AskUser) => S::AwaitingUser,
            (S::Running | S::AwaitingValidation | S::AwaitingUser, E::Complete) => S::Completed,
            (S::Running | S::AwaitingValidation | S::AwaitingUser, E::CompleteWithIssues) => S::CompletedWithIssues,
            (S::Queued | S::Running | S::Stalled | S::AwaitingValidation | S::AwaitingUser, E::Fail) => S::Failed,
            (S::Queued | S::Running | S::Stalled | S::AwaitingValidation | S::AwaitingUser, E::Cancel) => S::Cancelled,
            (S::Queued | S::Running | S::Stalled | S::AwaitingValidation | S::AwaitingUser, E::Poison) => S::Poisoned,
            (S::Failed | S::Cancelled | S::CompletedWithIssues, E::Retry) => S::Queued,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }

    /// Whether nothing more happens by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::CompletedWithIssues | Self::Failed | Self::Cancelled | Self::Poisoned)
    }
}

/// Something that a job is about (R1.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityRef {
    /// For example `document`.
    pub artefact_type: String,
    /// Its id.
    pub artefact_id: String,
    /// The part of it that is meant; none for all of it.
    pub selector: Option<String>,
}

/// A change that a job plans, never free JSON (R1.7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum PlannedOperation {
    /// Inserts a block after another, or at the start.
    InsertBlock {
        /// The block before it.
        after: Option<String>,
        /// For example `paragraph`.
        kind: String,
        /// Markdown.
        content: String,
    },
    /// Replaces a block's content.
    ReplaceBlock {
        /// The block.
        block_id: String,
        /// Markdown.
        content: String,
    },
    /// Moves a block behind another, or to the start.
    MoveBlock {
        /// The block.
        block_id: String,
        /// The block before its new place.
        after: Option<String>,
    },
    /// Deletes a block.
    DeleteBlock {
        /// The block.
        block_id: String,
    },
    /// Sets a metadata entry, or removes it.
    UpdateMetadata {
        /// Key.
        key: String,
        /// JSON text; none removes.
        value: Option<String>,
    },
}

/// What a job cost, in numbers; zeroed when it is created, never NULL (R1.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobMetrics {
    /// From start to end, milliseconds.
    pub duration_ms: u64,
    /// Input and output tokens together.
    pub total_tokens: u64,
    /// Tokens of requests to models.
    pub input_tokens: u64,
    /// Tokens of their answers.
    pub output_tokens: u64,
    /// Tokens spent on planning.
    pub tokens_planner: u64,
    /// Tokens spent on executing.
    pub tokens_executor: u64,
    /// Documents, files and artifacts read.
    pub entities_read: u64,
    /// Documents, files and artifacts written.
    pub entities_written: u64,
    /// Validators run.
    pub validators_run_count: u64,
}

impl JobMetrics {
    /// Adds what one attempt cost.
    pub fn add(&mut self, other: &Self) {
        self.duration_ms += other.duration_ms;
        self.total_tokens += other.total_tokens;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.tokens_planner += other.tokens_planner;
        self.tokens_executor += other.tokens_executor;
        self.entities_read += other.entities_read;
        self.entities_written += other.entities_written;
        self.validators_run_count += other.validators_run_count;
    }
}

/// What somebody asked for, and how it stands (R1.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AiJob {
    /// Survives retries.
    pub job_id: JobId,
    /// On every event of the job; never nil.
    pub trace_id: TraceId,
    /// The latest run.
    pub workflow_run_id: Option<RunId>,
    /// Kind of work.
    pub job_kind: JobKind,
    /// State.
    pub state: JobState,
    /// What the job follows: for a workflow its name.
    pub protocol_id: String,
    /// Profile of behaviour.
    pub profile_id: String,
    /// Whitelist of capabilities.
    pub capability_profile_id: ProfileId,
    /// What it may do with the world.
    pub access_mode: AccessMode,
    /// How careful the host is with its inputs.
    pub safety_mode: SafetyMode,
    /// What it is about.
    pub entity_refs: Vec<EntityRef>,
    /// What it plans.
    pub planned_operations: Vec<PlannedOperation>,
    /// What it cost.
    pub metrics: JobMetrics,
    /// Why it is in its state, one sentence.
    pub status_reason: String,
    /// Created.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
    /// Why it failed.
    pub error_message: Option<String>,
    /// Inputs, exact.
    pub job_inputs: serde_json::Value,
    /// Outputs, exact.
    pub job_outputs: Option<serde_json::Value>,
    /// Spared by the janitor.
    pub is_pinned: bool,
    /// The job that started it.
    pub parent_job_id: Option<JobId>,
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
