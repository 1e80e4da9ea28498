//! Pages where people look instead of reading: made on the server from what the API answers from, with everything they
//! need inside the binary.
//!
//! Almost all text in them was chosen by somebody else: guests, files, whoever submits. It passes [`shown`], which makes
//! visible what would hide or reorder text, and then maud, which escapes what HTML would take for markup. No page has a
//! script or style of its own, and the policy that comes with each answer (CSP) lets no other run. Forms work without
//! scripts; the door has checked by then that they come from here.

mod approvals;
mod assets;
mod documents;
mod drawing;
mod event;
mod form;
mod frame;
mod job;
mod jobs;
mod login;
mod recorder;
mod review;

use std::sync::Arc;

use axum::Router;
use axum::middleware::map_response_with_state;

use crate::api::Routes;
use crate::host::HostState;

pub(crate) use frame::said;
use frame::{Frame, Trouble, badge, lines, moment, part, shown};

/// Pages for those who have come in.
pub(crate) fn router(host: Arc<HostState>) -> Router {
    let routes = Routes::new()
        .merge(jobs::routes())
        .merge(job::routes())
        .merge(approvals::routes())
        .merge(recorder::routes())
        .merge(event::routes())
        .merge(review::routes())
        .merge(documents::routes());
    let redaction = host.redaction.clone();
    routes.at_root().layer(map_response_with_state(redaction, said)).with_state(host)
}

/// What tells nothing: where tokens are asked for, and the files that pages are made with.
pub(crate) fn public(host: Arc<HostState>) -> Router {
    let redaction = host.redaction.clone();
    let routes = Router::new().merge(login::routes()).merge(assets::routes());
    routes.layer(map_response_with_state(redaction, said)).with_state(host)
}
