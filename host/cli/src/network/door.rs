//! The door: who is let in over the network. What is refused here is on record, and nothing of it was done.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::StreamExt;
use handshake_core::event::{Actor, AuthRefusal, Event, EventBody};
use handshake_core::storage::StorageError;
use handshake_core::token::Right;
use handshake_core::{EventId, TokenId, TraceId};
use tower_http::compression::predicate::{NotForContentType, Predicate};
use tower_http::compression::{CompressionLayer, DefaultPredicate};
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::headers;
use super::health::health;
use super::metrics::{self, Metrics, count};
use super::rate::Limit;
use super::settings::NetworkSettings;
use crate::access::percent_encoded;
use crate::api::tokens::{Unwelcome, authenticate};
use crate::api::{self, Caller, EVENTS, Forbidden, LINES, Routes, said};
use crate::error::CliError;
use crate::host::HostState;
use crate::pages;

/// The cookie that browsers show instead of the header. Its value is the token itself, so that revoking that ends the
/// session too.
pub(crate) const SESSION: &str = "handshake_session";
/// How often it is looked whether the token of a stream still counts, besides whenever one is revoked here: they end, and
/// other hosts revoke some.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);
/// How long a client may pause within a request's body.
const BODY_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// The address.
    pub(crate) address: IpAddr,
    /// Whether it speaks TLS.
    pub(crate) tls: bool,
}

/// Where a request comes from; none within this process.
pub(crate) struct Connection(pub(crate) Option<Peer>);

impl<S: Send + Sync> FromRequestParts<S> for Connection {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Peer>().copied()))
    }
}

/// What the door knows.
pub(crate) struct Door {
    host: Arc<HostState>,
    hosts: Vec<String>,
    requests: Limit<TokenId>,
    refusals: Limit<IpAddr>,
}

/// Everything that is served over the network: behind the door, but for what tells nothing.
pub(crate) fn router(host: Arc<HostState>, settings: &NetworkSettings) -> Router {
    let door = Arc::new(Door {
        host: Arc::clone(&host),
        hosts: settings.hosts.clone(),
        requests: Limit::of_requests(),
        refusals: Limit::of_refusals(),
    });
    let inside = api::router(Arc::clone(&host)).merge(pages::router(Arc::clone(&host)));
    let metrics = Arc::new(Metrics::default());
    let numbers = Routes::new().on(Right::See, "/metrics", get(metrics::metrics)).at_root();
    let numbers = numbers.layer(Extension(Arc::clone(&metrics))).with_state(Arc::clone(&host));
    let inside = inside.merge(numbers).layer(from_fn_with_state(Arc::clone(&door), let_in));
    Router::new()
        .route("/health", get(health))
        .with_state(Arc::clone(&host))
        .merge(pages::public(host).layer(Extension(Arc::clone(&door))))
        .merge(inside)
        .layer(from_fn_with_state(door, known_place))
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(from_fn_with_state(metrics, count))
        // A stream of lines would wait for a whole block.
        .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(NotForContentType::const_new(LINES))))
        .layer(map_response(headers::add))
}

/// Refuses what was sent to another name than this host's, and what another site's page sends: a name that somebody else
/// points here, or a page somewhere else, would otherwise speak with a visitor's cookie.
async fn known_place(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let problem = match host_of(headers, request.uri()) {
        None => Some("unknown_host"),
        Some(host) if !door.is_ours(host) => Some("unknown_host"),
        Some(host) => foreign(headers, request.method(), host).then_some("foreign_origin"),
    };
    match problem {
        None => next.run(request).await,
        Some(reason) => {
            let message = match reason {
                "unknown_host" => "the request is for another host than this one",
                _ => "the request comes from another site's page",
            };
            let hint = "serve.hosts in handshake.toml lists the names of this host";
            let error = CliError::denied(message).code("forbidden").hint(hint);
            door.refuse(&Attempt::from(&request), nobody(), reason, StatusCode::FORBIDDEN, error).await
        }
    }
}

