//! What a step returns: a value, and numbers about how it was made.
//!
//! ```
//! use handshake_step::prelude::*;
//!
//! #[data]
//! struct Output {
//!     words: u64,
//! }
//!
//! fn counted(text: &str, skipped: u32) -> Measured<Output> {
//!     let words = text.split_whitespace().count() as u64;
//!     Measured::new(Output { words }).metric("documents.skipped", skipped.into())
//! }
//! ```

use schemars::JsonSchema;
use serde::Serialize;

/// A value with metrics. Steps without metrics return the value itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured<T> {
    pub(crate) value: T,
    pub(crate) metrics: Vec<(String, f64)>,
}

impl<T> Measured<T> {
    /// A value without metrics yet.
    pub fn new(value: T) -> Self {
        Self { value, metrics: Vec::new() }
    }

    /// Adds a number, for example `documents.skipped`. It must be finite.
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.push((name.into(), value));
        self
    }
}

/// What a step function may return.
pub trait IntoOutput {
    /// What the output schema describes.
    type Value: Serialize + JsonSchema;

    /// The value and its metrics.
    fn into_output(self) -> Measured<Self::Value>;
}

impl<T: Serialize + JsonSchema> IntoOutput for T {
    type Value = T;

    fn into_output(self) -> Measured<T> {
        Measured::new(self)
    }
}

impl<T: Serialize + JsonSchema> IntoOutput for Measured<T> {
    type Value = T;

    fn into_output(self) -> Self {
        self
    }
}
