//! TCP: connecting, taking a named port and listening are decided.

use std::net::SocketAddr;
use std::sync::Arc;

use handshake_core::capability::Axis;
use tracing::Instrument as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource as Handle};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, TcpSocket};
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::approvals::Use;
use super::flow::{CountedInput, CountedOutput, Flow};
use super::{ask, ask_for_port, code, finish, import_span, label};
use crate::state::StepState;

const INTERFACE: &str = "wasi:sockets/tcp@0.2";

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;
type Streams = (Handle<DynInputStream>, Handle<DynOutputStream>);
type Accepted = (Handle<TcpSocket>, Handle<DynInputStream>, Handle<DynOutputStream>);

pub(super) fn link(l: &mut Linker<StepState>) -> wasmtime::Result<()> {
    let mut create = l.instance("wasi:sockets/tcp-create-socket@0.2.12")?;
    create.func_wrap("create-tcp-socket", |store: StoreContextMut<'_, StepState>, (family,)| {
        create_socket(store, family)
    })?;

    let mut tcp = l.instance("wasi:sockets/tcp@0.2.12")?;
    tcp.func_wrap_async("[method]tcp-socket.start-bind", |store, (socket, network, local)| {
        Box::new(
            start_bind(store, socket, network, local)
                .instrument(import_span!("sockets::tcp", "[method]tcp-socket.start-bind")),
        )
    })?;
    tcp.func_wrap_async("[method]tcp-socket.start-connect", |store, (socket, network, remote)| {
        Box::new(
            start_connect(store, socket, network, remote)
                .instrument(import_span!("sockets::tcp", "[method]tcp-socket.start-connect")),
        )
    })?;
    tcp.func_wrap("[method]tcp-socket.finish-connect", |store: StoreContextMut<'_, StepState>, (socket,)| {
        finish_connect(store, &socket)
    })?;
    tcp.func_wrap_async("[method]tcp-socket.start-listen", |store, (socket,)| {
        Box::new(
            start_listen(store, socket).instrument(import_span!("sockets::tcp", "[method]tcp-socket.start-listen")),
        )
    })?;
    tcp.func_wrap("[method]tcp-socket.accept", |store: StoreContextMut<'_, StepState>, (socket,)| {
        accept(store, &socket)
    })
}

/// The same handle again.
fn same(socket: &Handle<TcpSocket>) -> Handle<TcpSocket> {
    Handle::new_borrow(socket.rep())
}

fn create_socket(mut store: StoreContextMut<'_, StepState>, family: IpAddressFamily) -> Answer<Handle<TcpSocket>> {
    let _span = import_span!("sockets::tcp_create_socket", "create-tcp-socket");
    let state = store.data_mut();
    if !state.sockets.has_room(&state.table) {
        return Ok((Err(ErrorCode::NewSocketLimit),));
    }
    match tcp_create_socket::Host::create_tcp_socket(&mut state.sockets(), family) {
        Ok(socket) => {
            state.sockets.opened(socket.rep());
            Ok((Ok(socket),))
        }
        Err(error) => Ok((Err(code(error)?),)),
    }
}

async fn start_bind(
    mut store: StoreContextMut<'_, StepState>,
    socket: Handle<TcpSocket>,
    network: Handle<Network>,
    local: IpSocketAddress,
) -> Answer<()> {
    let address = SocketAddr::from(local);
    let call = (INTERFACE, "[method]tcp-socket.start-bind");
    let asked = ask_for_port(store.data(), call, Axis::NetTcp, address).await;
    let Ok(permit) = asked else { return Ok((Err(ErrorCode::AccessDenied),)) };
    let state = store.data_mut();
    state.sockets.approvals.allow(Use::TcpBind, address);
    let rep = socket.rep();
    let bound = HostTcpSocket::start_bind(&mut state.sockets(), socket, network, local).await;
    let bound = bound.map_or_else(|error| code(error).map(Err), |()| Ok(Ok(())))?;
    finish(permit, bound);
    if bound.is_ok() {
        state.sockets.bound.insert(rep, address);
    }
    Ok((bound,))
}

