//! How the host reaches the network for a step: it looks names up itself and connects to the addresses that were
//! checked, so that nothing can change between the check and the connection.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::capability::{Axis, EffectiveRights, GuardedAddress, HttpTarget, NetHost, Resource};
use tokio::io::{AsyncRead, AsyncWrite};

/// A name whose look-up takes longer is not found. Resolvers give up after some five seconds a server.
const LOOK_UP: Duration = Duration::from_secs(15);
/// Addresses of one name that are looked at; a name that has more has them to balance load.
const MOST_ADDRESSES: usize = 16;

/// A connection to a server.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Looks up host names. One that is not the system's may also stand for the servers behind them.
#[async_trait]
pub trait NameResolver: Send + Sync {
    /// All addresses of a host name, best first.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;

    /// A connection to the server of a request that was allowed and whose addresses were checked, in the place of one
    /// to those addresses. None: the host connects to them itself, as it must outside of tests.
    async fn in_place_of(&self, _server: &HttpTarget) -> Option<io::Result<Box<dyn ByteStream>>> {
        None
    }
}

/// Asks the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl NameResolver for SystemResolver {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Why a host has no address that one may go to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAddress {
    /// Its addresses need a rule that names them.
    #[error("`{host}`: {source}")]
    Guarded { host: String, source: GuardedAddress },
    /// There is no such name, or nobody to ask.
    #[error("cannot look up `{host}`: {source}")]
    Unresolved { host: String, source: io::Error },
    /// Nobody answered in time.
    #[error("cannot look up `{host}`: no answer within {} s", LOOK_UP.as_secs())]
    TimedOut { host: String },
}

impl NoAddress {
    /// The label of the outcome.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Guarded { .. } => "address-prohibited",
            Self::Unresolved { .. } => "name-unresolved",
            Self::TimedOut { .. } => "name-timeout",
        }
    }
}

/// The addresses of a host that the rights let an allowed call go to. Those that they do not are left out, as if the
/// name did not have them.
pub(crate) async fn addresses(
    resolver: &dyn NameResolver,
    rights: &EffectiveRights,
    (axis, resource): (Axis, &Resource),
    host: &NetHost,
) -> Result<Vec<IpAddr>, NoAddress> {
    let found = match host {
        NetHost::Ip(ip) => vec![*ip],
        NetHost::Name(name) => match tokio::time::timeout(LOOK_UP, resolver.addresses(name.as_str())).await {
            Ok(Ok(found)) => found,
            Ok(Err(source)) => return Err(NoAddress::Unresolved { host: host.to_string(), source }),
            Err(_) => return Err(NoAddress::TimedOut { host: host.to_string() }),
        },
    };
    let (mut open, mut guarded) = (Vec::new(), None);
    for ip in found.into_iter().map(|ip| ip.to_canonical()) {
        match rights.may_reach(axis, resource, ip) {
            Ok(()) if open.len() < MOST_ADDRESSES && !open.contains(&ip) => open.push(ip),
            Ok(()) => {}
            Err(address) => guarded = Some(address),
        }
    }
    match guarded {
        _ if !open.is_empty() => Ok(open),
        Some(source) => Err(NoAddress::Guarded { host: host.to_string(), source }),
        None => {
            let source = io::Error::new(io::ErrorKind::NotFound, "it has no address");
            Err(NoAddress::Unresolved { host: host.to_string(), source })
        }
    }
}
