//! What all pages have around them, and pages of what went wrong.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use handshake_core::token::Right;
use handshake_recorder::Redaction;
use maud::{DOCTYPE, Markup, html};

use super::assets;
use crate::api::{Caller, Refusal};
use crate::error::CliError;
pub(super) use crate::page::{badge, lines, moment, part, shown};

/// The parts of the navigation: their paths, their names, and the right that they take.
const PLACES: [(&str, &str, Right); 6] = [
    ("/", "Runs", Right::See),
    ("/approvals", "Approvals", Right::Decide),
    ("/recorder", "Flight recorder", Right::Audit),
    ("/capabilities", "Capabilities", Right::Audit),
    ("/documents", "Documents", Right::Audit),
    ("/jobs/new", "New run", Right::Submit),
];

/// A page, but for what it is about.
pub(super) struct Frame<'a> {
    /// Who looks; none when nobody has come in.
    pub(super) caller: Option<&'a Caller>,
    /// The page's title.
    pub(super) title: &'a str,
    /// Its place in the navigation.
    pub(super) place: &'a str,
    /// A stream whose news make the page look again; none for pages that stay.
    pub(super) live: Option<String>,
}

impl<'a> Frame<'a> {
    /// Of a page that stays as it is.
    pub(super) fn of(caller: &'a Caller, title: &'a str, place: &'a str) -> Self {
        Self { caller: Some(caller), title, place, live: None }
    }

    /// Puts it around a page.
    pub(super) fn around(self, content: Markup) -> Response {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (shown(self.title)) " · Handshake" }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href=(assets::STYLE_PATH);
                    script type="module" src=(assets::SCRIPT_PATH) {}
                }
                body class="host" {
                    a class="skip" href="#main" { "To the content" }
                    @if let Some(caller) = self.caller {
                        header class="bar" {
                            a class="name" href="/" { "Handshake" }
                            nav aria-label="Pages" {
                                @for (path, name, right) in PLACES {
                                    @if caller.require(right).is_ok() {
                                        a href=(path) aria-current=[(path == self.place).then_some("page")] { (name) }
                                    }
                                }
                            }
                            form class="who" method="post" action="/logout" {
                                span { (shown(&caller.actor.id)) ", " (caller.role.as_str()) }
                                button { "Sign out" }
                            }
                        }
                    }
                    main id="main" data-live=[self.live] {
                        h1 { (shown(self.title)) }
                        (content)
                    }
                }
            }
        };
        ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.into_string()).into_response()
    }
}

/// What went wrong with a page.
pub(super) type Trouble = Refusal;

/// Writes the error of a refusal as a page, without secrets.
pub(crate) async fn said(State(redaction): State<Redaction>, mut response: Response) -> Response {
    let Some(error) = response.extensions_mut().remove::<CliError>() else { return response };
    let error = error.clean(&redaction);
    let caller = response.extensions_mut().remove::<Caller>();
    let frame = Frame { caller: caller.as_ref(), title: "That did not work", place: "", live: None };
    let mut page = frame.around(html! {
        section {
            p class="warn" { (shown(&error.message)) }
            @for why in &error.why { p { (shown(why)) } }
            @if let Some(hint) = &error.hint { p { (shown(hint)) } }
            p { a href="/" { "To the runs" } }
        }
    });
    *page.status_mut() = response.status();
    page.extensions_mut().extend(std::mem::take(response.extensions_mut()));
    page
}