/// Lets in who shows a token that counts.
async fn let_in(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let attempt = Attempt::from(&request);
    let Some(bearer) = bearer(request.headers()) else {
        if wants_page(&request) {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            return Redirect::to(&format!("/login?next={}", percent_encoded(path))).into_response();
        }
        let error = CliError::denied("the request shows no token").code("unauthorized").hint(HINT);
        return door.refuse(&attempt, nobody(), "no_token", StatusCode::UNAUTHORIZED, error).await;
    };
    let token = match authenticate(&door.host, &bearer, door.host.gate.clock.now()).await {
        Ok(Ok(token)) => token,
        Ok(Err(unwelcome)) => {
            let (actor, reason) = about(unwelcome);
            let error = CliError::denied("the token lets nobody in").code("unauthorized").hint(HINT);
            return door.refuse(&attempt, actor, reason, StatusCode::UNAUTHORIZED, error).await;
        }
        Err(error) => return said(StatusCode::SERVICE_UNAVAILABLE, error, &door.host.redaction),
    };
    if !door.requests.allows(&token.token_id) {
        return too_many(&door.host);
    }
    let caller = Caller::bearer(&token);
    let actor = caller.actor.clone();
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    if response.extensions().get::<Forbidden>().is_some() {
        door.record(&attempt, actor, "forbidden").await;
    }
    if is_stream(&response) { until_over(response, door, token.token_id) } else { response }
}

/// Who it was, and why they were not let in.
fn about(unwelcome: Unwelcome) -> (Actor, &'static str) {
    match unwelcome {
        Unwelcome::Unknown => (nobody(), "unknown_token"),
        Unwelcome::Over(actor, reason) => (actor, reason),
    }
}

/// Whether an answer has no end of its own.
fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with(EVENTS) || kind.starts_with(LINES))
}

/// Ends a stream when its token does. Other answers are over before that matters.
fn until_over(response: Response, door: Arc<Door>, token: TokenId) -> Response {
    let mut revoked = door.host.token_revoked.subscribe();
    let over = async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                // The sender lives as long as the host.
                _ = revoked.changed() => {}
            }
            let now = door.host.gate.clock.now();
            match door.host.database.token(token).await {
                Ok(token) if token.over(now).is_none() => {}
                // The database may be away for a moment; a token that cannot be looked up is not one that is over.
                Err(error) if !matches!(error, StorageError::NotFound { .. }) => {}
                _ => return,
            }
        }
    };
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(over))))
}

/// What to do about a token that does not help.
const HINT: &str = "`handshake token new` makes one; it is sent as a bearer token in the header `authorization`";

fn nobody() -> Actor {
    Actor::system()
}

/// What was attempted, and from where.
struct Attempt {
    what: String,
    peer: Option<IpAddr>,
}

impl From<&Request> for Attempt {
    fn from(request: &Request) -> Self {
        // Without what stands behind the `?`: it may hold anything.
        let what = format!("{} {}", request.method(), request.uri().path());
        Self { what, peer: request.extensions().get::<Peer>().map(|peer| peer.address) }
    }
}

impl Door {
    /// Whether a name of the header `host` is this host's. Addresses always are: what DNS rebinding takes is a name.
    fn is_ours(&self, host: &str) -> bool {
        let name = name_of(host).to_ascii_lowercase();
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || literal.parse::<IpAddr>().is_ok() || self.hosts.contains(&name)
    }

    /// Puts a token on record that was shown to the page where tokens are asked for; says whether there were not too many.
    pub(crate) async fn refused_login(&self, peer: Option<Peer>, unwelcome: Unwelcome) -> bool {
        let (actor, reason) = about(unwelcome);
        let attempt = Attempt { what: "POST /login".to_owned(), peer: peer.map(|peer| peer.address) };
        self.record(&attempt, actor, reason).await
    }

