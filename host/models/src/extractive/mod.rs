//! `builtin/extractive`: a summariser that picks sentences. It writes nothing of its own, needs no network, and
//! gives the same answer to the same text on every machine.
//!
//! It takes the last message of the user as the document and answers with the sentences that say most of it,
//! verbatim apart from line breaks within them, in their own order, one per line. Other messages and
//! `temperature` have no influence. Tokens are words between white space.

mod ranking;
mod sentences;

use handshake_core::model::{GenerateRequest, GenerateResponse, ModelError, Role, TokenUsage};
use serde_json::Value;

/// Name of the provider.
pub(crate) const PROVIDER: &str = "builtin/extractive";
/// Name and version of the algorithm; raised when answers change.
pub(crate) const MODEL: &str = "builtin/extractive@1";

/// Sentences when the request names no number.
const DEFAULT_SENTENCES: usize = 3;
/// The most that may be asked for.
const MOST_SENTENCES: u64 = 20;
/// Sentences considered. What follows in a longer text is not read, and `finish_reason` is `length`; this bounds
/// the work that one request can cause.
const CONSIDERED: usize = 2000;

pub(crate) async fn generate(request: &GenerateRequest) -> Result<GenerateResponse, ModelError> {
    let invalid = |reason: String| ModelError::Invalid { model: request.model.clone(), reason };
    let wanted = wanted(request).map_err(invalid)?;
    let document =
        request.messages.iter().rev().find(|message| message.role == Role::User).map(|message| message.content.clone());
    let document = document.ok_or_else(|| invalid("there is no message of the user to summarise".into()))?;
    let prompt_tokens = request.messages.iter().map(|message| words(&message.content)).sum();
    let budget = request.max_tokens.map(u64::from);
    // A long text takes a while to rank; other work goes on meanwhile.
    let summary = tokio::task::spawn_blocking(move || summarise(&document, wanted, budget));
    let summary = summary.await.map_err(|_| ModelError::Failed {
        model: request.model.clone(),
        reason: "the summariser crashed".into(),
        transient: false,
    })?;
    let completion_tokens = words(&summary.text);
    Ok(GenerateResponse {
        text: summary.text,
        model: MODEL.to_owned(),
        finish_reason: if summary.complete { "stop" } else { "length" }.to_owned(),
        usage: TokenUsage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
    })
}

/// How many sentences the request asks for.
fn wanted(request: &GenerateRequest) -> Result<usize, String> {
    if let Some(unknown) = request.options.keys().find(|name| *name != "sentences") {
        let shown: String = unknown.chars().take(40).collect();
        return Err(format!(
            "option `{}` is not known; `{PROVIDER}` knows `sentences`",
            handshake_core::terminal::escape(&shown, false)
        ));
    }
    match request.options.get("sentences").map(Value::as_u64) {
        None => Ok(DEFAULT_SENTENCES),
        Some(Some(number @ 1..=MOST_SENTENCES)) => usize::try_from(number).map_err(|error| error.to_string()),
        Some(_) => Err(format!("option `sentences` must be a whole number from 1 to {MOST_SENTENCES}")),
    }
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

struct Summary {
    text: String,
    /// Whether all of the text was considered and everything picked fitted.
    complete: bool,
}

fn summarise(document: &str, wanted: usize, budget: Option<u64>) -> Summary {
    let (sentences, all) = sentences::split(document, CONSIDERED);
    let costs: Vec<u64> = sentences.iter().map(|sentence| words(sentence)).collect();
    let mut left = budget;
    let mut cut = false;
    let mut picked = Vec::new();
    // What does not fit the budget of tokens makes room for the next best.
    ranking::pick(&sentences, |at| {
        if left.is_some_and(|left| costs[at] > left) {
            cut = true;
            return ranking::Answer::Skip;
        }
        left = left.map(|left| left - costs[at]);
        picked.push(at);
        if picked.len() < wanted { ranking::Answer::Take } else { ranking::Answer::Enough }
    });
    picked.sort_unstable();
    let lines: Vec<&str> = picked.iter().map(|at| sentences[*at].as_str()).collect();
    Summary { text: lines.join("\n"), complete: all && !cut }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
