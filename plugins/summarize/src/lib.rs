//! Summarizes one document with a language model. The model sees prose: markup that carries no sentences, such as
//! code and tables, is left out.

use handshake_step::prelude::*;

/// What to summarize.
#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The document, as `read-folder` gives it.
    document: Document,
    /// How many sentences the summary should have.
    #[serde(default = "default_sentences")]
    #[schemars(range(min = 1, max = 20))]
    sentences: u32,
    /// The model's name in the host's configuration.
    #[serde(default = "default_model")]
    model: String,
}

fn default_sentences() -> u32 {
    3
}

fn default_model() -> String {
    "default".to_owned()
}

/// A document; further members are ignored.
#[data]
pub struct Document {
    /// Path, passed on.
    path: String,
    /// Title, passed on.
    title: String,
    /// The content.
    artifact: Artifact,
}

/// The summary.
#[data]
pub struct Output {
    /// Path of the document.
    path: String,
    /// Title of the document.
    title: String,
    /// The summary; empty when there was nothing to summarize.
    summary: String,
    /// The model that answered, as it names itself; empty when none was asked.
    model: String,
    /// Tokens of the request.
    input_tokens: u64,
    /// Tokens of the answer.
    output_tokens: u64,
    /// What a reader of the summary should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[step(capabilities = ["model.infer", "artifact.read"])]
fn run(_context: Context, input: Input) -> Result<Output, StepError> {
    let Input { document, sentences, model } = input;
    if !(1..=20).contains(&sentences) {
        return Err(StepError::invalid_input(format!("`sentences` is {sentences}, but must be 1 to 20")));
    }
    let text = artifacts::read_text(&document.artifact)?;
    let text =
        if document.artifact.media_type.starts_with("text/markdown") { handshake_markdown::prose(&text) } else { text };
    let mut output = Output {
        path: document.path,
        title: document.title,
        summary: String::new(),
        model: String::new(),
        input_tokens: 0,
        output_tokens: 0,
        note: None,
    };
    if text.trim().is_empty() {
        output.note = Some("the document has no text to summarize".to_owned());
        return Ok(output);
    }
    let plural = if sentences == 1 { "" } else { "s" };
    let answer = models::Request::new(model)
        .system(format!("Summarize the document in {sentences} sentence{plural}."))
        .user(text)
        // For models that do not read instructions; every model of the host knows this one.
        .option("sentences", sentences)
        .send()?;
    output.summary = answer.text.trim().to_owned();
    output.model = answer.model;
    output.input_tokens = answer.usage.input_tokens;
    output.output_tokens = answer.usage.output_tokens;
    if answer.finish_reason == "length" {
        output.note = Some("the model's answer was cut at its length limit".to_owned());
    }
    Ok(output)
}
