//! The harness of the tests: the runtime over counting doubles, the real binary in a project of its own, and a
//! PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness that cannot go on fails its test"
)]

pub mod backends;
pub mod binary;
pub mod figures;
pub mod floor;
pub mod gates;
pub mod guest_tools;
pub mod postgres;
pub mod runtime;
pub mod service;
pub mod storage;
pub mod ungated;

use std::path::PathBuf;

/// The root of the checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}
