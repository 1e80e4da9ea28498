//! Serves the API on the data directory's Unix socket, to this user only.

use crate::network::Gateway;
use axum::Router;
use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// A listener that hangs up on other users. The modes of directory and socket keep them out already; this holds
/// even if somebody loosened those by hand.
struct OwnUserOnly(UnixListener);

impl Listener for OwnUserOnly {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == rustix::process::geteuid().as_raw() => return (stream, address),
                Ok(peer) => tracing::warn!(uid = peer.uid(), "a connection of another user was refused"),
                Err(error) => tracing::warn!(%error, "a connection without credentials was refused"),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves until `stop`; requests under way are answered first.
pub(crate) async fn serve(listener: UnixListener, gateway: Gateway, stop: CancellationToken) {
    let router = Router::new().fallback(async move |request| gateway.answer(request).await);
    let served = axum::serve(OwnUserOnly(listener), router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the local API ended");
    }
}
