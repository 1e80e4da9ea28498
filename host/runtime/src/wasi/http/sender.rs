//! Sends requests: placeholders are looked at, the decision is recorded, and only then the server is connected to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handshake_core::Digest;
use handshake_core::capability::{Axis, DenialLabel, HttpTarget, Layer, Resource};
use handshake_core::gate::{AttemptGate, Call, Permit};
use handshake_core::step::LogLevel;
use http::Method;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::{MAX_RESPONSE_BYTES, RequestBody, ResponseBody, is_packed, packed};
use super::connection::connect;
use super::{Broken, Io, Sent, TlsClient, from_hyper};
use crate::network::NameResolver;
use crate::observer::Voice;
use crate::secrets::{AttemptSecrets, Swap};
use crate::state::LastDenial;

/// Requests of one attempt at the same time, each with a connection of its own.
const MOST_REQUESTS: usize = 32;
/// How long a guest that says nothing about it waits for a connection, and then for each piece of the answer. Its
/// deadline ends all of them before.
const CONNECT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(120);
/// Bytes of a response's head, and its lines.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 128;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What the requests of one attempt need.
pub(crate) struct RequestSender {
    pub(crate) gate: Arc<AttemptGate>,
    pub(crate) voice: Voice,
    pub(crate) last_denial: LastDenial,
    pub(crate) secrets: Arc<AttemptSecrets>,
    pub(crate) resolver: Arc<dyn NameResolver>,
    pub(crate) tls: Arc<TlsClient>,
    under_way: Arc<Semaphore>,
}

/// A request that was allowed, on its way.
struct Outgoing {
    target: HttpTarget,
    headers: http::HeaderMap,
    body: RequestBody,
    options: RequestOptions,
}

impl RequestSender {
    pub(crate) fn new(
        gate: Arc<AttemptGate>,
        (voice, last_denial): (Voice, LastDenial),
        secrets: Arc<AttemptSecrets>,
        (resolver, tls): (Arc<dyn NameResolver>, Arc<TlsClient>),
    ) -> Self {
        let under_way = Arc::new(Semaphore::new(MOST_REQUESTS));
        Self { gate, voice, last_denial, secrets, resolver, tls, under_way }
    }

    pub(super) async fn send(&self, request: http::Request<WasiBody>, options: RequestOptions) -> Sent {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string();
        let resource = Resource::request(parts.method.as_str(), &url);
        let call = Call {
            interface: "wasi:http/outgoing-handler@0.2",
            function: "handle",
            axis: Axis::NetHttp,
            arguments: arguments(&parts, &url),
            resource: resource.clone(),
        };
        // Held until the permit is given: whoever takes the right to send a secret back waits for what was planned before.
        let in_force = self.gate.rights().policy.current();
        let planned = self.secrets.plan(&url, &parts.headers, &resource, in_force.policy());
        let asked = match planned {
            Ok(swaps) => {
                let secrets = swaps.iter().map(|swap| swap.secret.clone()).collect();
                self.gate.permit_with(call, secrets).await.map(|permit| (permit, swaps))
            }
            Err(problem) => Err(self.gate.refuse_call(call, DenialLabel::NotListed, Layer::Policy, &problem).await),
        };
        drop(in_force);
        self.last_denial.follow(asked.as_ref().err());
        let (permit, swaps) = asked.map_err(|denial| {
            self.voice.log(LogLevel::Warn, &denial.to_string());
            Error::HttpRequestDenied
        })?;
        // Nothing else is ever allowed.
        let Resource::Request(target) = resource else { return Err(Error::HttpRequestDenied) };

        let sent = Arc::new(AtomicU64::new(0));
        let body = RequestBody { inner: body, sent: Arc::clone(&sent) };
        let outgoing = Outgoing { target, headers: parts.headers, body, options };
        match self.exchange(&permit, outgoing, swaps).await {
            Ok((response, connection, place)) => {
                let between = options.between_bytes_timeout.unwrap_or(SILENCE);
                let secrets = Arc::clone(&self.secrets);
                let response = ResponseBody::within(response, secrets, between, (permit, sent), place);
                let response = response.map(ResponseBody::boxed_unsync);
                let io: Io = Box::new(async move {
                    connection.await;
                    Ok(())
                });
                Ok((response, io))
            }
            Err(Broken { error, label, detail }) => {
                permit.broke_off(label, 0, sent.load(Ordering::Relaxed));
                if let Some(detail) = detail {
                    self.voice.log(LogLevel::Warn, &detail);
                }
                Err(error)
            }
        }
    }

