//! TLS for requests of steps: certificates are judged by what the operating system trusts, as for calls of models.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Made at the first request that needs it: reading the system's certificates takes some milliseconds.
#[derive(Default)]
pub(crate) struct TlsClient(OnceLock<TlsConnector>);

impl TlsClient {
    /// Speaks TLS on a connection with this server.
    pub(super) async fn connect(
        self: Arc<Self>,
        server: ServerName<'static>,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let connector = match self.0.get() {
            Some(connector) => connector.clone(),
            None => {
                let made = tokio::task::spawn_blocking(connector).await.map_err(io::Error::other)?;
                let made = made.map_err(io::Error::other)?;
                self.0.get_or_init(|| made).clone()
            }
        };
        connector.connect(server, stream).await
    }
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    // Named, because the process has more than one of them and rustls does not choose.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_platform_verifier()?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
