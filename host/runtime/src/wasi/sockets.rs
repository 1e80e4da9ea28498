//! Sockets and name look-up: each attempt is a decision, and in this version always a denial. Without a socket
//! the methods of sockets cannot be called, so wasmtime's own stand behind them.

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};
use wasmtime::component::{HasData, Resource as Handle};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::ResolveAddressStream;
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, IpAddressFamily, Network};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{SocketError, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsView;

use crate::state::StepState;

pub(crate) struct GatedSockets<'a>(pub(crate) &'a mut StepState);

impl HasData for GatedSockets<'static> {
    type Data<'a> = GatedSockets<'a>;
}

impl GatedSockets<'_> {
    /// Records the attempt. There is nothing to delegate to: these axes cannot be granted in this version, and
    /// should a later one forget to build what stands behind a permit, it is finished as unsupported.
    fn refuse(
        &self,
        interface: &'static str,
        function: &'static str,
        axis: Axis,
        resource: Resource,
        arguments: Digest,
    ) -> SocketError {
        match self.0.permit_now((interface, function), axis, resource, arguments) {
            Ok(permit) => {
                permit.failed("unsupported");
                ErrorCode::NotSupported.into()
            }
            Err(_) => ErrorCode::AccessDenied.into(),
        }
    }
}

fn family_name(family: IpAddressFamily) -> &'static str {
    match family {
        IpAddressFamily::Ipv4 => "ipv4",
        IpAddressFamily::Ipv6 => "ipv6",
    }
}

impl network::Host for GatedSockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.0.sockets().convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Handle<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.0.sockets().network_error_code(error)
    }
}

impl network::HostNetwork for GatedSockets<'_> {
    fn drop(&mut self, network: Handle<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.0.sockets(), network)
    }
}

impl tcp_create_socket::Host for GatedSockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Result<Handle<TcpSocket>, SocketError> {
        let name = family_name(family);
        let resource = Resource::Address { address: name.to_owned() };
        Err(self.refuse(
            "wasi:sockets/tcp-create-socket@0.2",
            "create-tcp-socket",
            Axis::NetTcp,
            resource,
            Digest::of_parts(&[name.as_bytes()]),
        ))
    }
}

impl udp_create_socket::Host for GatedSockets<'_> {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> Result<Handle<UdpSocket>, SocketError> {
        let name = family_name(family);
        let resource = Resource::Address { address: name.to_owned() };
        Err(self.refuse(
            "wasi:sockets/udp-create-socket@0.2",
            "create-udp-socket",
            Axis::NetUdp,
            resource,
            Digest::of_parts(&[name.as_bytes()]),
        ))
    }
}

impl ip_name_lookup::Host for GatedSockets<'_> {
    fn resolve_addresses(
        &mut self,
        _: Handle<Network>,
        name: String,
    ) -> Result<Handle<ResolveAddressStream>, SocketError> {
        let arguments = Digest::of_parts(&[name.as_bytes()]);
        let resource = Resource::Address { address: crate::observer::cut(&name, 300).to_owned() };
        Err(self.refuse("wasi:sockets/ip-name-lookup@0.2", "resolve-addresses", Axis::NetDns, resource, arguments))
    }
}

impl ip_name_lookup::HostResolveAddressStream for GatedSockets<'_> {
    fn resolve_next_address(&mut self, _: Handle<ResolveAddressStream>) -> Result<Option<IpAddress>, SocketError> {
        // No stream was ever given out.
        Err(ErrorCode::InvalidArgument.into())
    }

    fn subscribe(
        &mut self,
        _: Handle<ResolveAddressStream>,
    ) -> wasmtime::Result<Handle<wasmtime_wasi::p2::DynPollable>> {
        Err(wasmtime::Error::msg("no look-up was ever started"))
    }

    fn drop(&mut self, stream: Handle<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.0.table.delete(stream)?;
        Ok(())
    }
}