    async fn exchange(
        &self,
        permit: &Permit,
        outgoing: Outgoing,
        swaps: Vec<Swap>,
    ) -> Result<(http::Response<hyper::body::Incoming>, AbortOnDropJoinHandle<()>, OwnedSemaphorePermit), Broken> {
        let Outgoing { target, headers, body, options } = outgoing;
        let place = Arc::clone(&self.under_way).try_acquire_owned();
        let place = place.map_err(|_| Broken::new(Error::ConnectionLimitReached, "connection-limit"))?;
        let within = options.connect_timeout.unwrap_or(CONNECT);
        let stream = connect(&*self.resolver, &self.tls, self.gate.rights(), &target, within).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| from_hyper(&e))?;
        let mut request = self.request(permit, &target, headers, body, swaps)?;
        let unsent = take_unsent(&mut request);
        let connection = spawn(async move {
            // The request and the body are told what went wrong.
            let _ = tokio::join!(connection, read_to_end(unsent));
        });
        let first_byte = options.first_byte_timeout.unwrap_or(SILENCE);
        let response = match tokio::time::timeout(first_byte, sender.send_request(request)).await {
            Ok(response) => response.map_err(|error| from_hyper(&error))?,
            Err(_) => return Err(Broken::new(Error::ConnectionReadTimeout, "response-timeout")),
        };
        // hyper's own bound is that of its buffer, which may be filled more than once.
        let head: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if head > MAX_HEAD_BYTES {
            let limit = u32::try_from(MAX_HEAD_BYTES).ok();
            return Err(Broken::new(Error::HttpResponseHeaderSectionSize(limit), "response-headers-too-large"));
        }
        // HTTP has a length said in advance, mostly.
        let length = response.body().size_hint().lower();
        if length > MAX_RESPONSE_BYTES {
            return Err(Broken::new(Error::HttpResponseBodySize(Some(length)), "response-too-large"));
        }
        if self.secrets.echo(response.headers()) {
            self.secrets.report_echo();
            return Err(Broken::new(Error::HttpProtocolError, "secret-echoed"));
        }
        if self.secrets.sent() > 0 && is_packed(response.headers()) {
            return Err(packed());
        }
        Ok((response, connection, place))
    }

    fn request(
        &self,
        permit: &Permit,
        target: &HttpTarget,
        mut headers: http::HeaderMap,
        body: RequestBody,
        swaps: Vec<Swap>,
    ) -> Result<http::Request<RequestBody>, Broken> {
        let invalid = || Broken::new(Error::HttpRequestUriInvalid, "invalid-request");
        self.secrets.swap(permit, &mut headers, swaps).map_err(|problem| Broken {
            error: Error::HttpRequestDenied,
            label: "secret-unavailable",
            detail: Some(problem),
        })?;
        if self.secrets.sent() > 0 {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        headers.insert(
            HOST,
            HeaderValue::from_str(&target.origin.authority().to_ascii_lowercase()).map_err(|_| invalid())?,
        );
        // Whose request it is is for the host to say.
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
        if let Some(traceparent) = permit.identity().traceparent() {
            headers.insert(TRACEPARENT, HeaderValue::from_str(&traceparent).map_err(|_| invalid())?);
        }
        let mut request = http::Request::new(body);
        *request.method_mut() = target.method.parse().map_err(|_| invalid())?;
        *request.uri_mut() = target.path_and_query.parse().map_err(|_| invalid())?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The body that a request does not have: with these methods hyper sends none, unless the headers say that there is one, and drops
/// it. A guest that has not ended its own by then, which is nearly always empty, would find it closed, and some take that for
/// a connection that broke.
fn take_unsent(request: &mut http::Request<RequestBody>) -> Option<WasiBody> {
    let has_none =
        matches!(*request.method(), Method::GET | Method::HEAD) && !request.headers().contains_key(CONTENT_LENGTH);
    has_none.then(|| {
        let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
        std::mem::replace(&mut request.body_mut().inner, empty)
    })
}

async fn read_to_end(body: Option<WasiBody>) {
    let Some(mut body) = body else { return };
    while body.frame().await.is_some() {}
}

/// Method, URL and headers, as the guest gave them: with placeholders, never with values.
fn arguments(parts: &http::request::Parts, url: &str) -> Digest {
    let mut pieces = vec![parts.method.as_str().as_bytes(), url.as_bytes()];
    for (name, value) in &parts.headers {
        pieces.extend([name.as_str().as_bytes(), value.as_bytes()]);
    }
    Digest::of_parts(&pieces)
}
