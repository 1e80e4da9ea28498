//! `config`: settings that the operator gave the plugin.

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};

use crate::bindings::handshake::step::config::Host;
use crate::bindings::handshake::step::types::CallError;
use crate::state::StepState;

const INTERFACE: &str = "handshake:step/config@0.1.0";

impl Host for StepState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, CallError>> {
        let arguments = Digest::of_parts(&[key.as_bytes()]);
        match self.permit((INTERFACE, "get"), Axis::ConfigRead, Resource::name(&key), arguments).await {
            Ok(permit) => {
                let value = self.settings.get(&key).map(ToString::to_string);
                permit.succeeded(value.as_ref().map_or(0, |value| value.len() as u64), 0);
                Ok(Ok(value))
            }
            Err(denial) => Ok(Err(denial.into())),
        }
    }
}
