//! Lines for whoever watches the run. The host bounds their number and size, and escapes control characters.
//!
//! ```no_run
//! use handshake_step::log;
//!
//! log::warn("three files are not text and were left out");
//! ```

use crate::bindings::handshake::step::log::{Level, write};

/// For following the step's inner workings.
pub fn trace(message: &str) {
    write(Level::Trace, message);
}

/// For looking for a fault.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// What an operator may want to know.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Something is not as it should be; the step goes on.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something failed.
pub fn error(message: &str) {
    write(Level::Error, message);
}
