//! Between the raw exports and a typed step function. `#[step]` expands to these.

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;

use crate::bindings::exports::handshake::step::handler as raw;
use crate::context::Context;
use crate::error::StepError;
use crate::output::IntoOutput;

/// Describes a step; the schemas come from the function's types.
pub fn describe<I: JsonSchema, T: IntoOutput>(
    _step: fn(Context, I) -> Result<T, StepError>,
    name: &str,
    version: &str,
    capabilities: &[&str],
) -> raw::Descriptor {
    raw::Descriptor {
        name: name.to_owned(),
        version: version.to_owned(),
        input_schema: schema::<I>(),
        output_schema: schema::<T::Value>(),
        capabilities: capabilities.iter().map(|&id| id.to_owned()).collect(),
    }
}

fn schema<T: JsonSchema>() -> String {
    SchemaGenerator::default().into_root_schema_for::<T>().as_value().to_string()
}

/// Parses the input, runs the step, writes its output.
pub fn run<I: DeserializeOwned, T: IntoOutput>(
    step: fn(Context, I) -> Result<T, StepError>,
    context: Context,
    input: &str,
) -> Result<raw::Output, raw::StepError> {
    let input = serde_json::from_str(input).map_err(|error| StepError::InvalidInput(error.to_string()))?;
    let output = step(context, input)?.into_output();
    let value = serde_json::to_string(&output.value)
        .map_err(|error| StepError::Permanent(format!("the output is not JSON: {error}")))?;
    let metrics = output.metrics.into_iter().map(|(name, value)| raw::Metric { name, value }).collect();
    Ok(raw::Output { value, metrics })
}

/// Exports a function as this component's step. `#[step]` is the usual way to call it.
#[doc(hidden)]
#[macro_export]
macro_rules! export {
    ($run:path, $($key:ident = $value:expr),* $(,)?) => {
        const _: () = {
            struct Step;

            impl $crate::bindings::exports::handshake::step::handler::Guest for Step {
                fn describe() -> $crate::bindings::exports::handshake::step::handler::Descriptor {
                    #[allow(unused_mut)]
                    let mut step = $crate::step::Identity {
                        name: ::core::env!("CARGO_PKG_NAME"),
                        version: ::core::env!("CARGO_PKG_VERSION"),
                        capabilities: &[],
                    };
                    $( step.$key = $crate::export!(@value $key $value); )*
                    $crate::step::describe($run, step.name, step.version, step.capabilities)
                }

                fn run(
                    context: $crate::Context,
                    input: ::std::string::String,
                ) -> ::core::result::Result<
                    $crate::bindings::exports::handshake::step::handler::Output,
                    $crate::bindings::exports::handshake::step::handler::StepError,
                > {
                    $crate::step::run($run, context, &input)
                }
            }

            $crate::bindings::export_handler!(Step with_types_in $crate::bindings);
        };
    };
    (@value capabilities $value:expr) => { &$value };
    (@value $key:ident $value:expr) => { $value };
}

/// What a step says about itself besides its types.
pub struct Identity {
    /// The plugin's id.
    pub name: &'static str,
    /// The plugin's version.
    pub version: &'static str,
    /// Capabilities that it may ask for.
    pub capabilities: &'static [&'static str],
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::context::AccessMode;
    use crate::output::Measured;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Input {
        #[schemars(range(min = 1, max = 20))]
        sentences: u32,
    }

    #[derive(serde::Serialize, schemars::JsonSchema)]
    struct Output {
        doubled: u32,
    }

    fn double(_context: Context, input: Input) -> Result<Measured<Output>, StepError> {
        match input.sentences {
            0 => Err(StepError::transient("not now")),
            sentences => Ok(Measured::new(Output { doubled: sentences * 2 }).metric("doublings", 1.0)),
        }
    }

    fn context() -> Context {
        Context {
            run: "r".into(),
            job: "j".into(),
            step: "s".into(),
            index: None,
            attempt: 1,
            trace: "0".repeat(32),
            idempotency_key: "k".into(),
            access_mode: AccessMode::AnalysisOnly,
            deadline: 0,
        }
    }

    #[test]
    fn a_step_describes_itself_with_the_schemas_of_its_types() {
        let descriptor = describe(double, "double", "0.1.0", &["model.infer"]);
        assert_eq!(descriptor.capabilities, ["model.infer"]);
        let input: serde_json::Value = serde_json::from_str(&descriptor.input_schema).unwrap();
        assert_eq!(input["required"], serde_json::json!(["sentences"]));
        assert_eq!(input["additionalProperties"], serde_json::json!(false));
        assert_eq!(input["properties"]["sentences"]["maximum"], 20);
        let output: serde_json::Value = serde_json::from_str(&descriptor.output_schema).unwrap();
        assert_eq!(output["properties"]["doubled"]["type"], "integer");
    }

    #[test]
    fn a_step_takes_and_gives_json() {
        let output = run(double, context(), r#"{"sentences":4}"#).unwrap();
        assert_eq!(output.value, r#"{"doubled":8}"#);
        assert_eq!(output.metrics.len(), 1);
    }

    #[test]
    fn input_of_another_shape_is_invalid_input_and_says_where() {
        for wrong in ["", "[]", r#"{"sentences":"4"}"#, r#"{"sentences":4,"more":1}"#] {
            match run(double, context(), wrong) {
                Err(raw::StepError::InvalidInput(text)) => assert!(text.contains("line 1"), "{text}"),
                other => unreachable!("{wrong} gave {other:?}"),
            }
        }
    }

    #[test]
    fn errors_of_the_step_reach_the_host() {
        let error = run(double, context(), r#"{"sentences":0}"#).unwrap_err();
        assert!(matches!(error, raw::StepError::Transient(text) if text == "not now"));
    }
}
