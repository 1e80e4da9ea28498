//! The bodies of a request and of its response: counted, bounded, and the response looked through for secrets before
//! the guest sees a byte of it. The permit lives in the response's body, so the outcome knows what really went through.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use handshake_core::gate::Permit;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::{Broken, from_hyper};
use crate::secrets::{AttemptSecrets, Scanner};

/// Bytes of one response. It streams, so it is no matter of memory: a server that never ends should not keep a step
/// reading, and what is larger belongs into a mount.
pub(super) const MAX_RESPONSE_BYTES: u64 = 256 << 20;

/// Whether a body is in a form that cannot be looked through.
pub(super) fn is_packed(headers: &http::HeaderMap) -> bool {
    headers.get_all(http::header::CONTENT_ENCODING).iter().any(|encoding| encoding.as_bytes() != b"identity")
}

pub(super) fn packed() -> Broken {
    Broken::new(Error::HttpResponseContentCoding(None), "response-encoded")
}

/// Counts what the guest sends.
pub(super) struct RequestBody {
    pub(super) inner: WasiBody,
    pub(super) sent: Arc<AtomicU64>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Gives the guest what the server answers.
pub(super) struct ResponseBody {
    incoming: hyper::body::Incoming,
    scanner: Option<Scanner>,
    /// How many values it looks for.
    looked_for: usize,
    is_packed: bool,
    secrets: Arc<AttemptSecrets>,
    between: Duration,
    silence: Pin<Box<Sleep>>,
    account: Account,
    /// What comes after the bytes that were held back.
    next: Option<Frame<Bytes>>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

/// The permit with what has gone through.
struct Account {
    permit: Option<Permit>,
    sent: Arc<AtomicU64>,
    received: u64,
}

impl Account {
    fn close(&mut self, label: Option<&str>) {
        let Some(permit) = self.permit.take() else { return };
        let sent = self.sent.load(Ordering::Relaxed);
        match label {
            None => permit.succeeded(self.received, sent),
            Some(label) => permit.broke_off(label, self.received, sent),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // The guest has not read to the end.
        self.close(Some("abandoned"));
    }
}

impl ResponseBody {
    /// The response with its body in it.
    pub(super) fn within(
        response: http::Response<hyper::body::Incoming>,
        secrets: Arc<AttemptSecrets>,
        between: Duration,
        (permit, sent): (Permit, Arc<AtomicU64>),
        place: OwnedSemaphorePermit,
    ) -> http::Response<Self> {
        let (parts, incoming) = response.into_parts();
        let mut account = Account { permit: Some(permit), sent, received: 0 };
        let ended = incoming.is_end_stream();
        if ended {
            // Nobody need read it to know.
            account.close(None);
        }
        let body = Self {
            incoming,
            scanner: None,
            looked_for: 0,
            is_packed: is_packed(&parts.headers),
            secrets,
            between,
            silence: Box::pin(tokio::time::sleep(between)),
            account,
            next: None,
            ended,
            _place: place,
        };
        http::Response::from_parts(parts, body)
    }

    /// Looks for values that were sent since: they may come back over any connection.
    fn know_all(&mut self) -> Result<(), Broken> {
        let sent = self.secrets.sent();
        if sent == self.looked_for {
            return Ok(());
        }
        if self.is_packed {
            return Err(packed());
        }
        self.scanner = self.secrets.scanner().map(|scanner| scanner.going_on(self.scanner.take()));
        self.looked_for = sent;
        Ok(())
    }

    fn fail(&mut self, broken: Broken) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.ended = true;
        self.scanner = None;
        self.account.close(Some(broken.label));
        Poll::Ready(Some(Err(broken.error)))
    }

    /// What may be passed on of a frame, if anything.
    fn look_through(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Broken> {
        self.know_all()?;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if frame.trailers_ref().is_some_and(|trailers| self.secrets.echo(trailers)) {
                    return Err(self.echoed());
                }
                // Trailers end a body; what was held back comes first.
                return Ok(match self.scanner.as_mut().map(Scanner::rest) {
                    Some(rest) if !rest.is_empty() => {
                        self.next = Some(frame);
                        Some(Frame::data(rest))
                    }
                    _ => Some(frame),
                });
            }
        };
        self.account.received = self.account.received.saturating_add(data.len() as u64);
        if self.account.received > MAX_RESPONSE_BYTES {
            return Err(Broken::new(Error::HttpResponseBodySize(Some(MAX_RESPONSE_BYTES)), "response-too-large"));
        }
        let Some(scanner) = &mut self.scanner else { return Ok(Some(Frame::data(data))) };
        match scanner.push(&data) {
            Some(clean) if clean.is_empty() => Ok(None),
            Some(clean) => Ok(Some(Frame::data(clean))),
            None => Err(self.echoed()),
        }
    }

    fn echoed(&self) -> Broken {
        self.secrets.report_echo();
        Broken::new(Error::HttpProtocolError, "secret-echoed")
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = self.next.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(None) => {
                    self.ended = true;
                    self.account.close(None);
                    let rest = self.scanner.as_mut().map(Scanner::rest).unwrap_or_default();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let broken = from_hyper(&error);
                    return self.fail(broken);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let deadline = Instant::now() + self.between;
                    self.silence.as_mut().reset(deadline);
                    match self.look_through(frame) {
                        Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Ok(None) => {}
                        Err(broken) => return self.fail(broken),
                    }
                }
                Poll::Pending => {
                    if self.silence.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    return self.fail(Broken::new(Error::ConnectionReadTimeout, "response-timeout"));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.next.is_none()
    }
}
