//! Runs workflow steps as WebAssembly components: engine and limits, the compiled-code cache, the bindings, and
//! the gate in front of every import.
//!
//! A step gets a fresh store for every attempt, so no state survives between attempts. Nothing in this crate
//! knows a database, the recorder's store or a model server; they come in through the ports of
//! `handshake-core`.

pub mod ambient;
mod bindings;
mod cache;
pub mod catalog;
mod contract;
mod engine;
mod executor;
mod failure;
pub mod imports;
mod interface;
mod limits;
mod linker;
pub mod manifest;
mod mounts;
mod network;
mod observer;
mod pace;
mod program;
mod secrets;
mod stamp;
mod state;
mod store;
mod wasi;

pub use contract::Imported;
pub use executor::{RuntimeOptions, RuntimeServices, WasmRuntime};
pub use mounts::HostMounts;
pub use network::{ByteStream, NameResolver, SystemResolver};
pub use store::{Added, PluginStore, Staged};
