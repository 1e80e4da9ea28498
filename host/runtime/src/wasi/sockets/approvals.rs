//! What was decided about addresses, as wasmtime's check of them asks for it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi::sockets::SocketAddrUse;

/// A use that a permit was given for, or that needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Use {
    TcpBind,
    TcpListen,
    TcpConnect,
    UdpBind,
    UdpSend,
    /// Says which address datagrams of a socket go to and come from. Nothing is sent by that.
    UdpConnect,
}

#[derive(Default)]
struct Approved {
    uses: HashSet<(Use, SocketAddr)>,
    /// A port was given to the attempt, and whoever finds it may write to it.
    has_udp_port: bool,
}

/// Shared with the check.
#[derive(Clone, Default)]
pub(crate) struct Approvals(Arc<Mutex<Approved>>);

impl Approvals {
    fn with<T>(&self, f: impl FnOnce(&mut Approved) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn allow(&self, use_: Use, address: SocketAddr) {
        self.with(|approved| approved.uses.insert((use_, address)));
    }

    pub(super) fn withdraw(&self, use_: Use, address: SocketAddr) {
        self.with(|approved| approved.uses.remove(&(use_, address)));
    }

    pub(super) fn allow_udp_port(&self) {
        self.with(|approved| approved.has_udp_port = true);
    }

    /// Whether the address may be used like that.
    pub(crate) fn permit(&self, address: SocketAddr, use_: SocketAddrUse) -> bool {
        // The system chooses where a connection begins.
        let is_anywhere = address.port() == 0 && address.ip().is_unspecified();
        self.with(|Approved { uses, has_udp_port }| match use_ {
            SocketAddrUse::TcpBind => is_anywhere || uses.contains(&(Use::TcpBind, address)),
            SocketAddrUse::TcpListen => uses.contains(&(Use::TcpListen, address)),
            // Whoever connects to a port that was allowed to listen.
            SocketAddrUse::TcpAccept => true,
            SocketAddrUse::TcpConnect => uses.contains(&(Use::TcpConnect, address)),
            SocketAddrUse::UdpBind => is_anywhere || uses.contains(&(Use::UdpBind, address)),
            SocketAddrUse::UdpSend => {
                uses.contains(&(Use::UdpSend, address)) || uses.contains(&(Use::UdpConnect, address))
            }
            // Answers, and what comes to a port that was allowed.
            SocketAddrUse::UdpReceive => {
                *has_udp_port || uses.contains(&(Use::UdpSend, address)) || uses.contains(&(Use::UdpConnect, address))
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_that_was_not_decided_but_the_ends_that_the_system_chooses() {
        let approvals = Approvals::default();
        let (anywhere, peer) = ("0.0.0.0:0".parse().unwrap(), "203.0.113.1:80".parse().unwrap());
        assert!(approvals.permit(anywhere, SocketAddrUse::TcpBind));
        assert!(approvals.permit("[::]:0".parse().unwrap(), SocketAddrUse::UdpBind));
        for use_ in [
            SocketAddrUse::TcpBind,
            SocketAddrUse::TcpListen,
            SocketAddrUse::TcpConnect,
            SocketAddrUse::UdpBind,
            SocketAddrUse::UdpSend,
            SocketAddrUse::UdpReceive,
        ] {
            assert!(!approvals.permit(peer, use_), "{use_:?}");
        }
        approvals.allow(Use::TcpConnect, peer);
        assert!(approvals.permit(peer, SocketAddrUse::TcpConnect));
        assert!(!approvals.permit("203.0.113.1:81".parse().unwrap(), SocketAddrUse::TcpConnect));
        assert!(!approvals.permit(peer, SocketAddrUse::UdpSend));
    }
}
