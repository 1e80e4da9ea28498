//! The host's pages in a real browser: the ways that people go, text that means no good, and what each page looks like.
//!
//! Screenshots of each page, light and wide, dark and narrow, are left in `CARGO_TARGET_TMPDIR/screenshots`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::print_stderr)]

mod browser;
mod hostile;
mod ways;
