//! Summarizes a text with a model.

use handshake_step::prelude::*;

/// What the step takes. Doc comments become descriptions in the schema.
#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The text to summarize.
    text: String,
}

/// What the step gives.
#[data]
pub struct Output {
    /// The summary.
    summary: String,
    /// Its length.
    words: usize,
}

#[step(capabilities = ["model.infer"])]
fn run(_context: Context, input: Input) -> Result<Output, StepError> {
    // A refusal is a value, too: `?` ends the step with it; match on `CallError::Denied` to go on without.
    let answer = models::Request::new("default").user(input.text).send()?;
    let words = answer.text.split_whitespace().count();
    Ok(Output { summary: answer.text, words })
}
