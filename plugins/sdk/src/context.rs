//! Who runs the step and why. The host makes it; nothing a step returns can change it.
//!
//! ```
//! use handshake_step::{AccessMode, Context, StepError};
//!
//! fn may_write(context: &Context) -> Result<(), StepError> {
//!     match context.access_mode {
//!         AccessMode::ApplyScoped => Ok(()),
//!         _ => Err(StepError::permanent(format!("run {} may only look", context.run))),
//!     }
//! }
//! ```

pub use crate::bindings::exports::handshake::step::handler::Context;
pub use crate::bindings::handshake::step::types::AccessMode;