async fn start_connect(
    mut store: StoreContextMut<'_, StepState>,
    socket: Handle<TcpSocket>,
    network: Handle<Network>,
    remote: IpSocketAddress,
) -> Answer<()> {
    let address = SocketAddr::from(remote);
    let asked = ask(store.data(), (INTERFACE, "[method]tcp-socket.start-connect"), Axis::NetTcp, address).await;
    let Ok(permit) = asked else { return Ok((Err(ErrorCode::AccessDenied),)) };
    let state = store.data_mut();
    state.sockets.approvals.allow(Use::TcpConnect, address);
    let rep = socket.rep();
    match HostTcpSocket::start_connect(&mut state.sockets(), socket, network, remote) {
        Ok(()) => {
            state.sockets.connecting.insert(rep, permit);
            Ok((Ok(()),))
        }
        Err(error) => {
            let code = code(error)?;
            permit.failed(label(code));
            Ok((Err(code),))
        }
    }
}

fn finish_connect(mut store: StoreContextMut<'_, StepState>, socket: &Handle<TcpSocket>) -> Answer<Streams> {
    let state = store.data_mut();
    match HostTcpSocket::finish_connect(&mut state.sockets(), same(socket)) {
        Ok(streams) => {
            let permit = state.sockets.connecting.remove(&socket.rep());
            let streams = match permit {
                Some(permit) => counted(state, socket, streams, &Flow::new(permit))?,
                None => streams,
            };
            Ok((Ok(streams),))
        }
        Err(error) => {
            let code = code(error)?;
            if code != ErrorCode::WouldBlock
                && let Some(permit) = state.sockets.connecting.remove(&socket.rep())
            {
                permit.failed(label(code));
            }
            Ok((Err(code),))
        }
    }
}

async fn start_listen(mut store: StoreContextMut<'_, StepState>, socket: Handle<TcpSocket>) -> Answer<()> {
    let state = store.data_mut();
    let Ok(local) = HostTcpSocket::local_address(&mut state.sockets(), same(&socket)) else {
        return Ok((Err(ErrorCode::InvalidState),));
    };
    let local = SocketAddr::from(local);
    // A port that the system chose is in no rule: what was asked for is.
    let wanted = state.sockets.bound.get(&socket.rep()).copied().unwrap_or(local);
    let asked = ask(store.data(), (INTERFACE, "[method]tcp-socket.start-listen"), Axis::NetTcp, wanted).await;
    let Ok(permit) = asked else { return Ok((Err(ErrorCode::AccessDenied),)) };
    let state = store.data_mut();
    state.sockets.approvals.allow(Use::TcpListen, local);
    match HostTcpSocket::start_listen(&mut state.sockets(), same(&socket)).await {
        Ok(()) => {
            state.sockets.listening.insert(socket.rep(), Flow::new(permit));
            Ok((Ok(()),))
        }
        Err(error) => {
            let code = code(error)?;
            permit.failed(label(code));
            Ok((Err(code),))
        }
    }
}

fn accept(mut store: StoreContextMut<'_, StepState>, listener: &Handle<TcpSocket>) -> Answer<Accepted> {
    let state = store.data_mut();
    if !state.sockets.has_room(&state.table) {
        return Ok((Err(ErrorCode::NewSocketLimit),));
    }
    match HostTcpSocket::accept(&mut state.sockets(), same(listener)) {
        Ok((socket, input, output)) => {
            state.sockets.opened(socket.rep());
            let (input, output) = match state.sockets.listening.get(&listener.rep()).map(Arc::clone) {
                Some(flow) => counted(state, &socket, (input, output), &flow)?,
                None => (input, output),
            };
            Ok((Ok((socket, input, output)),))
        }
        Err(error) => Ok((Err(code(error)?),)),
    }
}

/// The streams of a socket, counted.
fn counted(
    state: &mut StepState,
    socket: &Handle<TcpSocket>,
    (input, output): Streams,
    flow: &Arc<Flow>,
) -> wasmtime::Result<Streams> {
    let input: DynInputStream = Box::new(CountedInput { inner: state.table.delete(input)?, flow: Arc::clone(flow) });
    let output: DynOutputStream =
        Box::new(CountedOutput { inner: state.table.delete(output)?, flow: Arc::clone(flow) });
    Ok((state.table.push_child(input, socket)?, state.table.push_child(output, socket)?))
}
