//! Sockets and names through the standard library.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs, UdpSocket};

use wasip2::sockets::network::IpAddressFamily;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use crate::Done;

pub(crate) fn connect(to: &str, send: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(send.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn datagram(from: &str, to: &str, send: &str, connect: bool, receive: bool) -> std::io::Result<String> {
    let socket = UdpSocket::bind(from)?;
    if connect {
        socket.connect(to)?;
        socket.send(send.as_bytes())?;
    } else {
        socket.send_to(send.as_bytes(), to)?;
    }
    if !receive {
        return Ok(String::new());
    }
    let mut answer = [0; 1024];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}

pub(crate) fn look_up(name: &str) -> std::io::Result<String> {
    let addresses: Vec<_> = (name, 0).to_socket_addrs()?.map(|address| address.ip().to_string()).collect();
    Ok(addresses.join(" "))
}

/// How many sockets there are at the same time.
pub(crate) fn exhaust() -> Done {
    let mut held = Vec::new();
    loop {
        match create_tcp_socket(IpAddressFamily::Ipv4) {
            Ok(socket) if held.len() < 1_000 => held.push(socket),
            Ok(_) => return Done::failed("no end of sockets"),
            Err(code) => return Done::text(format!("{} {}", held.len(), code.name())),
        }
    }
}
