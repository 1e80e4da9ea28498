//! The one error of the edge: classified once, printed once.

use std::error::Error;
use std::fmt;

use handshake_core::capability::Denial;
use handshake_core::event::{RedactionScope, Redactor};
use handshake_core::model::ModelError;
use handshake_core::mount::MountError;
use handshake_core::recorder::RecorderError;
use handshake_core::step::PluginError;
use handshake_core::storage::{FaultKind, StorageError};
use handshake_engine::{EngineError, InvalidWorkflow, SubmitError};
use handshake_models::ModelSettingsError;
use serde::{Deserialize, Serialize};

use crate::fault::remedy;

/// How the process ends. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The job failed.
    JobFailed = 1,
    /// Wrong usage, configuration or input.
    Usage = 2,
    /// Denied by capability or policy.
    Denied = 3,
    /// Waits for a person.
    Waiting = 4,
    /// Something does not verify.
    Verification = 5,
    /// The host's own fault.
    Internal = 70,
    /// Ended by a second signal, as shells report it.
    Interrupted = 130,
}

impl Exit {
    const ALL: [Self; 8] = [
        Self::Done,
        Self::JobFailed,
        Self::Usage,
        Self::Denied,
        Self::Waiting,
        Self::Verification,
        Self::Internal,
        Self::Interrupted,
    ];

    /// The number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Internal)
    }
}

/// What went wrong, for a person or a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct CliError {
    /// Stable: an `HSK-…` code where the contract has one, else a word such as `not_found`.
    pub(crate) code: String,
    /// What failed, on what.
    pub(crate) message: String,
    /// Causes, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) why: Vec<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// See [`Exit`].
    #[serde(rename = "exit_code", with = "exit_number")]
    #[schemars(with = "u8")]
    pub(crate) exit: Exit,
}

mod exit_number {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Exit;

    pub(super) fn serialize<S: Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(exit.code())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Exit, D::Error> {
        u8::deserialize(deserializer).map(Exit::from_code)
    }
}

/// An error in its JSON envelope, on standard error and in the API alike.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ErrorDocument {
    /// The error.
    pub(crate) error: CliError,
}

