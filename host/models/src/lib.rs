//! Model clients behind one port: a built-in extractive summariser that needs no network, and a client for any
//! OpenAI-compatible server. This is the only crate that talks to models over HTTP.

mod extractive;
mod inference;
mod keys;
mod openai;
mod registry;
mod settings;

pub use keys::{Keys, load_keys};
pub use registry::ModelRegistry;
pub use settings::{ModelSettings, ModelSettingsError, OpenAiSettings};
