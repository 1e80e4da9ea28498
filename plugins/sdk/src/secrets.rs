//! Secrets that the operator issued to the host. A step never sees their values.
//!
//! ```no_run
//! use handshake_step::prelude::*;
//!
//! fn authorization() -> Result<String, StepError> {
//!     Ok(format!("Bearer {}", secrets::placeholder("forge")?))
//! }
//! ```

use crate::bindings::handshake::step::secrets as raw;
use crate::error::CallError;

/// Gives a placeholder for the secret, valid for this attempt; the host puts the value in its place in outgoing
/// requests. Needs `secrets.use:<name>`.
pub fn placeholder(name: &str) -> Result<String, CallError> {
    Ok(raw::placeholder(name)?)
}
