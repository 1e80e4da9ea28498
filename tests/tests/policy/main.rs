//! The operator's policy while steps run: replaced under load, and reloaded by the real binary.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod binary;
mod load;