    /// Refuses, on record.
    async fn refuse(
        &self,
        attempt: &Attempt,
        actor: Actor,
        reason: &'static str,
        status: StatusCode,
        error: CliError,
    ) -> Response {
        if !self.record(attempt, actor, reason).await {
            return too_many(&self.host);
        }
        let mut response = said(status, error, &self.host.redaction);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// Puts a refusal on record, unless there are too many of them from one address.
    async fn record(&self, attempt: &Attempt, actor: Actor, reason: &str) -> bool {
        if attempt.peer.is_some_and(|peer| !self.refusals.allows(&peer)) {
            tracing::warn!(peer = ?attempt.peer, "too many refused requests of one address are not on record one by one");
            return false;
        }
        let gate = &self.host.gate;
        let body = EventBody::AuthRefusal(AuthRefusal {
            attempted: attempt.what.clone(),
            reason: reason.to_owned(),
            peer: attempt.peer.map(|peer| peer.to_string()),
        });
        let ids = &*gate.ids;
        let event = Event::new(EventId::fresh(ids), TraceId::fresh(ids), gate.clock.now(), actor, body);
        if let Err(error) = gate.recorder.record_event(&event).await {
            tracing::error!(%error, "a refused request cannot be put on record");
        }
        true
    }
}

fn too_many(host: &HostState) -> Response {
    let error = CliError::denied("too many requests").code("too_many").hint("try again in a moment");
    let mut response = said(StatusCode::TOO_MANY_REQUESTS, error, &host.redaction);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}

/// Whether somebody with a browser asks for a page, who can be sent to where tokens are asked for.
fn wants_page(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    request.method() == Method::GET && !request.uri().path().starts_with("/api/") && accepts.contains("text/html")
}

/// The token that a request shows: in its header, or in its cookie.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION).map(|(_, value)| value.to_owned())
}

/// The host that a request is for.
fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => uri.authority().map(|authority| authority.as_str()),
        _ => None,
    }
}

/// The name in `name:port`.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether another site's page sends this.
fn foreign(headers: &HeaderMap, method: &Method, host: &str) -> bool {
    let safe = matches!(*method, Method::GET | Method::HEAD);
    if let Some(origin) = headers.get(header::ORIGIN) {
        let Ok(origin) = origin.to_str() else { return true };
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        return rest.is_none_or(|rest| !rest.eq_ignore_ascii_case(host));
    }
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    !safe && site.is_some_and(|site| site != "same-origin" && site != "none")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_comes_in_a_header_or_in_the_cookie_and_the_header_wins() {
        assert_eq!(bearer(&headers(&[("authorization", "Bearer hsk_a")])).as_deref(), Some("hsk_a"));
        assert_eq!(bearer(&headers(&[("authorization", "bearer  hsk_a ")])).as_deref(), Some("hsk_a"));
        assert_eq!(bearer(&headers(&[("authorization", "Basic hsk_a"), ("cookie", "handshake_session=b")])), None);
        let cookies = headers(&[("cookie", "a=b; handshake_session=hsk_c; d=e")]);
        assert_eq!(bearer(&cookies).as_deref(), Some("hsk_c"));
        assert_eq!(bearer(&headers(&[("cookie", "xhandshake_session=hsk_c")])), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn only_the_same_origin_sends_what_changes_something() {
        let host = "localhost:7420";
        for (pairs, method, expected) in [
            (vec![], Method::POST, false),
            (vec![("origin", "http://localhost:7420")], Method::POST, false),
            (vec![("origin", "http://localhost:7421")], Method::POST, true),
            (vec![("origin", "http://localhost")], Method::POST, true),
            (vec![("origin", "https://evil.example")], Method::GET, true),
            (vec![("origin", "null")], Method::POST, true),
            (vec![("sec-fetch-site", "cross-site")], Method::POST, true),
            (vec![("sec-fetch-site", "same-site")], Method::POST, true),
            (vec![("sec-fetch-site", "same-origin")], Method::POST, false),
            // A link from elsewhere; its cookie does not come along.
            (vec![("sec-fetch-site", "cross-site")], Method::GET, false),
        ] {
            assert_eq!(foreign(&headers(&pairs), &method, host), expected, "{pairs:?} {method}");
        }
    }

    #[test]
    fn names_end_before_the_port() {
        assert_eq!(name_of("a.example:80"), "a.example");
        assert_eq!(name_of("[::1]:80"), "[::1]");
        assert_eq!(name_of("[::1]"), "[::1]");
        assert_eq!(name_of("a.example"), "a.example");
    }

    #[test]
    fn a_request_is_for_one_host() {
        let uri = Uri::from_static("/");
        assert_eq!(host_of(&headers(&[("host", "a")]), &uri), Some("a"));
        let mut two = headers(&[("host", "a")]);
        two.append(header::HOST, "b".parse().unwrap());
        assert_eq!(host_of(&two, &uri), None);
        assert_eq!(host_of(&HeaderMap::new(), &uri), None);
    }
}
