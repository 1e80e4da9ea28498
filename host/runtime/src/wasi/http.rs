//! HTTP: each request is a decision, and in this version always a denial.
//!
//! The decision is made in the one hook through which wasmtime's implementation sends requests. What it refuses
//! before (a method or a URL that is none) never becomes a request.

use std::sync::Arc;

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};
use handshake_core::gate::{AttemptGate, Call};
use handshake_core::step::LogLevel;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use crate::observer::{Voice, cut};

/// Characters of a URL that a record shows.
const MAX_URL_BYTES: usize = 2_000;

/// Stands where a sender of requests would.
pub(crate) struct RefusedRequests {
    pub(crate) gate: Arc<AttemptGate>,
    pub(crate) voice: Voice,
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>)>;

impl WasiHttpHooks for RefusedRequests {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let url = request.uri().to_string();
        let call = Call {
            interface: "wasi:http/outgoing-handler@0.2",
            function: "handle",
            axis: Axis::NetHttp,
            resource: Resource::Address { address: cut(&url, MAX_URL_BYTES).to_owned() },
            arguments: Digest::of_parts(&[request.method().as_str().as_bytes(), url.as_bytes()]),
        };
        match self.gate.permit_now(call) {
            Ok(permit) => permit.failed("unsupported"),
            Err(denial) => self.voice.log(LogLevel::Warn, &denial.to_string()),
        }
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}
