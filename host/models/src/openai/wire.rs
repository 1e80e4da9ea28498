//! The protocol's messages, as far as they are used. Members that are not known are ignored: servers differ.

use handshake_core::model::{Message, TokenUsage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Counts beyond this are nonsense, and adding them up must not overflow.
const MOST_TOKENS: u64 = 1 << 40;

#[derive(Serialize)]
pub(super) struct ChatRequest<'a> {
    pub(super) model: &'a str,
    pub(super) messages: &'a [Message],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f32>,
}

#[derive(Deserialize)]
pub(super) struct ChatAnswer {
    pub(super) model: Option<String>,
    pub(super) choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    pub(super) message: Said,
    pub(super) finish_reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) content: Option<String>,
}

#[derive(Serialize)]
pub(super) struct EmbedRequest<'a> {
    pub(super) model: &'a str,
    pub(super) input: &'a [String],
}

#[derive(Deserialize)]
pub(super) struct EmbedAnswer {
    pub(super) model: Option<String>,
    pub(super) data: Vec<Embedding>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
pub(super) struct Embedding {
    pub(super) index: u64,
    pub(super) embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl ChatAnswer {
    pub(super) fn usage(&self) -> TokenUsage {
        counted(self.usage.as_ref())
    }
}

impl EmbedAnswer {
    pub(super) fn usage(&self) -> TokenUsage {
        counted(self.usage.as_ref())
    }
}

/// Zero when the server does not count. The total is the sum, whatever the server says.
fn counted(usage: Option<&Usage>) -> TokenUsage {
    let (prompt, completion) =
        usage.map_or((0, 0), |usage| (usage.prompt_tokens.min(MOST_TOKENS), usage.completion_tokens.min(MOST_TOKENS)));
    TokenUsage { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
}

/// What a server says when it refuses: `{"error": {"message", "code", "type"}}`, `{"error": "…"}`,
/// `{"message": "…"}`, `{"detail": "…"}`, or plain text.
pub(super) struct Complaint {
    pub(super) message: String,
    codes: Vec<String>,
}

impl Complaint {
    pub(super) fn read(content: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(content) else {
            return Self { message: String::from_utf8_lossy(content).into_owned(), codes: Vec::new() };
        };
        let error = value.get("error").unwrap_or(&value);
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = error
            .as_str()
            .map(str::to_owned)
            .or_else(|| text("message"))
            .or_else(|| text("detail"))
            .unwrap_or_default();
        Self { message, codes: ["code", "type"].into_iter().filter_map(text).collect() }
    }

    pub(super) fn is_about_budget(&self) -> bool {
        self.codes.iter().any(|code| {
            matches!(code.as_str(), "insufficient_quota" | "billing_hard_limit_reached" | "billing_not_active")
        })
    }
}
