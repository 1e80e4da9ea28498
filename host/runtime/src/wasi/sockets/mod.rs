//! Sockets and name look-up. What reaches the network is one decision each, durable before the first packet: a
//! connection, listening, taking a named port, a datagram, a look-up. Making a socket reaches nothing.
//!
//! wasmtime's own implementation stands behind it. The functions that decide take the place of its own in the linker,
//! because most of those cannot wait; its check of addresses is a second lock, which lets pass what was decided.

mod approvals;
mod flow;
mod names;
mod tcp;
mod udp;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use handshake_core::Digest;
use handshake_core::capability::{Axis, Denial, Resource, SocketTarget};
use handshake_core::gate::Permit;
use wasmtime::component::{Linker, Resource as Handle, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::{SocketError, TcpSocket, UdpSocket};

use super::import_span;
use crate::state::StepState;

pub(crate) use approvals::Approvals;
use flow::Flow;

/// Sockets that an attempt holds at the same time, those that it accepted included. Each is a file descriptor of the
/// host, of which a process often has no more than 1,024.
const MOST_SOCKETS: usize = 64;
/// Addresses whose names are remembered.
const MOST_NAMES: usize = 1_024;

/// What is known of the sockets of one attempt, by handle.
#[derive(Default)]
pub(crate) struct AttemptSockets {
    approvals: Approvals,
    open: HashSet<u32>,
    /// The addresses that sockets were bound to, as the guest asked for them.
    bound: HashMap<u32, SocketAddr>,
    /// Connections under way.
    connecting: HashMap<u32, Permit>,
    /// Everything that comes in over a port.
    listening: HashMap<u32, Arc<Flow>>,
    /// Where streams of datagrams are connected to.
    connected: HashMap<u32, SocketAddr>,
    /// Names that were looked up, by address.
    names: HashMap<IpAddr, BTreeSet<String>>,
}

impl AttemptSockets {
    pub(crate) fn approvals(&self) -> Approvals {
        self.approvals.clone()
    }

    /// An address with the names that led to it.
    fn target(&self, address: SocketAddr) -> SocketTarget {
        let target = SocketTarget::new(address.ip(), address.port());
        let names = self.names.get(&target.ip).into_iter().flatten().cloned().collect();
        SocketTarget { names, ..target }
    }

    fn looked_up(&mut self, name: &str, addresses: &[IpAddr]) {
        for ip in addresses {
            if self.names.len() < MOST_NAMES || self.names.contains_key(ip) {
                self.names.entry(*ip).or_default().insert(name.to_owned());
            }
        }
    }

    /// Whether there is room for one more socket.
    fn has_room(&mut self, table: &ResourceTable) -> bool {
        self.open.retain(|rep| {
            table.get(&Handle::<TcpSocket>::new_borrow(*rep)).is_ok()
                || table.get(&Handle::<UdpSocket>::new_borrow(*rep)).is_ok()
        });
        self.open.len() < MOST_SOCKETS
    }

    /// A new socket may have the number of one that is gone.
    fn opened(&mut self, rep: u32) {
        self.open.insert(rep);
        self.bound.remove(&rep);
        self.connecting.remove(&rep);
        self.listening.remove(&rep);
    }
}

/// Puts the functions that decide into the place of those that do not.
pub(crate) fn link(l: &mut Linker<StepState>) -> wasmtime::Result<()> {
    l.allow_shadowing(true);
    tcp::link(l)?;
    udp::link(l)?;
    names::link(l)?;
    l.allow_shadowing(false);
    Ok(())
}

/// Asks for a permit to use an address.
fn ask(
    state: &StepState,
    call: (&'static str, &'static str),
    axis: Axis,
    address: SocketAddr,
) -> impl Future<Output = Result<Permit, Denial>> + Send + use<> {
    let resource = Resource::Socket(state.sockets.target(address));
    state.permit(call, axis, resource, Digest::of_parts(&[address.to_string().as_bytes()]))
}

/// Asks for a permit to take a port. One that the system chooses needs none: nobody knows it.
fn ask_for_port(
    state: &StepState,
    call: (&'static str, &'static str),
    axis: Axis,
    address: SocketAddr,
) -> impl Future<Output = Result<Option<Permit>, Denial>> + Send + use<> {
    let asked = (address.port() != 0).then(|| ask(state, call, axis, address));
    async move {
        match asked {
            Some(asked) => asked.await.map(Some),
            None => Ok(None),
        }
    }
}

/// The error that the guest gets, or the trap.
fn code(error: SocketError) -> wasmtime::Result<ErrorCode> {
    error.downcast()
}

/// The label of an outcome.
fn label(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::AccessDenied => "access-denied",
        ErrorCode::NotSupported => "unsupported",
        ErrorCode::InvalidArgument => "invalid-argument",
        ErrorCode::OutOfMemory => "out-of-memory",
        ErrorCode::Timeout => "timeout",
        ErrorCode::ConcurrencyConflict | ErrorCode::NotInProgress | ErrorCode::InvalidState => "invalid-state",
        ErrorCode::WouldBlock => "would-block",
        ErrorCode::NewSocketLimit => "socket-limit",
        ErrorCode::AddressNotBindable => "address-not-bindable",
        ErrorCode::AddressInUse => "address-in-use",
        ErrorCode::RemoteUnreachable => "unreachable",
        ErrorCode::ConnectionRefused => "connection-refused",
        ErrorCode::ConnectionReset => "connection-reset",
        ErrorCode::ConnectionAborted => "connection-aborted",
        ErrorCode::DatagramTooLarge => "datagram-too-large",
        _ => "failed",
    }
}

/// Finishes a permit whose operation ends with the call.
fn finish(permit: Option<Permit>, result: Result<(), ErrorCode>) {
    match (permit, result) {
        (Some(permit), Ok(())) => permit.succeeded(0, 0),
        (Some(permit), Err(code)) => permit.failed(label(code)),
        (None, _) => {}
    }
}
