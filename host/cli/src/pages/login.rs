//! Coming in with a token, and going out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::html;
use serde::Deserialize;

use super::form::{Filter, Form};
use super::{Frame, Trouble, part};
use crate::api::Host;
use crate::api::tokens::authenticate;
use crate::host::HostState;
use crate::network::door::{Connection, Door, SESSION};

pub(super) fn routes() -> Router<Arc<HostState>> {
    Router::new().route("/login", get(ask).post(come_in)).route("/logout", post(go_out))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Next {
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Login {
    #[serde(default)]
    token: String,
    next: Option<String>,
}

/// Where to go afterwards: a path of this host, whatever was asked for.
fn local(next: Option<&str>) -> &str {
    let plain = |path: &&str| {
        let bytes = path.as_bytes();
        bytes.first() == Some(&b'/')
            && !matches!(bytes.get(1), Some(b'/' | b'\\'))
            && bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\')
    };
    next.filter(plain).unwrap_or("/")
}

async fn ask(Filter(next): Filter<Next>) -> Response {
    page(local(next.next.as_deref()), None)
}

fn page(next: &str, problem: Option<&str>) -> Response {
    let frame = Frame { caller: None, title: "Handshake", place: "", live: None };
    frame.around(part(
        "login",
        "Come in with a token",
        html! {
            @if let Some(problem) = problem { p class="warn" role="alert" { (problem) } }
            form class="stack login" method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label { "Token" input name="token" type="password" autocomplete="current-password" required autofocus; }
                div class="actions" { button { "Come in" } }
            }
            p class="empty" { "Whoever owns the data directory makes one: " code { "handshake token new --role operator --name NAME" } }
        },
    ))
}

async fn come_in(
    State(host): Host,
    Extension(door): Extension<Arc<Door>>,
    Connection(peer): Connection,
    Form(login): Form<Login>,
) -> Result<Response, Trouble> {
    let next = local(login.next.as_deref());
    let bearer = login.token.trim();
    if let Err(unwelcome) = authenticate(&host, bearer, host.gate.clock.now()).await? {
        let (status, problem) = match door.refused_login(peer, unwelcome).await {
            true => (StatusCode::UNAUTHORIZED, "This token lets nobody in."),
            false => (StatusCode::TOO_MANY_REQUESTS, "Too many tokens that let nobody in; try again in a minute."),
        };
        let mut refused = page(next, Some(problem));
        *refused.status_mut() = status;
        return Ok(refused);
    }
    let secure = peer.is_some_and(|peer| peer.tls);
    // It was recognised, so it holds nothing that a cookie cannot.
    Ok(([(SET_COOKIE, cookie(bearer, secure, None))], Redirect::to(next)).into_response())
}

async fn go_out(Connection(peer): Connection) -> Response {
    let secure = peer.is_some_and(|peer| peer.tls);
    ([(SET_COOKIE, cookie("", secure, Some(0)))], Redirect::to("/login")).into_response()
}

fn cookie(value: &str, secure: bool, age: Option<u32>) -> String {
    let secure = if secure { "; Secure" } else { "" };
    let age = age.map(|age| format!("; Max-Age={age}")).unwrap_or_default();
    format!("{SESSION}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_only_sent_on_within_this_host() {
        for (next, expected) in [
            (Some("/recorder?job_id=1"), "/recorder?job_id=1"),
            (Some("https://evil.example"), "/"),
            (Some("//evil.example"), "/"),
            (Some("/\\evil.example"), "/"),
            (Some("/a\r\nset-cookie: b"), "/"),
            (Some("recorder"), "/"),
            (Some(""), "/"),
            (None, "/"),
        ] {
            assert_eq!(local(next), expected, "{next:?}");
        }
    }
}
