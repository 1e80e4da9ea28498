//! A step made from the WIT alone: wit-bindgen and nothing of the SDK. With `"crash": true` in its input it crashes, in
//! a function whose name can be looked for.

#[allow(clippy::all)]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/step-0.1.0", world: "step" });
    use super::Bare;
    export!(Bare);
}

use bindings::exports::handshake::step::handler::{Context, Descriptor, Guest, Output, StepError};
use bindings::handshake::step::log;

struct Bare;

impl Guest for Bare {
    fn describe() -> Descriptor {
        let schema = || "{\"type\":\"object\"}".to_owned();
        Descriptor {
            name: "bare".to_owned(),
            version: "0.1.0".to_owned(),
            input_schema: schema(),
            output_schema: schema(),
            capabilities: Vec::new(),
        }
    }

    fn run(context: Context, input: String) -> Result<Output, StepError> {
        log::write(log::Level::Info, &format!("attempt {}", context.attempt));
        if input.contains("\"crash\":true") {
            crash_on_purpose(input.len());
        }
        Ok(Output { value: format!("{{\"bytes\":{}}}", input.len()), metrics: Vec::new() })
    }
}

#[inline(never)]
fn crash_on_purpose(bytes: usize) {
    if bytes > 0 {
        std::process::abort();
    }
}
