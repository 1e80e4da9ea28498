//! Environment variables: those that the operator passes on, and of these the ones that the step may read. Arguments are
//! ambient, because they come from the step's own input; so is the working directory, which there is none of.

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};
use tracing::Instrument as _;
use wasmtime::component::Linker;

use super::import_span;
use crate::state::StepState;

/// The whole interface: wasmtime's own cannot wait for a decision.
pub(crate) fn link(l: &mut Linker<StepState>) -> wasmtime::Result<()> {
    let mut environment = l.instance("wasi:cli/environment@0.2.12")?;
    environment.func_wrap_async("get-environment", |store, (): ()| {
        let shown = get_environment(store.data());
        let span = import_span!("cli::environment", "get-environment");
        Box::new(async move { Ok((shown.instrument(span).await,)) })
    })?;
    environment.func_wrap("get-arguments", |store, (): ()| Ok((store.data().arguments.clone(),)))?;
    environment.func_wrap("initial-cwd", |_, (): ()| Ok((None::<String>,)))
}

/// WASI has a guest ask for all variables at once. So that a call is one decision here, too, the decision is on those that
/// it may see: its record names what was shown. A guest that may see none gets an empty environment, and the record says
/// why.
fn get_environment(state: &StepState) -> impl Future<Output = Vec<(String, String)>> + Send + use<> {
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
    let shown: Vec<_> = shown.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let call = ("wasi:cli/environment@0.2", "get-environment");
    let permit = state.permit_unseen(call, Axis::EnvRead, resource, Digest::of_parts(&[]));
    async move {
        let Ok(permit) = permit.await else { return Vec::new() };
        let bytes: usize = shown.iter().map(|(name, value)| name.len() + value.len()).sum();
        permit.succeeded(bytes as u64, 0);
        shown
    }
}
