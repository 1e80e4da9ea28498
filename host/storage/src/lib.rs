//! Storage of Handshake on SQLite or PostgreSQL, behind the storage ports of `handshake-core`.
//!
//! One task writes ([`SqlDatabase`] is the handle to it): it groups what waits at the same time into one
//! transaction, stamps events with their place in the host's hash chain, and answers each caller only after its
//! transaction is durable. Reads have connections of their own. Every statement is written once, in SQL that both
//! understand; what differs is in `sqlite` and `postgres`.

mod approvals;
mod artifacts;
mod backend;
mod claims;
mod content;
mod database;
mod error;
mod grants;
mod jobs;
mod limits;
mod listed;
mod local;
mod migrations;
mod nodes;
mod operation;
mod outbox;
mod postgres;
mod queue;
mod retention;
mod runs;
mod sql;
mod sqlite;
mod sweep;
mod text;
mod tokens;
mod triggers;
mod url;
mod writer;

pub use artifacts::FileArtifacts;
pub use database::{DatabaseOptions, SqlDatabase};
pub use limits::Limits;
pub use url::DatabaseUrl;
