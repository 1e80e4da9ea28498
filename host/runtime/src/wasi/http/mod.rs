//! HTTP: each request is one decision, made and durable before anything is looked up or connected to.
//!
//! It happens in the one hook through which wasmtime's implementation sends requests. What that refuses before (a method
//! or a URL that is none) never becomes a request. The host follows no redirect: a guest that does sends another
//! request, which is another decision.

mod body;
mod connection;
mod sender;
mod tls;

use std::sync::Arc;

use tracing::Instrument as _;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

pub(crate) use sender::RequestSender;
pub(crate) use tls::TlsClient;

/// Stands where wasmtime's own sender would.
pub(crate) struct GatedRequests(pub(crate) Arc<RequestSender>);

type Io = Box<dyn Future<Output = Result<()>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Io)>;

impl WasiHttpHooks for GatedRequests {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let sender = Arc::clone(&self.0);
        // The future is driven by a task of its own, and what it records belongs to this call.
        let send = async move { sender.send(request, options.unwrap_or_default()).await };
        Box::new(send.instrument(tracing::Span::current()))
    }
}

/// Why an allowed request came to nothing, or its response to no end.
struct Broken {
    /// What the guest is told.
    error: Error,
    /// The label of the outcome.
    label: &'static str,
    /// What whoever watches is told, if it is worth it.
    detail: Option<String>,
}

impl Broken {
    fn new(error: Error, label: &'static str) -> Self {
        Self { error, label, detail: None }
    }
}

/// hyper's errors in the words of WASI.
fn from_hyper(error: &hyper::Error) -> Broken {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    if error.is_timeout() {
        Broken::new(Error::HttpResponseTimeout, "response-timeout")
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() || io.is_some() {
        Broken::new(Error::HttpResponseIncomplete, "response-incomplete")
    } else if error.is_parse_too_large() {
        Broken::new(Error::HttpResponseHeaderSectionSize(None), "response-headers-too-large")
    } else {
        Broken::new(Error::HttpProtocolError, "protocol-error")
    }
}
