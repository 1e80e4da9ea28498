//! Environment variables: those that the operator passes on, and of these the ones that the step may read. Arguments are
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
    /// WASI has a guest ask for all variables at once. So that a call is one decision here, too, the decision is on
    /// those that it may see: its record names what was shown. A guest that may see none gets an empty environment,
    /// and the record says why.
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let state = &self.0;
        // Those that a person has to be asked for are part of the question, and of what is shown once there is an answer.
        let readable = |name: &str| state.gate.may_allow(Axis::EnvRead, &Resource::name(name));
        let all = &state.environment;
        let shown: Vec<_> = all.iter().filter(|(name, _)| readable(name)).collect();
        let names = |names: Vec<&String>| Resource::Names { names: names.into_iter().cloned().collect() };
        let resource = match (shown.is_empty(), all.is_empty()) {
            (false, _) => names(shown.iter().map(|(name, _)| *name).collect()),
            (true, false) => names(all.keys().collect()),
            (true, true) => Resource::Whole,
        };
        let call = ("wasi:cli/environment@0.2", "get-environment");
        let Ok(permit) = state.permit_now(call, Axis::EnvRead, resource, Digest::of_parts(&[])) else {
            return Ok(Vec::new());
        };
        let shown: Vec<_> = shown.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let bytes: usize = shown.iter().map(|(name, value)| name.len() + value.len()).sum();
        permit.succeeded(bytes as u64, 0);
        Ok(shown)
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.0.arguments.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}
