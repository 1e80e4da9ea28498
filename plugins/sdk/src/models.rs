//! Language models that the host has credentials for.
//!
//! ```no_run
//! use handshake_step::prelude::*;
//!
//! fn title(text: &str) -> Result<String, StepError> {
//!     let request = models::Request::new("default").system("Answer with a title.").user(text);
//!     Ok(request.max_tokens(20).temperature(0.0).send()?.text)
//! }
//! ```

use serde_json::{Map, Value};

use crate::bindings::handshake::step::models as raw;
use crate::error::CallError;

pub use raw::{GenerateResponse as Response, Role, Usage};

/// A request for text, built message by message, oldest first.
#[derive(Debug, Clone)]
pub struct Request {
    model: String,
    messages: Vec<raw::Message>,
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    options: Map<String, Value>,
}

impl Request {
    /// A request to the model of this name in the host's configuration.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), messages: Vec::new(), max_tokens: None, temperature: None, options: Map::new() }
    }

    /// Adds a message.
    #[must_use]
    pub fn message(mut self, role: Role, content: impl Into<String>) -> Self {
        self.messages.push(raw::Message { role, content: content.into() });
        self
    }

    /// Adds a message that says how to answer.
    #[must_use]
    pub fn system(self, content: impl Into<String>) -> Self {
        self.message(Role::System, content)
    }

    /// Adds the user's message.
    #[must_use]
    pub fn user(self, content: impl Into<String>) -> Self {
        self.message(Role::User, content)
    }

    /// Upper bound of tokens in the answer; the host may lower it.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Sampling temperature, 0 to 2.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// An option that only some models know. A model refuses options it does not know.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Asks the model. Needs `model.infer:<model>`.
    pub fn send(self) -> Result<Response, CallError> {
        Ok(raw::generate(&self.into())?)
    }
}

impl From<Request> for raw::GenerateRequest {
    fn from(request: Request) -> Self {
        Self {
            model: request.model,
            messages: request.messages,
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            options: (!request.options.is_empty()).then(|| Value::Object(request.options).to_string()),
        }
    }
}

/// Turns texts into vectors, one each, in order. Needs `model.embed:<model>`.
pub fn embed(model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>, CallError> {
    Ok(raw::embed(model, texts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_one_json_object_and_absent_when_empty() {
        let bare = raw::GenerateRequest::from(Request::new("default").user("hello"));
        assert_eq!(bare.options, None);
        assert_eq!(bare.messages.len(), 1);
        let with = raw::GenerateRequest::from(Request::new("default").option("sentences", 3));
        assert_eq!(with.options.as_deref(), Some(r#"{"sentences":3}"#));
    }
}
