//! Every function of `wasi:sockets` and the client's side of `wasi:http`, as far as the host lets them be reached.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Network};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::udp::{OutgoingDatagram, UdpSocket};
use wasip2::sockets::{instance_network, ip_name_lookup, tcp_create_socket, udp_create_socket};

use crate::calls::Calls;
use crate::plumbing::incoming;

const TCP: &str = "wasi:sockets/tcp";
const UDP: &str = "wasi:sockets/udp";
const HTTP: &str = "wasi:http/types";

pub(crate) fn all(calls: &mut Calls, port: u16) {
    let network = calls.made("wasi:sockets/instance-network", "instance-network", instance_network::instance_network());
    names(calls, &network);
    for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
        let socket = tcp_create_socket::create_tcp_socket(family);
        if let Some(socket) = calls.tried("wasi:sockets/tcp-create-socket", "create-tcp-socket", socket) {
            tcp(calls, &network, &socket, port);
        }
        let socket = udp_create_socket::create_udp_socket(family);
        if let Some(socket) = calls.tried("wasi:sockets/udp-create-socket", "create-udp-socket", socket) {
            udp(calls, &network, &socket, port);
        }
    }
    // A second socket: one that listened cannot connect.
    let socket = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4);
    if let Some(socket) = calls.tried("wasi:sockets/tcp-create-socket", "create-tcp-socket", socket) {
        connect(calls, &network, &socket, port);
    }
    http(calls, port);
}

