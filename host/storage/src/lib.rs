//! Storage of Handshake on SQLite, behind the storage ports of `handshake-core`.
//!
//! One task writes ([`SqliteDatabase`] is the handle to it): it groups what waits at the same time into one
//! transaction, stamps events with their place in the host's hash chain, and answers each caller only after its
//! transaction is durable. Reads have connections of their own. What only SQLite knows is in `sqlite`; the rest
//! is portable SQL.

mod artifacts;
mod claims;
mod database;
mod error;
mod jobs;
mod migrations;
mod nodes;
mod operation;
mod outbox;
mod queue;
mod runs;
mod sqlite;
mod text;
mod writer;

pub use artifacts::FileArtifacts;
pub use database::{SqliteDatabase, SqliteOptions};
