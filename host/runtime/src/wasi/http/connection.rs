//! The connection of one request: each address that is connected to was checked, and none is looked up again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::capability::{Axis, EffectiveRights, HttpTarget, NetHost, Resource};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use wasmtime_wasi_http::Error;

use super::{Broken, TlsClient};
use crate::network::{self, ByteStream, NameResolver, NoAddress};

/// Connects to the server of an allowed request. `within` bounds each connection, TLS included.
pub(super) async fn connect(
    resolver: &dyn NameResolver,
    tls: &Arc<TlsClient>,
    rights: &EffectiveRights,
    target: &HttpTarget,
    within: Duration,
) -> Result<Box<dyn ByteStream>, Broken> {
    let resource = Resource::Request(target.clone());
    let host = &target.origin.host;
    let addresses = network::addresses(resolver, rights, (Axis::NetHttp, &resource), host);
    let addresses = addresses.await.map_err(from_lookup)?;
    if let Some(stream) = resolver.in_place_of(target).await {
        return stream.map_err(|error| unreachable(&error));
    }
    let connected = tokio::time::timeout(within, async {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for ip in addresses {
            match TcpStream::connect(SocketAddr::new(ip, target.origin.port)).await {
                Ok(stream) => return secured(stream, tls, target).await,
                Err(error) => last = error,
            }
        }
        Err(unreachable(&last))
    });
    connected.await.unwrap_or_else(|_| Err(Broken::new(Error::ConnectionTimeout, "connection-timeout")))
}

async fn secured(stream: TcpStream, tls: &Arc<TlsClient>, target: &HttpTarget) -> Result<Box<dyn ByteStream>, Broken> {
    // Small writes of a request's head and body should not wait for each other; it works without.
    let _ = stream.set_nodelay(true);
    if !target.origin.tls {
        return Ok(Box::new(stream));
    }
    let server = match &target.origin.host {
        NetHost::Ip(ip) => ServerName::from(*ip),
        NetHost::Name(name) => ServerName::try_from(name.as_str().to_owned())
            .map_err(|_| Broken::new(Error::HttpRequestUriInvalid, "name-unresolved"))?,
    };
    match Arc::clone(tls).connect(server, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(untrusted(&error)),
    }
}

fn from_lookup(error: NoAddress) -> Broken {
    let told = match &error {
        NoAddress::Guarded { .. } => Error::DestinationIpProhibited,
        NoAddress::Unresolved { .. } => Error::DnsError { rcode: None, info_code: None },
        NoAddress::TimedOut { .. } => Error::DnsTimeout,
    };
    Broken { error: told, label: error.label(), detail: Some(error.to_string()) }
}

fn unreachable(error: &io::Error) -> Broken {
    let (told, label) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Error::ConnectionRefused, "connection-refused"),
        io::ErrorKind::TimedOut => (Error::ConnectionTimeout, "connection-timeout"),
        _ => (Error::DestinationUnavailable, "unreachable"),
    };
    Broken { error: told, label, detail: Some(format!("cannot connect: {error}")) }
}

fn untrusted(error: &io::Error) -> Broken {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (told, label) = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => (Error::TlsCertificateError, "tls-certificate"),
        _ => (Error::TlsProtocolError, "tls-error"),
    };
    Broken { error: told, label, detail: Some(format!("no TLS connection: {error}")) }
}
