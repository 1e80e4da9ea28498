//! Settings that the operator gave this plugin.
//!
//! ```no_run
//! use handshake_step::prelude::*;
//!
//! fn tone() -> Result<String, StepError> {
//!     Ok(config::get("tone")?.unwrap_or_else(|| "dry".to_owned()))
//! }
//! ```

use serde::de::DeserializeOwned;

use crate::bindings::handshake::step::config as raw;
use crate::error::CallError;

/// Reads one setting; `None` when it is not set, [`CallError::Invalid`] when it is of another type. Needs
/// `config.read:<key>`.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, CallError> {
    let Some(json) = raw::get(key)? else { return Ok(None) };
    serde_json::from_str(&json).map(Some).map_err(|error| CallError::Invalid(format!("setting `{key}`: {error}")))
}
