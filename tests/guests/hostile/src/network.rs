//! Reaching the network.

use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{ErrorCode, Fields, OutgoingRequest, Scheme};

use crate::attempts::{Attempts, Outcome};

pub(crate) fn http(attempts: &mut Attempts, authority: &str) {
    for (name, scheme) in [("http", Scheme::Http), ("https", Scheme::Https)] {
        let request = OutgoingRequest::new(Fields::new());
        let set = request.set_scheme(Some(&scheme)).is_ok()
            && request.set_authority(Some(authority)).is_ok()
            && request.set_path_with_query(Some("/hello")).is_ok();
        let what = format!("{name}://{authority}/hello");
        if !set {
            attempts.add(what, Outcome::Error, "not a valid request");
            continue;
        }
        let response = match handle(request, None) {
            Ok(future) => {
                future.subscribe().block();
                match future.get() {
                    Some(Ok(response)) => response.map(|response| response.status()),
                    _ => Err(ErrorCode::InternalError(None)),
                }
            }
            Err(code) => Err(code),
        };
        match response {
            Ok(status) => attempts.add(what, Outcome::Ok, format!("status {status}")),
            Err(code @ (ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited)) => {
                attempts.add(what, Outcome::Denied, format!("{code:?}"));
            }
            Err(code) => attempts.add(what, Outcome::Error, format!("{code:?}")),
        }
    }
}

/// Header fields live in the host's memory, not in the guest's.
pub(crate) fn header_flood(attempts: &mut Attempts, bytes: u64) {
    let value = vec![b'x'; 64 * 1024];
    let mut held = Vec::new();
    let mut total = 0;
    while total < bytes {
        let fields = Fields::new();
        if let Err(error) = fields.append("x-flood", &value) {
            attempts.add("header fields", Outcome::Denied, format!("{total} bytes: {error:?}"));
            return;
        }
        total += value.len() as u64;
        held.push(fields);
    }
    attempts.add("header fields", Outcome::Ok, format!("{total} bytes in {} handles", held.len()));
}

pub(crate) fn tcp(attempts: &mut Attempts, address: &str) {
    let result = TcpStream::connect(address).and_then(|mut stream| stream.write_all(b"hello"));
    attempts.io(format!("tcp {address}"), result);
    attempts.io("tcp listen", std::net::TcpListener::bind("127.0.0.1:0").map(|_| ()));
}

pub(crate) fn udp(attempts: &mut Attempts, address: &str) {
    let result = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"hello", address));
    attempts.io(format!("udp {address}"), result);
}

pub(crate) fn dns(attempts: &mut Attempts, name: &str) {
    let result = (name, 80).to_socket_addrs().map(|addresses| addresses.collect::<Vec<_>>());
    attempts.io(format!("dns {name}"), result);
}
