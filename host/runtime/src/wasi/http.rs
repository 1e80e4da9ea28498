//! HTTP: each request is a decision, and in this version always a denial.

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};
use wasmtime::component::{HasData, Resource as Handle};
use wasmtime_wasi_http::WasiHttpHooks;
use wasmtime_wasi_http::p2::HttpError;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::{ErrorCode, FutureIncomingResponse, Host, OutgoingRequest, RequestOptions};

use crate::observer::cut;
use crate::state::StepState;

/// Characters of a URL that a record shows.
const MAX_URL_BYTES: usize = 2_000;

pub(crate) struct GatedHttp<'a>(pub(crate) &'a mut StepState);

impl HasData for GatedHttp<'static> {
    type Data<'a> = GatedHttp<'a>;
}

/// Behind wasmtime's HTTP types, which only build requests, there is no way to send one.
#[derive(Debug, Default)]
pub(crate) struct NoRequests;

impl WasiHttpHooks for NoRequests {}

impl Host for GatedHttp<'_> {
    fn handle(&mut self, request: Handle<OutgoingRequest>, _: Option<Handle<RequestOptions>>) -> Result<Handle<FutureIncomingResponse>, HttpError> {
        let request = self.0.table.delete(request).map_err(HttpError::trap)?;
        let scheme = match &request.scheme {
            Some(scheme) => format!("{scheme:?}").to_ascii_lowercase(),
            None => "https".to_owned(),
        };
        let url = format!("{scheme}://{}{}", request.authority.as_deref().unwrap_or(""), request.path_with_query.as_deref().unwrap_or("/"));
        let method = format!("{:?}", request.method);
        let arguments = Digest::of_parts(&[method.as_bytes(), url.as_bytes()]);
        let resource = Resource::Address { address: cut(&url, MAX_URL_BYTES).to_owned() };
        if let Ok(permit) = self.0.permit_now(("wasi:http/outgoing-handler@0.2", "handle"), Axis::NetHttp, resource, arguments) {
            permit.failed("unsupported");
        }
        Err(ErrorCode::HttpRequestDenied.into())
    }
}
