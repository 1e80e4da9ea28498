//! Environment variables: each look is a decision, and in this version always a denial. Arguments are
//! ambient, because they come from the step's own input; so is the working directory, which there is none of.

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};
use wasmtime::component::HasData;
use wasmtime_wasi::p2::bindings::cli::environment::Host;

use crate::state::StepState;

pub(crate) struct GatedEnvironment<'a>(pub(crate) &'a mut StepState);

impl HasData for GatedEnvironment<'static> {
    type Data<'a> = GatedEnvironment<'a>;
}

impl Host for GatedEnvironment<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let call = ("wasi:cli/environment@0.2", "get-environment");
        if let Ok(permit) = self.0.permit_now(call, Axis::EnvRead, Resource::Whole, Digest::of_parts(&[])) {
            permit.succeeded(0, 0);
        }
        // The guest sees an empty environment either way: no variable is handed to it in this version.
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.0.arguments.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}
