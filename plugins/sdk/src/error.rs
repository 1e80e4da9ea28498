//! Refused calls, failed calls, failed steps.
//!
//! ```
//! use handshake_step::{CallError, StepError};
//!
//! fn answered(answer: Result<String, CallError>) -> Result<String, StepError> {
//!     match answer {
//!         // The step can do without.
//!         Err(CallError::Denied(_)) => Ok(String::new()),
//!         answer => Ok(answer?),
//!     }
//! }
//!
//! assert_eq!(answered(Err(CallError::Unavailable("busy".into()))), Err(StepError::transient("busy")));
//! ```

use std::fmt;

use crate::bindings::exports::handshake::step::handler as raw_handler;
use crate::bindings::handshake::step::types as raw;

pub use raw::Layer;

/// A call that the host refused. Nothing happened; the step may go on without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The capability that the call needed, for example `fs.read:in`.
    pub capability: String,
    /// What the call was about, in the host's canonical form.
    pub resource: String,
    /// A stable label such as `not-granted`.
    pub reason: String,
    /// The layer that refused.
    pub layer: Layer,
    /// The line that would allow it, and the file it belongs in.
    pub remedy: String,
}

impl Denial {
    /// The refusing layer, spelled as in the contract.
    pub fn layer_name(&self) -> &'static str {
        match self.layer {
            Layer::Registry => "registry",
            Layer::Manifest => "manifest",
            Layer::Grant => "grant",
            Layer::Profile => "profile",
            Layer::AccessMode => "access-mode",
            Layer::Policy => "policy",
            Layer::Budget => "budget",
            Layer::Recorder => "recorder",
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` on `{}` is denied: {} ({})", self.capability, self.resource, self.reason, self.layer_name())?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl From<raw::Denial> for Denial {
    fn from(raw: raw::Denial) -> Self {
        Self {
            capability: raw.capability,
            resource: raw.resource,
            reason: raw.reason,
            layer: raw.layer,
            remedy: raw.remedy,
        }
    }
}

impl From<Denial> for raw::Denial {
    fn from(denial: Denial) -> Self {
        Self {
            capability: denial.capability,
            resource: denial.resource,
            reason: denial.reason,
            layer: denial.layer,
            remedy: denial.remedy,
        }
    }
}

/// Why a host call did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The host refused. Nothing happened.
    Denied(Denial),
    /// The arguments are not acceptable.
    Invalid(String),
    /// There is no such thing, or this run may not know of it.
    NotFound(String),
    /// Trying again later may help.
    Unavailable(String),
    /// The call failed for good.
    Failed(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denial) => denial.fmt(f),
            Self::Invalid(text) => write!(f, "not acceptable: {text}"),
            Self::NotFound(text) => write!(f, "not found: {text}"),
            Self::Unavailable(text) => write!(f, "not available: {text}"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CallError {}

impl From<raw::CallError> for CallError {
    fn from(raw: raw::CallError) -> Self {
        match raw {
            raw::CallError::Denied(denial) => Self::Denied(denial.into()),
            raw::CallError::Invalid(text) => Self::Invalid(text),
            raw::CallError::NotFound(text) => Self::NotFound(text),
            raw::CallError::Unavailable(text) => Self::Unavailable(text),
            raw::CallError::Failed(text) => Self::Failed(text),
        }
    }
}

/// Why the step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepError {
    /// The input is not what the step takes. Never retried.
    InvalidInput(String),
    /// A call that the step cannot do without was refused. Never retried.
    Denied(Denial),
    /// May be retried.
    Transient(String),
    /// Never retried.
    Permanent(String),
}

impl StepError {
    /// The input is not what the step takes.
    pub fn invalid_input(text: impl Into<String>) -> Self {
        Self::InvalidInput(text.into())
    }

    /// A failure that trying again will not mend.
    pub fn permanent(text: impl Into<String>) -> Self {
        Self::Permanent(text.into())
    }

    /// A failure that trying again may mend.
    pub fn transient(text: impl Into<String>) -> Self {
        Self::Transient(text.into())
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidInput(text) => write!(f, "invalid input: {text}"),
            Self::Denied(denial) => denial.fmt(f),
            Self::Transient(text) | Self::Permanent(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StepError {}

/// So that `?` does the usual thing: a refusal stays one, what may pass is retried, the rest is final.
impl From<CallError> for StepError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Denied(denial) => Self::Denied(denial),
            CallError::Unavailable(text) => Self::Transient(text),
            other @ (CallError::Invalid(_) | CallError::NotFound(_) | CallError::Failed(_)) => {
                Self::Permanent(other.to_string())
            }
        }
    }
}

impl From<StepError> for raw_handler::StepError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::InvalidInput(text) => Self::InvalidInput(text),
            StepError::Denied(denial) => Self::Denied(denial.into()),
            StepError::Transient(text) => Self::Transient(text),
            StepError::Permanent(text) => Self::Permanent(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial() -> Denial {
        Denial {
            capability: "model.infer:default".into(),
            resource: "default".into(),
            reason: "not-granted".into(),
            layer: Layer::Grant,
            remedy: "add `model.infer:default` to the step's `grants`".into(),
        }
    }

    #[test]
    fn a_denial_names_capability_reason_layer_and_remedy() {
        assert_eq!(
            denial().to_string(),
            "`model.infer:default` on `default` is denied: not-granted (grant); add `model.infer:default` to the \
             step's `grants`"
        );
    }

    #[test]
    fn a_denial_survives_the_way_to_the_host_and_back() {
        assert_eq!(Denial::from(raw::Denial::from(denial())), denial());
    }

    #[test]
    fn the_question_mark_keeps_denials_and_retries_only_what_may_pass() {
        assert_eq!(StepError::from(CallError::Denied(denial())), StepError::Denied(denial()));
        assert_eq!(
            StepError::from(CallError::Unavailable("HSK-429-RATE-LIMIT".into())),
            StepError::Transient("HSK-429-RATE-LIMIT".into())
        );
        for last in [CallError::Invalid("x".into()), CallError::NotFound("x".into()), CallError::Failed("x".into())] {
            assert!(matches!(StepError::from(last), StepError::Permanent(_)));
        }
    }
}
