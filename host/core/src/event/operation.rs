//! What happens around jobs: commands, diagnostics, bundles, and gaps of the record itself.

use serde::{Deserialize, Serialize};

use crate::job::canonical_enum;
use crate::{BundleId, DiagnosticId, Digest, HostId, SessionId};

/// Body of `terminal_command`. What the command printed is no part of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TerminalCommand {
    /// The terminal's session.
    pub session_id: SessionId,
    /// The command as it was given.
    pub command: String,
    /// The artifact that holds its output; none when nothing was kept.
    pub output_sha256: Option<Digest>,
    /// Its exit code; none when a signal ended it or it still runs.
    pub exit_code: Option<i32>,
}

canonical_enum! {
    /// How bad it is.
    Severity, "severity" {
        /// The host or the job cannot go on.
        Fatal = "fatal",
        /// Something failed.
        Error = "error",
        /// Something may fail.
        Warning = "warning",
        /// Worth knowing.
        Information = "information",
        /// A proposal.
        Hint = "hint",
    }
}

/// Body of `diagnostic`. The envelope links it to its job, run and step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Diagnostic {
    /// Its own record.
    pub diagnostic_id: DiagnosticId,
    /// Same for the same problem in the same place.
    pub fingerprint: Digest,
    /// How bad it is.
    pub severity: Severity,
    /// Stable label of what found it, for example `engine`.
    pub source: String,
    /// Stable code, for example `HSK-4001`; none when it has none.
    pub code: Option<String>,
}

canonical_enum! {
    /// What a bundle is about.
    BundleScope, "scope of a bundle" {
        /// The job of the envelope.
        Job = "job",
        /// The run of the envelope.
        Run = "run",
        /// The trace of the envelope.
        Trace = "trace",
        /// A window of time.
        TimeWindow = "time_window",
    }
}

canonical_enum! {
    /// How much a bundle shows.
    RedactionMode, "redaction mode" {
        /// No payloads, nothing that a detector finds.
        SafeDefault = "SAFE_DEFAULT",
        /// Payloads of the workspace, without what a detector finds.
        Workspace = "WORKSPACE",
        /// Everything that this host has; for its own operator alone.
        FullLocal = "FULL_LOCAL",
    }
}

/// Body of `debug_bundle_export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DebugBundleExport {
    /// The bundle.
    pub bundle_id: BundleId,
    /// What it is about.
    pub scope: BundleScope,
    /// How much it shows.
    pub redaction_mode: RedactionMode,
    /// SHA-256 of the file; none when writing it failed.
    pub bundle_sha256: Option<Digest>,
}

canonical_enum! {
    /// Why records are not there any more.
    GapReason, "reason of a gap" {
        /// They were older than what is kept.
        Retention = "retention",
        /// They were damaged, and nothing had a copy.
        Damage = "damage",
        /// They were given up on purpose.
        Dropped = "dropped",
    }
}

/// Body of `gap`: a range of records that is not there any more. It is never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gap {
    /// The host that recorded them.
    pub host: HostId,
    /// Sequence number of the first.
    pub first_seq: u64,
    /// Sequence number of the last.
    pub last_seq: u64,
    /// Why.
    pub reason: GapReason,
    /// Hash of the last, which the next record names; none when it is not known.
    pub last_hash: Option<Digest>,
}
