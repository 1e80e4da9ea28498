//! The interfaces of `handshake:step`, one file each. Each function that touches anything asks for a permit
//! first and hands it to whoever performs the effect.

mod artifacts;
mod config;
mod documents;
mod log;
mod models;
mod progress;
mod secrets;

use handshake_core::capability::{Denial, Layer};
use handshake_core::storage::StorageError;

use crate::bindings::handshake::step::types;
use crate::state::StepState;

impl types::Host for StepState {}

impl From<Denial> for types::Denial {
    fn from(denial: Denial) -> Self {
        Self {
            capability: denial.capability,
            resource: denial.resource,
            reason: denial.reason.label().to_owned(),
            layer: denial.layer.into(),
            remedy: denial.remedy,
        }
    }
}

impl From<Layer> for types::Layer {
    fn from(layer: Layer) -> Self {
        match layer {
            Layer::Registry => Self::Registry,
            Layer::Manifest => Self::Manifest,
            Layer::Grant => Self::Grant,
            Layer::Profile => Self::Profile,
            Layer::AccessMode => Self::AccessMode,
            Layer::Policy => Self::Policy,
            Layer::Budget => Self::Budget,
            Layer::Recorder => Self::Recorder,
        }
    }
}

impl From<types::Layer> for Layer {
    fn from(layer: types::Layer) -> Self {
        match layer {
            types::Layer::Registry => Self::Registry,
            types::Layer::Manifest => Self::Manifest,
            types::Layer::Grant => Self::Grant,
            types::Layer::Profile => Self::Profile,
            types::Layer::AccessMode => Self::AccessMode,
            types::Layer::Policy => Self::Policy,
            types::Layer::Budget => Self::Budget,
            types::Layer::Recorder => Self::Recorder,
        }
    }
}

impl From<Denial> for types::CallError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial.into())
    }
}

/// What a guest may know of a storage error: never the driver's words, which can hold paths and queries.
fn from_storage(error: &StorageError) -> (types::CallError, &'static str) {
    match error {
        StorageError::NotFound { .. } => (types::CallError::NotFound(error.to_string()), "not-found"),
        StorageError::Validation(_) => (types::CallError::Invalid(error.to_string()), "invalid"),
        StorageError::Conflict(_) => (types::CallError::Failed(error.to_string()), "conflict"),
        StorageError::Overloaded { .. } => (types::CallError::Unavailable(error.to_string()), "overloaded"),
        _ => {
            tracing::error!(error = %error, source = ?std::error::Error::source(error), "storage failed in a host call");
            (types::CallError::Failed("HSK-500-DB: the host's storage failed".to_owned()), "storage")
        }
    }
}
