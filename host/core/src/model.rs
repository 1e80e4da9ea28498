//! Models as steps see them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::gate::Permit;
use crate::job::canonical_enum;

canonical_enum! {
    /// Who speaks.
    Role, "role" {
        /// The one who sets the rules.
        System = "system",
        /// The one who asks.
        User = "user",
        /// The model.
        Assistant = "assistant",
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// A request for text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    /// The model's name in the host's configuration.
    pub model: String,
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Upper bound of tokens in the answer.
    pub max_tokens: Option<u32>,
    /// 0 to 2.
    pub temperature: Option<f32>,
    /// Options that only some models know.
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// Tokens used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenUsage {
    /// Of the request.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GenerateResponse {
    /// The text.
    pub text: String,
    /// The model, as it names itself.
    pub model: String,
    /// `stop`, `length`, or the model's own word.
    pub finish_reason: String,
    /// Tokens used.
    pub usage: TokenUsage,
}

/// Vectors for texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbedResponse {
    /// One each, in order.
    pub vectors: Vec<Vec<f32>>,
    /// The model, as it names itself.
    pub model: String,
    /// Tokens used.
    pub usage: TokenUsage,
}

/// Why a model call failed (R8.6). The message starts with the stable code.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No model of that name is configured.
    #[error("no model `{0}` is configured; `handshake models list` shows those there are")]
    Unknown(String),
    /// The request is not acceptable to this model.
    #[error("model `{model}`: {reason}")]
    Invalid {
        /// Configured name.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// The server asked to slow down, and kept asking after the retries.
    #[error("HSK-429-RATE-LIMIT: model `{model}`: {reason}")]
    RateLimit {
        /// Configured name.
        model: String,
        /// What the server said.
        reason: String,
    },
    /// The account behind the model has no budget left.
    #[error("HSK-402-BUDGET-EXCEEDED: model `{model}`: {reason}")]
    BudgetExceeded {
        /// Configured name.
        model: String,
        /// What the server said.
        reason: String,
    },
    /// Anything else: unreachable, time-out, an answer that makes no sense.
    #[error("HSK-500-LLM: model `{model}`: {reason}")]
    Failed {
        /// Configured name.
        model: String,
        /// What happened and what to do.
        reason: String,
        /// Whether trying again later may help.
        transient: bool,
    },
    /// The call was not made, because it could not be recorded, or its permit is for something else.
    #[error("model `{model}`: the call was not made: {reason}")]
    NotMade {
        /// Configured name.
        model: String,
        /// Why.
        reason: String,
    },
}

impl ModelError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimit { .. } | Self::Failed { transient: true, .. })
    }

    /// The stable label for events.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown-model",
            Self::Invalid { .. } => "invalid-request",
            Self::RateLimit { .. } => "HSK-429-RATE-LIMIT",
            Self::BudgetExceeded { .. } => "HSK-402-BUDGET-EXCEEDED",
            Self::Failed { .. } => "HSK-500-LLM",
            Self::NotMade { .. } => "not-made",
        }
    }
}

/// What is known about a configured model without asking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ModelInfo {
    /// Configured name.
    pub name: String,
    /// `builtin/extractive` or `openai`.
    pub provider: String,
    /// The provider's own name for it.
    pub model: String,
    /// Where it is, without credentials; none when it is part of the host.
    pub endpoint: Option<String>,
    /// Whether credentials are configured and present.
    pub has_key: bool,
}

/// All configured models. Each call is exactly one `llm_inference` event, failed calls included (R6.6).
#[async_trait]
pub trait Models: Send + Sync {
    /// What is configured, by name.
    fn list(&self) -> Vec<ModelInfo>;
    /// Asks for text. The permit must be for `model.infer`.
    async fn generate(&self, permit: &Permit, request: &GenerateRequest) -> Result<GenerateResponse, ModelError>;
    /// Asks for vectors. The permit must be for `model.embed`.
    async fn embed(&self, permit: &Permit, model: &str, texts: &[String]) -> Result<EmbedResponse, ModelError>;
}
