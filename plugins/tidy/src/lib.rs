//! Proposes how to tidy up one document. Nothing here changes anything: the host validates what is proposed, and a
//! person decides.

mod rules;

use handshake_step::prelude::*;

use crate::rules::Findings;
use documents::{InsertBlock, NewBlock, Operation, UpdateMetadata};

/// What to tidy up.
#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The document's id.
    document: String,
    /// How many sentences the summary at the top has; 0 for no summary.
    #[serde(default = "default_sentences")]
    #[schemars(range(max = 20))]
    sentences: u32,
    /// The model's name in the host's configuration.
    #[serde(default = "default_model")]
    model: String,
}

fn default_sentences() -> u32 {
    2
}

fn default_model() -> String {
    "default".to_owned()
}

/// What is proposed, in numbers.
#[data]
pub struct Output {
    /// The document's id.
    document: String,
    /// The version that was read.
    version: u64,
    /// Blocks that would be new.
    inserted: usize,
    /// Blocks that would get other content.
    replaced: usize,
    /// Blocks that would stand elsewhere.
    moved: usize,
    /// Blocks that would go.
    deleted: usize,
    /// The title that the document would get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
}

#[step(capabilities = ["doc.read", "doc.propose", "model.infer"])]
fn run(_context: Context, input: Input) -> Result<Output, StepError> {
    let Input { document: id, sentences, model } = input;
    if sentences > 20 {
        return Err(StepError::invalid_input(format!("`sentences` is {sentences}, but must be 0 to 20")));
    }
    let document = documents::read(&id)?;
    let Findings { mut operations, title, summary_behind } = rules::look(&document);
    if let Some(after) = summary_behind.filter(|_| sentences > 0)
        && let Some(content) = summary(&document, sentences, model)?
    {
        let block = NewBlock { kind: "quote".to_owned(), content };
        operations.insert(0, Operation::InsertBlock(InsertBlock { after, block }));
    }
    if let Some(title) = &title {
        let value = Some(handshake_step::serde_json::Value::from(title.as_str()).to_string());
        operations.push(Operation::UpdateMetadata(UpdateMetadata { key: "title".to_owned(), value }));
    }
    if !operations.is_empty() {
        documents::propose(&id, document.info.version, &operations)?;
    }
    let count = |is: fn(&Operation) -> bool| operations.iter().filter(|operation| is(operation)).count();
    Ok(Output {
        document: id,
        version: document.info.version,
        inserted: count(|operation| matches!(operation, Operation::InsertBlock(_))),
        replaced: count(|operation| matches!(operation, Operation::ReplaceBlock(_))),
        moved: count(|operation| matches!(operation, Operation::MoveBlock(_))),
        deleted: count(|operation| matches!(operation, Operation::DeleteBlock(_))),
        title,
    })
}

/// A quotation with what the model says of the document; none when there is nothing to say.
fn summary(document: &documents::Document, sentences: u32, model: String) -> Result<Option<String>, CallError> {
    let text: Vec<&str> = document.blocks.iter().map(|block| block.content.as_str()).collect();
    let prose = handshake_markdown::prose(&text.join("\n\n"));
    if prose.trim().is_empty() {
        return Ok(None);
    }
    let plural = if sentences == 1 { "" } else { "s" };
    let answer = models::Request::new(model)
        .system(format!("Summarize the document in {sentences} sentence{plural}."))
        .user(prose)
        // For models that do not read instructions; every model of the host knows this one.
        .option("sentences", sentences)
        .send()?;
    Ok(rules::summary_block(&answer.text))
}
