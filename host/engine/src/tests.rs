//! Tests of the engine as a whole, against doubles of its ports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod budgets;
mod content;
mod dags;
mod doubles;
mod expressions;
mod graphs;
mod histories;
mod permissions;
mod poisoning;
mod recovery;
mod runs;
mod submissions;
mod triggers;
mod validators;
mod waiting;
