//! `models`: text and vectors from the models that the host has credentials for.

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};
use handshake_core::gate::Call;
use handshake_core::model::{self, ModelError, TokenUsage};

use crate::bindings::handshake::step::models::{GenerateRequest, GenerateResponse, Host, Role, Usage};
use crate::bindings::handshake::step::types::CallError;
use crate::state::StepState;

const INTERFACE: &str = "handshake:step/models@0.1.0";

impl Host for StepState {
    async fn generate(&mut self, request: GenerateRequest) -> wasmtime::Result<Result<GenerateResponse, CallError>> {
        let options = match request.options.as_deref().map(serde_json::from_str) {
            None => serde_json::Map::new(),
            Some(Ok(serde_json::Value::Object(options))) => options,
            // Not yet a request that could be decided on; nothing happened.
            Some(_) => return Ok(Err(CallError::Invalid("options: must be one JSON object".into()))),
        };
        let mut request = model::GenerateRequest {
            model: request.model,
            messages: request
                .messages
                .into_iter()
                .map(|message| model::Message { role: role(message.role), content: message.content })
                .collect(),
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            options,
        };
        let encoded = serde_json::to_vec(&request).unwrap_or_default();
        let arguments = Digest::of_parts(&[&encoded]);
        let call = Call {
            interface: INTERFACE,
            function: "generate",
            axis: Axis::ModelInfer,
            resource: Resource::name(&request.model),
            arguments,
        };
        let mut permit = match self.permit_answer(call, request.max_tokens).await {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial.into())),
        };
        request.max_tokens = permit.max_tokens(request.max_tokens);
        match self.backends.models.generate(&permit, &request).await {
            Ok(response) => {
                permit.spent(response.usage.total_tokens);
                permit.succeeded(response.text.len() as u64, encoded.len() as u64);
                self.count(response.usage);
                Ok(Ok(GenerateResponse {
                    text: response.text,
                    model: response.model,
                    finish_reason: response.finish_reason,
                    usage: Usage {
                        input_tokens: response.usage.prompt_tokens,
                        output_tokens: response.usage.completion_tokens,
                    },
                }))
            }
            Err(error) => {
                permit.failed(error.label());
                Ok(Err(from_model(&error)))
            }
        }
    }

    async fn embed(&mut self, model: String, texts: Vec<String>) -> wasmtime::Result<Result<Vec<Vec<f32>>, CallError>> {
        let encoded = serde_json::to_vec(&(&model, &texts)).unwrap_or_default();
        let arguments = Digest::of_parts(&[&encoded]);
        let permit = self.permit((INTERFACE, "embed"), Axis::ModelEmbed, Resource::name(&model), arguments).await;
        let mut permit = match permit {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial.into())),
        };
        match self.backends.models.embed(&permit, &model, &texts).await {
            Ok(response) => {
                permit.spent(response.usage.total_tokens);
                let bytes = response.vectors.iter().map(|vector| vector.len() as u64 * 4).sum();
                permit.succeeded(bytes, encoded.len() as u64);
                self.count(response.usage);
                Ok(Ok(response.vectors))
            }
            Err(error) => {
                permit.failed(error.label());
                Ok(Err(from_model(&error)))
            }
        }
    }
}

impl StepState {
    fn count(&mut self, usage: TokenUsage) {
        self.metrics.input_tokens += usage.prompt_tokens;
        self.metrics.output_tokens += usage.completion_tokens;
        self.metrics.total_tokens += usage.total_tokens;
        self.metrics.tokens_executor += usage.total_tokens;
    }
}

fn role(role: Role) -> model::Role {
    match role {
        Role::System => model::Role::System,
        Role::User => model::Role::User,
        Role::Assistant => model::Role::Assistant,
    }
}

fn from_model(error: &ModelError) -> CallError {
    match error {
        ModelError::Unknown(_) => CallError::NotFound(error.to_string()),
        ModelError::Invalid { .. } => CallError::Invalid(error.to_string()),
        _ if error.is_transient() => CallError::Unavailable(error.to_string()),
        _ => CallError::Failed(error.to_string()),
    }
}
