//! What became of a call into a guest, in the engine's words.

use handshake_core::capability::{Denial, DenialLabel};
use handshake_core::manifest::Limits;
use handshake_core::step::{GUEST_BACKTRACE, StepFailure};
use handshake_core::terminal;
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};

use crate::bindings::exports::handshake::step::handler::StepError;
use crate::limits::LimitExceeded;
use crate::observer::cut;

/// Bytes of a guest's own error text.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
/// Functions of a guest's backtrace, and bytes of the name of each; a guest chooses both.
const MOST_FRAMES: usize = 20;
const MAX_NAME_BYTES: usize = 120;
/// How wasmtime's form of a backtrace begins.
const WASMTIME_BACKTRACE: &str = "error while executing at wasm backtrace";

/// WASI has no room for a denial, so a step that fails for good right after a refused call is taken to have failed because
/// of it: whoever reads that learns which line is missing. [`LastDenial`](crate::state::LastDenial) says which refusals
/// can explain anything.
pub(crate) fn for_good(text: String, denied: Option<Denial>) -> StepFailure {
    match denied {
        Some(denial) => {
            let remedy = format!("{}; the plugin says: {text}", denial.remedy);
            StepFailure::Denied(Denial { remedy, ..denial })
        }
        None => StepFailure::Permanent(text),
    }
}

/// Translates what the guest returned as its error.
pub(crate) fn from_guest(error: StepError, denied: Option<Denial>) -> StepFailure {
    // No database stores U+0000.
    let bounded = |text: String| cut(&text, MAX_MESSAGE_BYTES).replace('\0', "\u{2400}");
    match error {
        StepError::InvalidInput(text) => StepFailure::InvalidInput(bounded(text)),
        StepError::Transient(text) => StepFailure::Transient(bounded(text)),
        StepError::Permanent(text) => for_good(bounded(text), denied),
        StepError::Denied(denial) => StepFailure::Denied(Denial {
            capability: bounded(denial.capability),
            resource: bounded(denial.resource),
            reason: label(&denial.reason),
            layer: denial.layer.into(),
            remedy: bounded(denial.remedy),
        }),
    }
}

/// The label that a guest hands back. A guest can hand back any text; one that is no label says nothing.
fn label(text: &str) -> DenialLabel {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap_or(DenialLabel::NotGranted)
}

/// Translates a trap, or whatever else wasmtime gives instead of a result.
pub(crate) fn from_trap(error: &wasmtime::Error, limits: &Limits, memory_refused: bool) -> StepFailure {
    if let Some(exceeded) = error.downcast_ref::<LimitExceeded>() {
        return StepFailure::Limit { limit: exceeded.limit, detail: exceeded.detail.clone() };
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return StepFailure::Limit { limit: "handles", detail: "too many handles are open at the same time".into() };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => StepFailure::Limit {
            limit: "stack",
            detail: "the plugin's call stack is full; it recurses too deeply".into(),
        },
        Some(Trap::OutOfFuel) => {
            let fuel = limits.fuel.unwrap_or_default();
            StepFailure::Limit {
                limit: "fuel",
                detail: format!(
                    "{fuel} units are allowed; raise limits.fuel in plugin.toml if the plugin really needs more"
                ),
            }
        }
        // An allocation that fails ends most guests, so the refusal is the cause worth telling.
        _ if memory_refused => {
            let megabytes = limits.memory_mb;
            StepFailure::Limit {
                limit: "memory_mb",
                detail: format!(
                    "{megabytes} MiB are allowed; raise limits.memory_mb in plugin.toml if the plugin really needs more"
                ),
            }
        }
        Some(trap) => StepFailure::Trap(format!("{trap}{}", backtrace(error))),
        None => {
            // wasmtime puts its own form of the backtrace among the causes.
            let causes = error.chain().map(ToString::to_string).filter(|cause| !cause.starts_with(WASMTIME_BACKTRACE));
            let said = format!("{}{}", causes.collect::<Vec<_>>().join(": "), backtrace(error));
            StepFailure::Trap(cut(&said, MAX_MESSAGE_BYTES).to_owned())
        }
    }
}

/// The guest's functions that were being called, innermost first, on the same line. Empty when their names were
/// stripped from the component.
fn backtrace(error: &wasmtime::Error) -> String {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let mut names = Vec::new();
    for name in trace.frames().iter().filter_map(wasmtime::FrameInfo::func_name) {
        let name = rustc_demangle::demangle(name);
        // Without the hash at the end, which says nothing to anybody.
        let name = terminal::escape(cut(&format!("{name:#}"), MAX_NAME_BYTES), false).into_owned();
        if names.len() == MOST_FRAMES {
            names.push("…".to_owned());
            break;
        }
        names.push(name);
    }
    if names.is_empty() { String::new() } else { format!("{GUEST_BACKTRACE}{}", names.join(" < ")) }
}
