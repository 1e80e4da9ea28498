//! A guest that traps when it is asked to describe itself.

use handshake_step::Context;
use handshake_step::bindings::exports::handshake::step::handler::{Descriptor, Guest, Output, StepError};

struct TrapInDescribe;

impl Guest for TrapInDescribe {
    fn describe() -> Descriptor {
        std::process::abort()
    }

    fn run(_context: Context, _input: String) -> Result<Output, StepError> {
        Ok(Output { value: "{}".to_owned(), metrics: Vec::new() })
    }
}

handshake_step::bindings::export_handler!(TrapInDescribe with_types_in handshake_step::bindings);
