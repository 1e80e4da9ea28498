//! What the operator writes about models, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use handshake_core::workflow::Period;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One configured model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "provider", deny_unknown_fields)]
pub enum ModelSettings {
    /// Part of the host: picks the sentences that say most of a text. Not a language model.
    #[serde(rename = "builtin/extractive")]
    Extractive {},
    /// A server that speaks the OpenAI protocol: OpenAI, Ollama, llama.cpp, vLLM and others.
    #[serde(rename = "openai")]
    OpenAi(OpenAiSettings),
}

/// A server that speaks the OpenAI protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenAiSettings {
    /// Up to and without `/chat/completions`, for example `http://localhost:11434/v1`.
    pub base_url: String,
    /// The server's name for the model.
    pub model: String,
    /// Environment variable that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// File that holds the key; only its owner may have access to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// How long one attempt may take, the answer included.
    #[serde(default = "OpenAiSettings::default_timeout")]
    pub timeout: Period,
    /// Attempts in all, the first included; 1 to 10.
    #[serde(default = "OpenAiSettings::default_attempts")]
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// The most tokens that any request may ask for; also sent with requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
}

impl OpenAiSettings {
    fn default_timeout() -> Period {
        Period(Duration::from_secs(60))
    }

    fn default_attempts() -> u32 {
        3
    }

    /// The base URL, checked.
    pub(crate) fn url(&self) -> Result<Url, &'static str> {
        let url = Url::parse(&self.base_url)
            .map_err(|_| "`base_url` is not a URL; write for example `http://localhost:11434/v1`")?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("`base_url` must begin with `http://` or `https://` and name a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("`base_url` must hold no user or password; use `key_env` or `key_file`");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("`base_url` must hold no query and no fragment");
        }
        Ok(url)
    }

    fn check(&self) -> Result<(), &'static str> {
        self.url()?;
        if self.model.is_empty() {
            return Err("`model` is empty; give the server's name for the model");
        }
        if self.key_env.is_some() && self.key_file.is_some() {
            return Err("give `key_env` or `key_file`, not both");
        }
        if self.timeout.0.is_zero() {
            return Err("`timeout` must be longer than nothing");
        }
        if !(1..=10).contains(&self.attempts) {
            return Err("`attempts` must be 1 to 10");
        }
        if self.max_tokens == Some(0) {
            return Err("`max_tokens` must be at least 1");
        }
        Ok(())
    }
}

/// Why models cannot be used as configured. No message holds a key.
#[derive(Debug, thiserror::Error)]
pub enum ModelSettingsError {
    /// A value is not acceptable.
    #[error("model `{model}`: {problem}")]
    Invalid {
        /// Configured name.
        model: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The file with the key cannot be read.
    #[error("model `{model}`: cannot read the key file `{path}`")]
    KeyFile {
        /// Configured name.
        model: String,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Others than its owner have access to the file.
    #[error(
        "model `{model}`: the key file `{path}` is accessible to others than its owner (mode {mode:03o}); run `chmod 600 {path}`"
    )]
    KeyFileMode {
        /// Configured name.
        model: String,
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Checks names and values of all models.
pub(crate) fn check(settings: &BTreeMap<String, ModelSettings>) -> Result<(), ModelSettingsError> {
    for (model, settings) in settings {
        let invalid = |problem: &str| ModelSettingsError::Invalid { model: model.clone(), problem: problem.to_owned() };
        // The same letters as in the scope of a capability id: otherwise no grant could name the model.
        if model.is_empty()
            || model.len() > 128
            || !model.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
        {
            return Err(invalid(
                "a model's name has 1 to 128 letters, digits, `.`, `_`, `-` and `/`, so that grants can name it",
            ));
        }
        if let ModelSettings::OpenAi(settings) = settings {
            settings.check().map_err(invalid)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<ModelSettings, String> {
        let settings: ModelSettings = serde_json::from_value(value).map_err(|error| error.to_string())?;
        check(&BTreeMap::from([("m".to_owned(), settings.clone())])).map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn settings_are_read_with_their_defaults() {
        assert_eq!(read(json!({ "provider": "builtin/extractive" })).unwrap(), ModelSettings::Extractive {});
        let ModelSettings::OpenAi(settings) =
            read(json!({ "provider": "openai", "base_url": "http://localhost:11434/v1", "model": "llama3" })).unwrap()
        else {
            unreachable!()
        };
        assert_eq!((settings.timeout.0, settings.attempts, settings.max_tokens), (Duration::from_secs(60), 3, None));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let openai = |more: Value| {
            let mut value = json!({ "provider": "openai", "base_url": "https://h/v1", "model": "m" });
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            value
        };
        for value in [
            json!({ "provider": "other" }),
            json!({ "provider": "builtin/extractive", "model": "x" }),
            openai(json!({ "key": "sk-1" })),
            openai(json!({ "base_url": "localhost:11434" })),
            openai(json!({ "base_url": "ftp://h/v1" })),
            openai(json!({ "base_url": "https://user:pw@h/v1" })),
            openai(json!({ "base_url": "https://h/v1?key=1" })),
            openai(json!({ "key_env": "A", "key_file": "b" })),
            openai(json!({ "timeout": "0s" })),
            openai(json!({ "attempts": 0 })),
            openai(json!({ "attempts": 11 })),
            openai(json!({ "model": "" })),
        ] {
            assert!(read(value.clone()).is_err(), "{value}");
        }
        let spaced = BTreeMap::from([("my model".to_owned(), ModelSettings::Extractive {})]);
        assert!(check(&spaced).is_err());
    }
}
