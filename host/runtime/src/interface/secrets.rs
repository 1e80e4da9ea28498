//! `secrets`: placeholders for what the operator issued.

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};

use super::from_storage;
use crate::bindings::handshake::step::secrets::Host;
use crate::bindings::handshake::step::types::CallError;
use crate::state::StepState;

const INTERFACE: &str = "handshake:step/secrets@0.1.0";

impl Host for StepState {
    async fn placeholder(&mut self, name: String) -> wasmtime::Result<Result<String, CallError>> {
        let arguments = Digest::of_parts(&[name.as_bytes()]);
        let permit =
            match self.permit((INTERFACE, "placeholder"), Axis::SecretsUse, Resource::name(&name), arguments).await {
                Ok(permit) => permit,
                Err(denial) => return Ok(Err(denial.into())),
            };
        match self.backends.secrets.placeholder(&permit, &name) {
            Ok(placeholder) => {
                self.issued.issued(&placeholder, &name);
                permit.succeeded(placeholder.len() as u64, 0);
                Ok(Ok(placeholder))
            }
            Err(error) => {
                let (error, label) = from_storage(&error);
                permit.failed(label);
                Ok(Err(error))
            }
        }
    }
}
