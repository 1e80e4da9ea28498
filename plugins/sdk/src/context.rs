//! Who runs the step and why. The host makes it; nothing a step returns can change it.

pub use crate::bindings::exports::handshake::step::handler::Context;
pub use crate::bindings::handshake::step::types::AccessMode;
