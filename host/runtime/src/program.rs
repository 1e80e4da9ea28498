//! Programs for `wasi:cli`, as any compiler makes them, executed as steps: arguments and standard input come from the
//! step's input, and its output is what the program wrote to standard output.

use handshake_core::capability::Denial;
use handshake_core::step::{Descriptor, Plugin, StepFailure};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wasmtime_wasi::I32Exit;

use crate::failure;

/// What the input of such a step is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProgramInput {
    args: Vec<String>,
    stdin: String,
}

impl ProgramInput {
    pub(crate) fn read(text: &str) -> Result<Self, StepFailure> {
        // A list would be taken for the fields in their order.
        let fields: Result<Map<String, Value>, _> = serde_json::from_str(text);
        fields
            .and_then(|fields| serde_json::from_value(Value::Object(fields)))
            .map_err(|error| StepFailure::InvalidInput(error.to_string()))
    }

    /// The program's name, as which the plugin's id stands, and its arguments.
    pub(crate) fn arguments(&self, plugin: &Plugin) -> Vec<String> {
        std::iter::once(plugin.manifest.id.to_string()).chain(self.args.iter().cloned()).collect()
    }

    pub(crate) fn into_stdin(self) -> String {
        self.stdin
    }
}

/// A program cannot describe itself.
pub(crate) fn descriptor(plugin: &Plugin) -> Descriptor {
    let manifest = &plugin.manifest;
    Descriptor {
        name: manifest.id.to_string(),
        version: manifest.version.clone(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "args": { "type": "array", "items": { "type": "string" } },
                "stdin": { "type": "string" },
            },
            "additionalProperties": false,
        }),
        output_schema: json!({
            "type": "object",
            "properties": { "stdout": { "type": "string" } },
            "required": ["stdout"],
            "additionalProperties": false,
        }),
        capabilities: manifest.capabilities.iter().map(|declared| declared.id.to_string()).collect(),
    }
}

/// With which code a program ended; the error is another trap than its end.
pub(crate) fn exit_code(ended: wasmtime::Result<Result<(), ()>>) -> wasmtime::Result<i32> {
    match ended {
        Ok(Ok(())) => Ok(0),
        Ok(Err(())) => Ok(1),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => Ok(*code),
            None => Err(error),
        },
    }
}

/// The output of a program that ended with this code, as JSON. Any code but 0 is a failure for good; `last_words` is
/// the last line on standard error.
pub(crate) fn output(
    code: i32,
    stdout: Vec<u8>,
    last_words: &str,
    denied: Option<Denial>,
) -> Result<String, StepFailure> {
    if code != 0 {
        let says = if last_words.is_empty() { String::new() } else { format!(": {last_words}") };
        return Err(failure::for_good(format!("the program ended with exit code {code}{says}"), denied));
    }
    let Ok(stdout) = String::from_utf8(stdout) else {
        let problem = "the program's standard output is not UTF-8 text; have it write such data to a mount";
        return Err(StepFailure::Contract(problem.to_owned()));
    };
    Ok(json!({ "stdout": Value::String(stdout) }).to_string())
}
