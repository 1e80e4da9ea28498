//! UDP: taking a named port is decided, and so is each datagram. Connecting only says where datagrams go.

use std::net::SocketAddr;

use handshake_core::capability::Axis;
use tracing::Instrument as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource as Handle};
use wasmtime_wasi::p2::UdpSocket;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket;
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::approvals::Use;
use super::{ask, ask_for_port, code, finish, import_span, label};
use crate::state::StepState;

const INTERFACE: &str = "wasi:sockets/udp@0.2";

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;
type Streams = (Handle<IncomingDatagramStream>, Handle<OutgoingDatagramStream>);

pub(super) fn link(l: &mut Linker<StepState>) -> wasmtime::Result<()> {
    let mut create = l.instance("wasi:sockets/udp-create-socket@0.2.12")?;
    create.func_wrap_async("create-udp-socket", |store, (family,)| Box::new(create_socket(store, family)))?;

    let mut udp = l.instance("wasi:sockets/udp@0.2.12")?;
    udp.func_wrap_async("[method]udp-socket.start-bind", |store, (socket, network, local)| {
        Box::new(
            start_bind(store, socket, network, local)
                .instrument(import_span!("sockets::udp", "[method]udp-socket.start-bind")),
        )
    })?;
    udp.func_wrap_async("[method]udp-socket.stream", |store, (socket, remote)| {
        Box::new(stream(store, socket, remote))
    })?;
    udp.func_wrap_async("[method]outgoing-datagram-stream.send", |store, (stream, datagrams)| {
        Box::new(
            send(store, stream, datagrams)
                .instrument(import_span!("sockets::udp", "[method]outgoing-datagram-stream.send")),
        )
    })
}

async fn create_socket(
    mut store: StoreContextMut<'_, StepState>,
    family: IpAddressFamily,
) -> Answer<Handle<UdpSocket>> {
    let _span = import_span!("sockets::udp_create_socket", "create-udp-socket");
    let state = store.data_mut();
    if !state.sockets.has_room(&state.table) {
        return Ok((Err(ErrorCode::NewSocketLimit),));
    }
    match udp_create_socket::Host::create_udp_socket(&mut state.sockets(), family).await {
        Ok(socket) => {
            state.sockets.opened(socket.rep());
            Ok((Ok(socket),))
        }
        Err(error) => Ok((Err(code(error)?),)),
    }
}

async fn start_bind(
    mut store: StoreContextMut<'_, StepState>,
    socket: Handle<UdpSocket>,
    network: Handle<Network>,
    local: IpSocketAddress,
) -> Answer<()> {
    let address = SocketAddr::from(local);
    let call = (INTERFACE, "[method]udp-socket.start-bind");
    let asked = ask_for_port(store.data(), call, Axis::NetUdp, address).await;
    let Ok(permit) = asked else { return Ok((Err(ErrorCode::AccessDenied),)) };
    let state = store.data_mut();
    state.sockets.approvals.allow(Use::UdpBind, address);
    let bound = HostUdpSocket::start_bind(&mut state.sockets(), socket, network, local).await;
    let bound = bound.map_or_else(|error| code(error).map(Err), |()| Ok(Ok(())))?;
    if permit.is_some() && bound.is_ok() {
        state.sockets.approvals.allow_udp_port();
    }
    finish(permit, bound);
    Ok((bound,))
}

async fn stream(
    mut store: StoreContextMut<'_, StepState>,
    socket: Handle<UdpSocket>,
    remote: Option<IpSocketAddress>,
) -> Answer<Streams> {
    let state = store.data_mut();
    let remote_address = remote.map(SocketAddr::from);
    if let Some(address) = remote_address {
        state.sockets.approvals.allow(Use::UdpConnect, address);
    }
    let streams = HostUdpSocket::stream(&mut state.sockets(), socket, remote).await;
    if let Some(address) = remote_address {
        state.sockets.approvals.withdraw(Use::UdpConnect, address);
    }
    match streams {
        Ok((incoming, outgoing)) => {
            match remote_address {
                Some(address) => state.sockets.connected.insert(outgoing.rep(), address),
                None => state.sockets.connected.remove(&outgoing.rep()),
            };
            Ok((Ok((incoming, outgoing)),))
        }
        Err(error) => Ok((Err(code(error)?),)),
    }
}

async fn send(
    mut store: StoreContextMut<'_, StepState>,
    stream: Handle<OutgoingDatagramStream>,
    datagrams: Vec<OutgoingDatagram>,
) -> Answer<u64> {
    let connected = store.data().sockets.connected.get(&stream.rep()).copied();
    let (mut allowed, mut permits, mut refused) = (Vec::new(), Vec::new(), None);
    for datagram in datagrams {
        let Some(address) = datagram.remote_address.map(SocketAddr::from).or(connected) else {
            refused = Some(ErrorCode::InvalidArgument);
            break;
        };
        let call = (INTERFACE, "[method]outgoing-datagram-stream.send");
        let Ok(permit) = ask(store.data(), call, Axis::NetUdp, address).await else {
            refused = Some(ErrorCode::AccessDenied);
            break;
        };
        store.data_mut().sockets.approvals.allow(Use::UdpSend, address);
        permits.push((permit, datagram.data.len() as u64));
        allowed.push(datagram);
    }
    // What was sent before a refusal counts, as for every other error in the middle of a list.
    if let (true, Some(code)) = (allowed.is_empty(), refused) {
        return Ok((Err(code),));
    }
    let state = store.data_mut();
    let sent = HostOutgoingDatagramStream::send(&mut state.sockets(), stream, allowed);
    let sent = sent.map_or_else(|error| code(error).map(Err), |count| Ok(Ok(count)))?;
    for (at, (permit, bytes)) in (0_u64..).zip(permits) {
        match sent {
            Ok(count) if at < count => permit.succeeded(0, bytes),
            Ok(_) => permit.failed("not-sent"),
            Err(code) => permit.failed(label(code)),
        }
    }
    Ok((sent,))
}
