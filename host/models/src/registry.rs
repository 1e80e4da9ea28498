//! All configured models behind the core's port, with one record per call.

use std::collections::BTreeMap;

use async_trait::async_trait;
use handshake_core::Digest;
use handshake_core::capability::Axis;
use handshake_core::credential::Unusable;
use handshake_core::gate::{GateServices, Permit};
use handshake_core::model::{EmbedResponse, GenerateRequest, GenerateResponse, ModelError, ModelInfo, Models};
use serde::Serialize;

use crate::extractive;
use crate::inference::Inference;
use crate::keys::Keys;
use crate::openai::OpenAi;
use crate::settings::{self, ModelSettings, ModelSettingsError};

/// Name of the model that exists without being configured.
const DEFAULT: &str = "default";

/// All configured models.
pub struct ModelRegistry {
    models: BTreeMap<String, Provider>,
    services: GateServices,
}

enum Provider {
    Extractive,
    OpenAi(Box<OpenAi>),
}

impl ModelRegistry {
    /// Sets up the configured models with keys from [`crate::load_keys`]. Nothing is contacted. Without a model
    /// named `default`, `builtin/extractive` gets that name.
    pub fn new(
        settings: BTreeMap<String, ModelSettings>,
        mut keys: Keys,
        services: GateServices,
    ) -> Result<Self, ModelSettingsError> {
        settings::check(&settings)?;
        let mut models = BTreeMap::from([(DEFAULT.to_owned(), Provider::Extractive)]);
        for (name, settings) in settings {
            let provider = match settings {
                ModelSettings::Extractive {} => Provider::Extractive,
                ModelSettings::OpenAi(settings) => {
                    Provider::OpenAi(Box::new(OpenAi::new(&name, settings, keys.take(&name))?))
                }
            };
            models.insert(name, provider);
        }
        Ok(Self { models, services })
    }

    /// Every model by name, with the reason why it cannot be asked if its key is missing.
    pub fn usable(&self) -> BTreeMap<String, Option<Unusable>> {
        let usable = self.models.iter().map(|(name, provider)| {
            let missing = match provider {
                Provider::Extractive => None,
                Provider::OpenAi(server) => server.missing_key(),
            };
            let remedy =
                format!("provide the key and start the host again, or correct [models.{name}] in handshake.toml");
            (name.clone(), missing.map(|what| Unusable { what, remedy }))
        });
        usable.collect()
    }

    fn provider(&self, name: &str) -> Result<&Provider, ModelError> {
        self.models.get(name).ok_or_else(|| {
            let shown: String = name.chars().take(128).collect();
            ModelError::Unknown(handshake_core::terminal::escape(&shown, false).into_owned())
        })
    }

    /// Checks the permit and reserves the record; after this the call counts.
    fn begin<'a>(
        &'a self,
        permit: &'a Permit,
        axis: Axis,
        model: &str,
        request: &impl Serialize,
    ) -> Result<Inference<'a>, ModelError> {
        let not_made = |reason: String| ModelError::NotMade { model: model.to_owned(), reason };
        permit.require(axis).map_err(|error| not_made(error.to_string()))?;
        let canonical = serde_jcs::to_vec(request)
            .map_err(|error| not_made(format!("the request has no canonical form: {error}")))?;
        Inference::begin(&self.services, permit, axis, model, Digest::of(&canonical))
            .map_err(|error| not_made(error.to_string()))
    }
}

#[async_trait]
impl Models for ModelRegistry {
    fn list(&self) -> Vec<ModelInfo> {
        let info = |(name, provider): (&String, &Provider)| match provider {
            Provider::Extractive => ModelInfo {
                name: name.clone(),
                provider: extractive::PROVIDER.into(),
                model: extractive::MODEL.into(),
                endpoint: None,
                has_key: false,
            },
            Provider::OpenAi(server) => server.info(name),
        };
        self.models.iter().map(info).collect()
    }

    async fn generate(&self, permit: &Permit, request: &GenerateRequest) -> Result<GenerateResponse, ModelError> {
        let inference = self.begin(permit, Axis::ModelInfer, &request.model, request)?;
        let trace = permit.identity().traceparent();
        let result = match self.provider(&request.model) {
            Ok(Provider::Extractive) => extractive::generate(request).await,
            Ok(Provider::OpenAi(server)) => server.generate(request, trace.as_deref()).await,
            Err(error) => Err(error),
        };
        match &result {
            Ok(response) => inference.succeeded(response.usage, Digest::of(response.text.as_bytes())),
            Err(error) => inference.failed(error),
        }
        result
    }

    async fn embed(&self, permit: &Permit, model: &str, texts: &[String]) -> Result<EmbedResponse, ModelError> {
        let inference = self.begin(permit, Axis::ModelEmbed, model, &(model, texts))?;
        let trace = permit.identity().traceparent();
        let result = match self.provider(model) {
            Ok(Provider::Extractive) => Err(ModelError::Invalid {
                model: model.to_owned(),
                reason: "`builtin/extractive` does not embed".into(),
            }),
            Ok(Provider::OpenAi(server)) => server.embed(texts, trace.as_deref()).await,
            Err(error) => Err(error),
        };
        match &result {
            Ok(response) => inference.succeeded(response.usage, digest_of(&response.vectors)),
            Err(error) => inference.failed(error),
        }
        result
    }
}

/// Over the vectors' lengths and little-endian floats.
fn digest_of(vectors: &[Vec<f32>]) -> Digest {
    let bytes: Vec<Vec<u8>> =
        vectors.iter().map(|vector| vector.iter().flat_map(|number| number.to_le_bytes()).collect()).collect();
    let parts: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    Digest::of_parts(&parts)
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