fn loopback(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

fn names(calls: &mut Calls, network: &Network) {
    let lookup = "wasi:sockets/ip-name-lookup";
    let stream = ip_name_lookup::resolve_addresses(network, "localhost");
    if let Some(stream) = calls.tried(lookup, "resolve-addresses", stream) {
        let ready = calls.made(lookup, "[method]resolve-address-stream.subscribe", stream.subscribe());
        ready.block();
        calls.tried(lookup, "[method]resolve-address-stream.resolve-next-address", stream.resolve_next_address());
    }
}

fn tcp(calls: &mut Calls, network: &Network, socket: &TcpSocket, port: u16) {
    calls.made(TCP, "[method]tcp-socket.address-family", socket.address_family());
    calls.made(TCP, "[method]tcp-socket.is-listening", socket.is_listening());
    calls.made(TCP, "[method]tcp-socket.subscribe", socket.subscribe());
    calls.tried(TCP, "[method]tcp-socket.set-listen-backlog-size", socket.set_listen_backlog_size(4));
    calls.tried(TCP, "[method]tcp-socket.keep-alive-enabled", socket.keep_alive_enabled());
    calls.tried(TCP, "[method]tcp-socket.set-keep-alive-enabled", socket.set_keep_alive_enabled(true));
    calls.tried(TCP, "[method]tcp-socket.keep-alive-idle-time", socket.keep_alive_idle_time());
    calls.tried(TCP, "[method]tcp-socket.set-keep-alive-idle-time", socket.set_keep_alive_idle_time(1_000_000_000));
    calls.tried(TCP, "[method]tcp-socket.keep-alive-interval", socket.keep_alive_interval());
    calls.tried(TCP, "[method]tcp-socket.set-keep-alive-interval", socket.set_keep_alive_interval(1_000_000_000));
    calls.tried(TCP, "[method]tcp-socket.keep-alive-count", socket.keep_alive_count());
    calls.tried(TCP, "[method]tcp-socket.set-keep-alive-count", socket.set_keep_alive_count(2));
    calls.tried(TCP, "[method]tcp-socket.hop-limit", socket.hop_limit());
    calls.tried(TCP, "[method]tcp-socket.set-hop-limit", socket.set_hop_limit(64));
    calls.tried(TCP, "[method]tcp-socket.receive-buffer-size", socket.receive_buffer_size());
    calls.tried(TCP, "[method]tcp-socket.set-receive-buffer-size", socket.set_receive_buffer_size(65536));
    calls.tried(TCP, "[method]tcp-socket.send-buffer-size", socket.send_buffer_size());
    calls.tried(TCP, "[method]tcp-socket.set-send-buffer-size", socket.set_send_buffer_size(65536));
    calls.tried(TCP, "[method]tcp-socket.start-bind", socket.start_bind(network, loopback(0)));
    calls.tried(TCP, "[method]tcp-socket.finish-bind", socket.finish_bind());
    calls.tried(TCP, "[method]tcp-socket.start-listen", socket.start_listen());
    calls.tried(TCP, "[method]tcp-socket.finish-listen", socket.finish_listen());
    calls.tried(TCP, "[method]tcp-socket.local-address", socket.local_address());
    calls.tried(TCP, "[method]tcp-socket.remote-address", socket.remote_address());
    calls.tried(TCP, "[method]tcp-socket.accept", socket.accept());
    // Listening sockets refuse it; the refusal is a call too.
    calls.tried(TCP, "[method]tcp-socket.start-connect", socket.start_connect(network, loopback(port)));
    calls.tried(TCP, "[method]tcp-socket.shutdown", socket.shutdown(ShutdownType::Both));
}

fn connect(calls: &mut Calls, network: &Network, socket: &TcpSocket, port: u16) {
    let started = socket.start_connect(network, loopback(port));
    if calls.tried(TCP, "[method]tcp-socket.start-connect", started).is_none() {
        return;
    }
    let ready = calls.made(TCP, "[method]tcp-socket.subscribe", socket.subscribe());
    ready.block();
    let connected = socket.finish_connect();
    if let Some((input, output)) = calls.tried(TCP, "[method]tcp-socket.finish-connect", connected) {
        calls.tried(
            "wasi:io/streams",
            "[method]output-stream.blocking-write-and-flush",
            output.blocking_write_and_flush(b"census"),
        );
        calls.tried("wasi:io/streams", "[method]input-stream.read", input.read(1));
        calls.tried(TCP, "[method]tcp-socket.remote-address", socket.remote_address());
        calls.tried(TCP, "[method]tcp-socket.shutdown", socket.shutdown(ShutdownType::Both));
    }
}

fn udp(calls: &mut Calls, network: &Network, socket: &UdpSocket, port: u16) {
    calls.made(UDP, "[method]udp-socket.address-family", socket.address_family());
    calls.made(UDP, "[method]udp-socket.subscribe", socket.subscribe());
    calls.tried(UDP, "[method]udp-socket.unicast-hop-limit", socket.unicast_hop_limit());
    calls.tried(UDP, "[method]udp-socket.set-unicast-hop-limit", socket.set_unicast_hop_limit(64));
    calls.tried(UDP, "[method]udp-socket.receive-buffer-size", socket.receive_buffer_size());
    calls.tried(UDP, "[method]udp-socket.set-receive-buffer-size", socket.set_receive_buffer_size(65536));
    calls.tried(UDP, "[method]udp-socket.send-buffer-size", socket.send_buffer_size());
    calls.tried(UDP, "[method]udp-socket.set-send-buffer-size", socket.set_send_buffer_size(65536));
    calls.tried(UDP, "[method]udp-socket.start-bind", socket.start_bind(network, loopback(0)));
    calls.tried(UDP, "[method]udp-socket.finish-bind", socket.finish_bind());
    calls.tried(UDP, "[method]udp-socket.local-address", socket.local_address());
    calls.tried(UDP, "[method]udp-socket.remote-address", socket.remote_address());
    // The result holds two streams, and a second call ends them: one call only.
    if let Some((incoming, outgoing)) = calls.tried(UDP, "[method]udp-socket.stream", socket.stream(None)) {
        calls.made(UDP, "[method]incoming-datagram-stream.subscribe", incoming.subscribe());
        calls.tried(UDP, "[method]incoming-datagram-stream.receive", incoming.receive(1));
        calls.made(UDP, "[method]outgoing-datagram-stream.subscribe", outgoing.subscribe());
        let room = calls.tried(UDP, "[method]outgoing-datagram-stream.check-send", outgoing.check_send());
        if room.unwrap_or_default() >= 1 {
            let datagram = OutgoingDatagram { data: b"census".to_vec(), remote_address: Some(loopback(port)) };
            calls.tried(UDP, "[method]outgoing-datagram-stream.send", outgoing.send(&[datagram]));
        }
    }
}

fn http(calls: &mut Calls, port: u16) {
    let fields = calls.made(HTTP, "[constructor]fields", Fields::new());
    calls.tried(HTTP, "[method]fields.append", fields.append("x-census", b"1"));
    calls.tried(HTTP, "[method]fields.set", fields.set("x-census", &[b"2".to_vec()]));
    calls.made(HTTP, "[method]fields.get", fields.get("x-census"));
    calls.made(HTTP, "[method]fields.has", fields.has("x-census"));
    calls.made(HTTP, "[method]fields.entries", fields.entries());
    calls.made(HTTP, "[method]fields.clone", fields.clone());
    calls.tried(HTTP, "[method]fields.delete", fields.delete("x-census"));
    let headers = Fields::from_list(&[("x-census".to_owned(), b"3".to_vec())]);
    let headers = calls.tried(HTTP, "[static]fields.from-list", headers).unwrap_or(fields);

    let request = calls.made(HTTP, "[constructor]outgoing-request", OutgoingRequest::new(headers));
    let authority = format!("127.0.0.1:{port}");
    calls.tried(HTTP, "[method]outgoing-request.set-method", request.set_method(&Method::Post));
    calls.tried(HTTP, "[method]outgoing-request.set-scheme", request.set_scheme(Some(&Scheme::Http)));
    calls.tried(HTTP, "[method]outgoing-request.set-authority", request.set_authority(Some(&authority)));
    calls.tried(HTTP, "[method]outgoing-request.set-path-with-query", request.set_path_with_query(Some("/census")));
    calls.made(HTTP, "[method]outgoing-request.method", request.method());
    calls.made(HTTP, "[method]outgoing-request.scheme", request.scheme());
    calls.made(HTTP, "[method]outgoing-request.authority", request.authority());
    calls.made(HTTP, "[method]outgoing-request.path-with-query", request.path_with_query());
    calls.made(HTTP, "[method]outgoing-request.headers", request.headers());
    let body = calls.tried(HTTP, "[method]outgoing-request.body", request.body());

    let second = 1_000_000_000;
    let options = calls.made(HTTP, "[constructor]request-options", RequestOptions::new());
    calls.tried(HTTP, "[method]request-options.set-connect-timeout", options.set_connect_timeout(Some(second)));
    calls.tried(HTTP, "[method]request-options.set-first-byte-timeout", options.set_first_byte_timeout(Some(second)));
    calls.tried(
        HTTP,
        "[method]request-options.set-between-bytes-timeout",
        options.set_between_bytes_timeout(Some(second)),
    );
    calls.made(HTTP, "[method]request-options.connect-timeout", options.connect_timeout());
    calls.made(HTTP, "[method]request-options.first-byte-timeout", options.first_byte_timeout());
    calls.made(HTTP, "[method]request-options.between-bytes-timeout", options.between_bytes_timeout());

    let future = outgoing_handler::handle(request, Some(options));
    let future = calls.tried("wasi:http/outgoing-handler", "handle", future);
    if let Some(body) = body {
        let stream = calls.tried(HTTP, "[method]outgoing-body.write", body.write());
        // Without a request under way nobody reads the body, and the write would wait for ever.
        if let (Some(stream), true) = (stream, future.is_some()) {
            let written = stream.blocking_write_and_flush(b"census");
            calls.tried("wasi:io/streams", "[method]output-stream.blocking-write-and-flush", written);
        }
        calls.tried(HTTP, "[static]outgoing-body.finish", OutgoingBody::finish(body, None));
    }
    if let Some(future) = future {
        response(calls, &future);
    }
}

fn response(calls: &mut Calls, future: &FutureIncomingResponse) {
    let ready = calls.made(HTTP, "[method]future-incoming-response.subscribe", future.subscribe());
    ready.block();
    let response = calls.made(HTTP, "[method]future-incoming-response.get", future.get());
    let Some(Ok(Ok(response))) = response else { return };
    calls.made(HTTP, "[method]incoming-response.status", response.status());
    calls.made(HTTP, "[method]incoming-response.headers", response.headers());
    let Some(body) = calls.tried(HTTP, "[method]incoming-response.consume", response.consume()) else { return };
    if let Some(stream) = calls.tried(HTTP, "[method]incoming-body.stream", body.stream()) {
        incoming(calls, &stream);
    }
    let trailers = calls.made(HTTP, "[static]incoming-body.finish", IncomingBody::finish(body));
    let ready = calls.made(HTTP, "[method]future-trailers.subscribe", trailers.subscribe());
    ready.block();
    calls.made(HTTP, "[method]future-trailers.get", trailers.get());
}
