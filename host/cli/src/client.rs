//! The client of another process's local API, over its Unix socket.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, header};
use hyper_util::rt::TokioIo;

use crate::directory::DataDirectory;
use crate::error::CliError;
use crate::network::health::Health;

/// Reaches the process that owns a data directory.
#[derive(Debug)]
pub(crate) struct Client {
    directory: DataDirectory,
    pid: u32,
}

impl Client {
    /// Asks the owner for a sign of life; `None` when it gives none in time.
    pub(crate) async fn reach(directory: &DataDirectory, patience: Duration) -> Option<(Self, Health)> {
        let client = Self { directory: directory.clone(), pid: 0 };
        let asked = async {
            let request = Request::get("/health").body(Body::empty()).ok()?;
            let response = client.send(request).await.ok()?;
            let body = axum::body::to_bytes(response.into_body(), 64 << 10).await.ok()?;
            serde_json::from_slice::<Health>(&body).ok()
        };
        let health = tokio::time::timeout(patience, asked).await.ok()??;
        Some((Self { pid: health.pid, ..client }, health))
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, CliError> {
        let lost = |error: &(dyn std::error::Error + 'static)| {
            CliError::busy(format!("the connection to process {}, which owns the data directory, was lost", self.pid))
                .because(error)
                .hint("try again")
        };
        let stream = self.directory.connect().await.map_err(|error| lost(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the owner ended");
            }
        });
        request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
        let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
        Ok(response.map(Body::new))
    }
}
