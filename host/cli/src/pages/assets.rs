//! The files that pages are made with, inside the binary.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::host::HostState;
use crate::page;

/// Where the style is. The version is part of the path, so that a browser may keep it.
pub(super) const STYLE_PATH: &str = concat!("/assets/", env!("CARGO_PKG_VERSION"), "/style.css");
/// Where the script is.
pub(super) const SCRIPT_PATH: &str = concat!("/assets/", env!("CARGO_PKG_VERSION"), "/live.js");

const STYLE: &str = include_str!("assets/pages.css");
const SCRIPT: &str = include_str!("assets/live.js");
/// A build that is not released may change them under one version.
const KEEP: &str = "private, max-age=300";

pub(super) fn routes() -> Router<Arc<HostState>> {
    // Browsers ask for an icon whatever a page says.
    let nothing = get(async || StatusCode::NO_CONTENT);
    Router::new().route(STYLE_PATH, get(style)).route(SCRIPT_PATH, get(script)).route("/favicon.ico", nothing)
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, KEEP)], [page::STYLE, STYLE].concat())
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, KEEP)], SCRIPT)
}
