//! Large values. They live with the run and travel between steps as handles.
//!
//! ```no_run
//! use handshake_step::prelude::*;
//!
//! fn shout(document: &Artifact) -> Result<Artifact, StepError> {
//!     let text = artifacts::read_text(document)?;
//!     Ok(artifacts::write("text/plain; charset=utf-8", text.to_uppercase().as_bytes())?)
//! }
//! ```

use crate::bindings::handshake::step::artifacts as raw;
use crate::error::CallError;

/// The handle of a stored value. Only the run that wrote it, or was given it, can read it.
#[handshake_step_macros::data]
#[derive(Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub id: String,
    /// Content length in bytes.
    pub size: u64,
    /// Media type, for example `text/markdown; charset=utf-8`.
    pub media_type: String,
}

/// Stores a value of at most 16 MiB. Needs `artifact.write`.
pub fn write(media_type: &str, content: &[u8]) -> Result<Artifact, CallError> {
    let handle = raw::write(media_type, content)?;
    Ok(Artifact { id: handle.id, size: handle.size, media_type: handle.media_type })
}

/// Reads a value. Needs `artifact.read`.
pub fn read(artifact: &Artifact) -> Result<Vec<u8>, CallError> {
    Ok(raw::read(&artifact.id)?)
}

/// Reads a value that is text in UTF-8; [`CallError::Invalid`] when it is not. Needs `artifact.read`.
pub fn read_text(artifact: &Artifact) -> Result<String, CallError> {
    String::from_utf8(read(artifact)?)
        .map_err(|error| CallError::Invalid(format!("artifact `{}` is not UTF-8: {error}", artifact.id)))
}
