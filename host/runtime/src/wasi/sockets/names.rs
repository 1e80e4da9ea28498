//! Name look-up: decided, then done by the host itself. Addresses that no rule lets anything go to are left out.

use std::net::IpAddr;

use async_trait::async_trait;
use handshake_core::Digest;
use handshake_core::capability::{Axis, NetHost, Resource};
use handshake_core::step::LogLevel;
use std::sync::Arc;
use tracing::Instrument as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource as Handle, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::import_span;
use crate::network::{self, NoAddress};
use crate::state::StepState;

/// The addresses of a name, one after the other. They are there when the look-up returns.
struct Addresses(std::vec::IntoIter<IpAddr>);

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {}
}

/// The whole interface: wasmtime's stream of addresses can only be filled by its own look-up.
pub(super) fn link(l: &mut Linker<StepState>) -> wasmtime::Result<()> {
    let mut names = l.instance("wasi:sockets/ip-name-lookup@0.2.12")?;
    names.resource("resolve-address-stream", ResourceType::host::<Addresses>(), |mut store, rep| {
        store.data_mut().table.delete(Handle::<Addresses>::new_own(rep))?;
        Ok(())
    })?;
    names.func_wrap_async("resolve-addresses", |store, (network, name)| {
        Box::new(
            resolve_addresses(store, network, name)
                .instrument(import_span!("sockets::ip_name_lookup", "resolve-addresses")),
        )
    })?;
    names.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: StoreContextMut<'_, StepState>, (stream,): (Handle<Addresses>,)| {
            let _span = import_span!("sockets::ip_name_lookup", "[method]resolve-address-stream.resolve-next-address");
            let next = store.data_mut().table.get_mut(&stream)?.0.next();
            Ok((Ok::<_, ErrorCode>(next.map(IpAddress::from)),))
        },
    )?;
    names.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, StepState>, (stream,): (Handle<Addresses>,)| {
            let _span = import_span!("sockets::ip_name_lookup", "[method]resolve-address-stream.subscribe");
            let pollable: Handle<DynPollable> = subscribe(&mut store.data_mut().table, stream)?;
            Ok((pollable,))
        },
    )
}

async fn resolve_addresses(
    mut store: StoreContextMut<'_, StepState>,
    network: Handle<Network>,
    name: String,
) -> wasmtime::Result<(Result<Handle<Addresses>, ErrorCode>,)> {
    let state = store.data_mut();
    // Without it the guest could not have asked.
    state.table.get(&network)?;
    let resource = Resource::host(&name);
    let call = ("wasi:sockets/ip-name-lookup@0.2", "resolve-addresses");
    let permit = state.permit(call, Axis::NetDns, resource.clone(), Digest::of_parts(&[name.as_bytes()])).await;
    let (Ok(permit), Resource::Host { host }) = (permit, &resource) else {
        return Ok((Err(ErrorCode::AccessDenied),));
    };
    let state = store.data_mut();
    let (resolver, gate, voice) = (Arc::clone(&state.resolver), Arc::clone(&state.gate), state.voice.clone());
    match network::addresses(&*resolver, gate.rights(), (Axis::NetDns, &resource), host).await {
        Ok(found) => {
            permit.succeeded(found.len() as u64 * 16, 0);
            let state = store.data_mut();
            if let NetHost::Name(name) = host {
                state.sockets.looked_up(&name.to_string(), &found);
            }
            Ok((Ok(state.table.push(Addresses(found.into_iter()))?),))
        }
        Err(error) => {
            permit.failed(error.label());
            voice.log(LogLevel::Warn, &error.to_string());
            Ok((Err(match error {
                NoAddress::Guarded { .. } => ErrorCode::AccessDenied,
                NoAddress::Unresolved { .. } => ErrorCode::NameUnresolvable,
                NoAddress::TimedOut { .. } => ErrorCode::TemporaryResolverFailure,
            }),))
        }
    }
}