impl CliError {
    /// An error; a stable code in the message wins.
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let code = stable_code(&message).unwrap_or(code).to_owned();
        Self { code, message, why: Vec::new(), hint: None, exit }
    }

    /// Wrong usage, configuration or input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "invalid_input", message)
    }

    /// Something that was named does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "not_found", message)
    }

    /// A capability or the policy forbids it.
    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(Exit::Denied, "denied", message)
    }

    /// The host's own fault.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, "internal", message)
    }

    /// What was asked does not fit how things stand.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "conflict", message)
    }

    /// Another process has the data directory and is not to be had.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "busy", message)
    }

    /// Replaces the code.
    pub(crate) fn code(mut self, code: &str) -> Self {
        self.code = code.to_owned();
        self
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a cause and its causes.
    pub(crate) fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat the cause in their own message; saying it once is enough.
            if !self.why.last().is_some_and(|last| last.contains(&text)) {
                self.why.push(text);
            }
            next = error.source();
        }
        self
    }

    /// An error whose own text is the message and whose sources are the causes.
    fn of(exit: Exit, code: &str, error: &(dyn Error + 'static)) -> Self {
        let new = Self::new(exit, code, error.to_string());
        match error.source() {
            Some(source) => new.because(source),
            None => new,
        }
    }

    /// An input error of a library, by its own words.
    pub(crate) fn bad_input(error: &(dyn Error + 'static)) -> Self {
        Self::of(Exit::Usage, "invalid_input", error)
    }

    /// A failed file operation. What the person can mend is theirs (exit 2), the rest is the host's.
    pub(crate) fn file(operation: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let new = Self::usage(format!("cannot {operation} `{}`", path.display())).because(error);
        match trouble(error).map(remedy) {
            Some((_, hint)) => new.hint(hint),
            None => new,
        }
    }

    /// The same without secrets.
    pub(crate) fn clean(&self, redactor: &dyn Redactor) -> Self {
        let clean = |text: &String| redactor.clean(RedactionScope::Text, text).into_owned();
        Self {
            code: self.code.clone(),
            message: clean(&self.message),
            why: self.why.iter().map(clean).collect(),
            hint: self.hint.as_ref().map(clean),
            exit: self.exit,
        }
    }

    /// The same as JSON text on one line.
    pub(crate) fn to_json(&self) -> String {
        let text = serde_json::to_string(&ErrorDocument { error: self.clone() })
            .unwrap_or_else(|_| r#"{"error":{"code":"internal"}}"#.to_owned());
        handshake_core::terminal::escape_json(&text).into_owned()
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CliError {}

/// The `HSK-…` code that a message starts with.
fn stable_code(message: &str) -> Option<&str> {
    let start = message.find("HSK-")?;
    let rest = &message[start..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// What is wrong with a disk or a database, anywhere in the chain of causes.
fn trouble(error: &(dyn Error + 'static)) -> Option<FaultKind> {
    // DuckDB has no types for this; its part is told by the system's fixed messages.
    let mut causes = std::iter::successors(Some(error), |&cause| cause.source()).map(ToString::to_string);
    FaultKind::of(error).or_else(|| {
        causes.find_map(|text| {
            let says = |known: &[&str]| known.iter().any(|known| text.contains(known));
            if says(&["No space left on device"]) {
                return Some(FaultKind::Full);
            }
            says(&["Read-only file system", "Permission denied"]).then_some(FaultKind::ReadOnly)
        })
    })
}

/// An error of a store: exit 2 when the person can mend it, else 70.
pub(crate) fn store_failure(error: &(dyn Error + 'static)) -> CliError {
    match trouble(error).map(remedy) {
        Some((code, hint)) => CliError::of(Exit::Usage, code, error).hint(hint),
        None => CliError::of(Exit::Internal, "HSK-500-DB", error),
    }
}

impl From<StorageError> for CliError {
    fn from(error: StorageError) -> Self {
        match &error {
            StorageError::NotFound { .. } => Self::of(Exit::Usage, "not_found", &error),
            StorageError::Conflict(_) => Self::of(Exit::Usage, "conflict", &error),
            StorageError::Validation(_) => Self::of(Exit::Usage, "invalid_input", &error),
            StorageError::Guard(_) => Self::of(Exit::Denied, "denied", &error),
            _ => store_failure(&error),
        }
    }
}

impl From<RecorderError> for CliError {
    fn from(error: RecorderError) -> Self {
        match error {
            RecorderError::Query(problem) => Self::usage(problem),
            error => store_failure(&error),
        }
    }
}

impl From<PluginError> for CliError {
    fn from(error: PluginError) -> Self {
        match &error {
            PluginError::Unknown { known, .. } => {
                let hint = if known.is_empty() {
                    "add the folder that holds it to `plugins` in handshake.toml".to_owned()
                } else {
                    format!("there are: {}; `handshake plugin list` shows them", known.join(", "))
                };
                Self::of(Exit::Usage, "unknown_plugin", &error).hint(hint)
            }
            PluginError::NotBuilt { folder, .. } => {
                Self::of(Exit::Usage, "not_built", &error).hint(format!("handshake plugin build {folder}"))
            }
            PluginError::Manifest { .. } => Self::of(Exit::Usage, "invalid_plugin", &error)
                .hint("`handshake schema plugin` shows every key, `handshake capabilities list` every capability"),
            PluginError::Component { .. } => Self::of(Exit::Usage, "invalid_plugin", &error)
                .hint("correct its source or `component.path`, then `handshake plugin build` makes it anew"),
            PluginError::ComponentTampered { .. } => Self::of(Exit::Usage, "invalid_plugin", &error),
            PluginError::CacheTampered { .. } => Self::of(Exit::Usage, "cache_tampered", &error),
            PluginError::Host(_) => Self::of(Exit::Internal, "internal", &error),
        }
    }
}

impl From<MountError> for CliError {
    fn from(error: MountError) -> Self {
        match &error {
            MountError::Unavailable { .. } => Self::of(Exit::Usage, "mount_unavailable", &error)
                .hint("create the folder, or correct `mounts` in the workflow file"),
            MountError::NotAFolder { .. } => Self::of(Exit::Usage, "mount_unavailable", &error)
                .hint("mounts are folders; name the folder that holds the file"),
            MountError::Trusted { .. } => {
                Self::of(Exit::Denied, "mount_refused", &error).hint("mount a folder of its own for what steps write")
            }
            MountError::DataDirectory { .. } => Self::of(Exit::Denied, "mount_refused", &error)
                .hint("mount a folder beside it, or move the data directory away with --data-dir"),
            MountError::NotListed { path, access, .. } => {
                Self::of(Exit::Denied, "mount_refused", &error).hint(format!(
                    "the operator can add to policy.toml: [[mount]] path = \"{}\" access = \"{access}\"",
                    path.display()
                ))
            }
        }
    }
}

impl From<ModelError> for CliError {
    fn from(error: ModelError) -> Self {
        match &error {
            ModelError::Unknown(_) => Self::of(Exit::Usage, "not_found", &error),
            ModelError::NotMade { .. } => Self::of(Exit::Internal, error.label(), &error),
            // The model is the operator's to configure and to start, so this is not the host's own fault.
            _ => Self::of(Exit::Usage, error.label(), &error).hint(
                "`handshake models list` shows where the model is; check its server and [models] in handshake.toml",
            ),
        }
    }
}

impl From<InvalidWorkflow> for CliError {
    fn from(error: InvalidWorkflow) -> Self {
        match error.problems() {
            [problem] => Self::of(Exit::Usage, "invalid_workflow", problem).hint(problem.hint()),
            problems => {
                let file = problems.first().map_or("the workflow", |problem| &problem.file);
                let message = format!("{file}: {} problems", problems.len());
                let why = problems.iter().map(|problem| format!("{problem}; {}", problem.hint()));
                Self { why: why.collect(), ..Self::new(Exit::Usage, "invalid_workflow", message) }
                    .hint("correct them all; nothing was run")
            }
        }
    }
}

impl From<SubmitError> for CliError {
    fn from(error: SubmitError) -> Self {
        let hint = error.hint();
        let new = match error {
            SubmitError::Workflow(error) => error.into(),
            SubmitError::Mount(error) => error.into(),
            SubmitError::Plugin(error) => error.into(),
            SubmitError::Storage(error) => error.into(),
            SubmitError::Recorder(error) => error.into(),
            SubmitError::Secrets(_) => Self::of(Exit::Usage, "secret_input", &error),
            SubmitError::Input(_) => Self::of(Exit::Usage, "invalid_input", &error),
            SubmitError::UnsupportedKind { .. } => Self::of(Exit::Usage, "unsupported_kind", &error),
        };
        if new.hint.is_some() { new } else { new.hint(hint) }
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Storage(error) => error.into(),
            EngineError::Recorder(error) => error.into(),
            EngineError::Plugin(error) => error.into(),
            EngineError::NotWaiting { .. } | EngineError::LostLease { .. } | EngineError::Elsewhere { .. } => {
                Self::of(Exit::Usage, "conflict", &error)
            }
            EngineError::Job(_) | EngineError::Run(_) => {
                Self::of(Exit::Usage, "conflict", &error).hint("handshake jobs show tells how it stands")
            }
            EngineError::NoProposals { job, .. } | EngineError::ProposalsRefused { job, .. } => {
                Self::of(Exit::Usage, "conflict", &error).hint(format!("handshake jobs show {job} tells how it stands"))
            }
            EngineError::Poisoned { job, .. } => {
                Self::of(Exit::Usage, "conflict", &error).hint(format!("handshake jobs show {job} tells more"))
            }
            EngineError::NotAPerson { .. } => Self::of(Exit::Denied, "denied", &error),
            EngineError::UnknownStep { .. } => Self::of(Exit::Usage, "usage", &error),
            EngineError::Approval(_) | EngineError::NoQuestion { .. } | EngineError::Part { .. } => {
                Self::of(Exit::Usage, "conflict", &error).hint("handshake jobs show tells what a job asks")
            }
            EngineError::WhichQuestion { .. } => Self::of(Exit::Usage, "usage", &error),
            EngineError::Submit(error) => (*error).into(),
            EngineError::NeedsPerson { .. } => Self::of(Exit::Waiting, "awaiting_user", &error),
            _ => Self::of(Exit::Internal, "internal", &error),
        }
    }
}

impl From<ModelSettingsError> for CliError {
    fn from(error: ModelSettingsError) -> Self {
        Self::of(Exit::Usage, "invalid_model", &error).hint("correct [models] in handshake.toml")
    }
}

impl From<Denial> for CliError {
    fn from(denial: Denial) -> Self {
        Self::denied(format!(
            "`{}` on `{}` denied by {} ({})",
            denial.capability, denial.resource, denial.layer, denial.reason
        ))
        .hint(denial.remedy)
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
