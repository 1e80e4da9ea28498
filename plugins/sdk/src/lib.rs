//! Write a workflow step for Handshake in Rust.
//!
//! ```no_run
//! use handshake_step::prelude::*;
//!
//! #[data]
//! #[serde(deny_unknown_fields)]
//! struct Input { document: Artifact }
//!
//! #[data]
//! struct Output { summary: String }
//!
//! #[step(capabilities = ["artifact.read", "model.infer"])]
//! fn run(_context: Context, input: Input) -> Result<Output, StepError> {
//!     let text = artifacts::read_text(&input.document)?;
//!     let answer = models::Request::new("default").user(text).send()?;
//!     Ok(Output { summary: answer.text })
//! }
//! ```
//!
//! A call that the host refuses comes back as [`CallError::Denied`]; `?` turns it into a step error that names the
//! capability and the line that would grant it. Everything else a step needs, files for example, it reaches through
//! Rust's standard library; the host decides those calls too.

// So that the attributes, which name the crate by its path, work in here too.
extern crate self as handshake_step;

pub mod artifacts;
#[doc(hidden)]
pub mod bindings;
pub mod config;
pub mod context;
pub mod documents;
pub mod error;
pub mod log;
pub mod models;
pub mod output;
pub mod progress;
pub mod secrets;
#[doc(hidden)]
pub mod step;

#[doc(no_inline)]
pub use {schemars, serde, serde_json};

pub use artifacts::Artifact;
pub use context::{AccessMode, Context};
pub use error::{CallError, Denial, Layer, StepError};
pub use handshake_step_macros::{data, step};
pub use output::{IntoOutput, Measured};

/// What almost every step needs.
///
/// ```
/// use handshake_step::prelude::*;
///
/// fn at_least_one(words: usize) -> Result<usize, StepError> {
///     if words == 0 { Err(StepError::invalid_input("the text is empty")) } else { Ok(words) }
/// }
///
/// assert!(at_least_one(0).is_err());
/// ```
pub mod prelude {
    pub use crate::{Artifact, CallError, Context, Denial, Measured, StepError, data, step};
    pub use crate::{artifacts, config, documents, log, models, progress, secrets};
}
