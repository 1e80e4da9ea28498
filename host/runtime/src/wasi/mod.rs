//! WASI 0.2 behind the gate. The delegates to wasmtime's own implementation, where the compiler cannot insist on
//! a permit, live in this module and nowhere else.

mod context;
pub(crate) mod environment;
mod filesystem;
pub(crate) mod http;
mod path;
pub(crate) mod sockets;
mod stdio;

pub(crate) use context::{ContextParts, context};
pub(crate) use filesystem::GatedFilesystem;
pub(crate) use sockets::AttemptSockets;
pub(crate) use stdio::Written;

/// The span that the bindings would have made: their own functions are not called for these imports. The completeness
/// test reads interface and function from it.
macro_rules! import_span {
    ($interface:literal, $function:literal) => {
        tracing::trace_span!(target: concat!("handshake_runtime::wasi::", $interface), "wit-bindgen import", function = $function)
    };
}
use import_span;
