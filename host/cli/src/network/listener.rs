//! Takes connections from the network: so many, with time limits, and with TLS where it is set up.

use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::door::Peer;
use super::gateway::Gateway;
use super::settings::{Address, NetworkSettings, TlsFiles};
use crate::error::CliError;

/// Connections at the same time; more wait in the system's queue. Each takes some 20 KiB.
const MOST_CONNECTIONS: usize = 4_096;
/// How long a client may take for the head of a request, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// How long the agreement on a key may take.
const TLS_TIME: Duration = Duration::from_secs(10);
/// The longest head of a request, bytes.
const MOST_HEAD_BYTES: usize = 64 << 10;
/// How long connections may take to end when the process ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens until it is told to stop.
pub(crate) struct Listening {
    /// As it is called in a browser.
    pub(crate) url: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Listening {
    /// Takes no more connections, and lets those that are open end.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        // It ends by itself within LAST_ANSWERS.
        let _ = self.task.await;
    }
}

/// Begins to listen, where the settings say so.
pub(crate) async fn listen(settings: &NetworkSettings, gateway: Gateway) -> Result<Option<Listening>, CliError> {
    settings.check()?;
    let Address::On(address) = settings.listen else { return Ok(None) };
    let tls = settings.tls.as_ref().map(acceptor).transpose()?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let failed = CliError::usage(format!("cannot listen on `{address}`")).because(&error);
        failed.hint("--listen names another address, such as 127.0.0.1:0 for any free port, or off")
    })?;
    let address = listener.local_addr().map_err(|error| CliError::internal("cannot listen").because(&error))?;
    let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    let stop = CancellationToken::new();
    let task = tokio::spawn(take(listener, tls, gateway, stop.clone()));
    Ok(Some(Listening { url, stop, task }))
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, CliError> {
    let open = |path: &std::path::Path| {
        File::open(path).map(BufReader::new).map_err(|error| CliError::file("read", path, &error))
    };
    let wrong = |path: &std::path::Path, what: &str, error: &(dyn std::error::Error + 'static)| {
        CliError::usage(format!("`{}` holds no {what} in PEM that can be used", path.display())).because(error)
    };
    let (certificate, key) = (files.certificate.as_path(), files.key.as_path());
    let chain = CertificateDer::pem_reader_iter(open(certificate)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(certificate, "certificate chain", &error))?;
    let private = PrivateKeyDer::from_pem_reader(open(key)?).map_err(|error| wrong(key, "private key", &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CliError::internal("TLS cannot be set up").because(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| wrong(certificate, "certificate chain for that key", &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn take(listener: TcpListener, tls: Option<TlsAcceptor>, gateway: Gateway, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            // Never closed.
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        };
        let taken = tokio::select! {
            () = stop.cancelled() => break,
            taken = next => taken,
        };
        let (permit, stream, peer) = match taken {
            Some((permit, Ok((stream, peer)))) => (permit, stream, peer),
            Some((_, Err(error))) => {
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            None => break,
        };
        let (gateway, tls, watcher) = (gateway.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            match tls {
                None => serve(stream, (peer, false), gateway, watcher).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(TLS_TIME, tls.accept(stream)).await {
                        serve(stream, (peer, true), gateway, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    // Streams have no end of their own.
    let _ = tokio::time::timeout(LAST_ANSWERS, graceful.shutdown()).await;
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    (peer, tls): (SocketAddr, bool),
    gateway: Gateway,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Peer { address: peer.ip(), tls });
        gateway.clone().answer(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MOST_HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

/// Lets the process have as many descriptors as the system allows it: connections need more than the usual 1,024.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the limit of open files cannot be raised");
    }
}
