//! The network of a test: names that canned answers mention have an address, and the servers behind them answer over
//! connections in memory. Everything before that, decision, look-up and check of addresses, is the runtime's own.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, Response};
use handshake_core::capability::{HttpTarget, Resource};
use handshake_runtime::{ByteStream, NameResolver};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::Mismatch;
use super::fakes::{Uses, locked};
use super::file::{HttpAnswer, HttpFault, names};

/// Of a network that is for documentation alone; nobody is ever connected to.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
/// Room of a connection in memory, bytes.
const BUFFER: usize = 64 << 10;

/// Servers that answer what the case says.
pub(super) struct CannedNetwork {
    names: Vec<String>,
    entries: Vec<(Uses, HttpAnswer)>,
    complaints: Arc<Mutex<Vec<Mismatch>>>,
}

impl CannedNetwork {
    pub(super) fn new(entries: &[(String, HttpAnswer)]) -> Self {
        let canned = entries.iter().map(|(place, answer)| {
            let request = Resource::Request(answer.target.clone()).to_string();
            (Uses::new(place, format!("`{request}`"), answer.times), answer.clone())
        });
        Self { names: names(entries), entries: canned.collect(), complaints: Arc::default() }
    }

    /// What was asked in vain or was not as it should be, and what was not asked.
    pub(super) fn complaints(&self) -> Vec<Mismatch> {
        let unused = self.entries.iter().filter_map(|(uses, _)| uses.unused());
        locked(&self.complaints).iter().cloned().chain(unused).collect()
    }
}

#[async_trait]
impl NameResolver for CannedNetwork {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match self.names.iter().any(|known| known == name) {
            true => Ok(vec![ADDRESS]),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "no [[http]] of the case mentions it")),
        }
    }

    async fn in_place_of(&self, server: &HttpTarget) -> Option<io::Result<Box<dyn ByteStream>>> {
        let found = self.entries.iter().find(|(uses, answer)| uses.is_left() && answer.target == *server);
        let Some((uses, answer)) = found else {
            let request = Resource::Request(server.clone());
            let what = format!("`{request}` was sent, and no answer is left for it; add a [[http]]");
            locked(&self.complaints).push(Mismatch { place: "http".to_owned(), what, diff: None });
            return Some(Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the case has no answer left for it")));
        };
        uses.take();
        if let Some(HttpFault::Refused) = answer.error {
            return Some(Err(io::Error::new(io::ErrorKind::ConnectionRefused, "as the case says")));
        }
        let (guest, server) = tokio::io::duplex(BUFFER);
        let (answer, place, complaints) = (answer.clone(), uses.place.clone(), Arc::clone(&self.complaints));
        // It ends with the connection, and that with the attempt.
        tokio::spawn(async move {
            let serve = service_fn(move |request: Request<Incoming>| {
                locked(&complaints).extend(not_as_sent(&answer, &place, &request));
                let response = response(&answer);
                async move {
                    // A server that answers early makes some clients fail, and others not.
                    let _ = axum::body::to_bytes(Body::new(request), usize::MAX).await;
                    Ok::<_, Infallible>(response)
                }
            });
            // Without the date, which would be another one each time.
            let _ = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(server), serve).await;
        });
        Some(Ok(Box::new(guest)))
    }
}

/// Headers that did not arrive as the case says. What arrived instead may hold a value that the step must not see.
fn not_as_sent(answer: &HttpAnswer, place: &str, request: &Request<Incoming>) -> Vec<Mismatch> {
    let arrived = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let wrong = answer.sent.iter().filter(|(name, value)| arrived(name).as_ref() != Some(*value));
    wrong
        .map(|(name, value)| Mismatch {
            place: place.to_owned(),
            what: match arrived(name) {
                Some(arrived) => format!("header `{name}` arrived as `{arrived}`, not as `{value}`"),
                None => format!("header `{name}` did not arrive; it should be `{value}`"),
            },
            diff: None,
        })
        .collect()
}

fn response(answer: &HttpAnswer) -> Response<Body> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    // Headers that are none were written by the author of the case, who sees the status.
    response.body(Body::from(answer.body.clone())).unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(format!("the headers of the case are not valid: {error}")));
        *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}
