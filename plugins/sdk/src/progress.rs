//! How far the step is.
//!
//! ```no_run
//! use handshake_step::progress;
//!
//! let files = ["a.md", "b.md"];
//! for (done, file) in (0_u64..).zip(files) {
//!     progress::report(done, files.len() as u64, file);
//! }
//! ```

use crate::bindings::handshake::step::progress as raw;

/// Says that `done` units of `total` are done; units are the step's own. Unknown totals are `None`.
pub fn report(done: u64, total: impl Into<Option<u64>>, message: &str) {
    raw::report(done, total.into(), message);
}
