//! WASI 0.2 behind the gate. The delegates to wasmtime's own implementation, where the compiler cannot insist on
//! a permit, live in this module and nowhere else.

mod context;
mod environment;
mod filesystem;
pub(crate) mod http;
mod path;
pub(crate) mod sockets;
mod stdio;

pub(crate) use context::{ContextParts, context};
pub(crate) use environment::GatedEnvironment;
pub(crate) use filesystem::GatedFilesystem;
pub(crate) use sockets::AttemptSockets;
pub(crate) use stdio::Written;
