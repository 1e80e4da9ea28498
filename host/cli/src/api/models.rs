//! Models: what is configured, and trying one out.

use axum::Json;
use axum::extract::{Path, State};
use handshake_core::Digest;
use handshake_core::capability::{Axis, CapabilityId, Resource};
use handshake_core::gate::Call;
use handshake_core::model::{GenerateRequest, GenerateResponse, Message, ModelError, ModelInfo, Role};
use handshake_core::token::Right;
use serde::{Deserialize, Serialize};

use super::{Answer, Caller, Host, Routes};
use crate::error::CliError;

/// Short, and with something to pick from for an extractive model.
const QUESTION: &str = "Answer in one short sentence: does this model work? A model that works gives back some text. Anything else is an error.";

pub(super) fn routes() -> Routes {
    Routes::new().get(Right::See, "/models", "Configured models", list).post(
        Right::Operate,
        "/models/{name}/test",
        "Asks a model",
        test,
    )
}

/// Configured models.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ModelList {
    /// By name.
    pub(crate) models: Vec<ModelInfo>,
}

/// What a model answered.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct ModelTest {
    /// Its configured name.
    pub(crate) name: String,
    /// The answer.
    pub(crate) response: GenerateResponse,
    /// How long it took.
    pub(crate) latency_ms: u64,
}

async fn list(State(host): Host) -> Answer<ModelList> {
    Ok(Json(ModelList { models: host.models.list() }))
}

/// Asks the model for real, through a gate of the person's own: the operator's policy still decides.
async fn test(State(host): Host, caller: Caller, Path(name): Path<String>) -> Answer<ModelTest> {
    if !host.models.list().iter().any(|model| model.name == name) {
        return Err(ModelError::Unknown(name).into());
    }
    let capability: CapabilityId =
        format!("{}:{name}", Axis::ModelInfer).parse().map_err(|error| CliError::bad_input(&error))?;
    let gate = host.gate_of(caller.actor, &capability)?;

    let request = GenerateRequest {
        model: name.clone(),
        messages: vec![Message { role: Role::User, content: QUESTION.to_owned() }],
        max_tokens: Some(64),
        temperature: Some(0.0),
        options: serde_json::Map::new(),
    };
    let arguments = serde_json::to_vec(&request)
        .map_err(|error| CliError::internal("the request cannot be written as JSON").because(&error))?;
    let call = Call {
        interface: "handshake:step/models@0.1.0",
        function: "generate",
        axis: Axis::ModelInfer,
        resource: Resource::name(name.clone()),
        arguments: Digest::of(&arguments),
    };
    let permit = gate.permit(call).await?;
    let started = host.gate.clock.monotonic();
    match host.models.generate(&permit, &request).await {
        Ok(response) => {
            permit.succeeded(response.text.len() as u64, arguments.len() as u64);
            let latency = host.gate.clock.monotonic().saturating_sub(started);
            Ok(Json(ModelTest { name, response, latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX) }))
        }
        Err(error) => {
            permit.failed(error.label());
            Err(error.into())
        }
    }
}
