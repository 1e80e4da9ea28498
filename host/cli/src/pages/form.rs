//! Bodies of forms. A field that was left empty was not given.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::Trouble;
use crate::error::CliError;

/// What a form sends.
pub(super) struct Form<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Trouble;

    async fn from_request(request: Request, state: &S) -> Result<Self, Trouble> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|problem| CliError::usage("the form did not arrive, or is too large").because(&problem))?;
        fields(&bytes).map(Self)
    }
}

/// What stands behind the `?` of a form that is sent by GET.
pub(super) struct Filter<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequestParts<S> for Filter<T> {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Trouble> {
        fields(parts.uri.query().unwrap_or_default().as_bytes()).map(Self)
    }
}

fn fields<T: DeserializeOwned>(text: &[u8]) -> Result<T, Trouble> {
    let given = url::form_urlencoded::parse(text).filter(|(_, value)| !value.trim().is_empty());
    let mut again = url::form_urlencoded::Serializer::new(String::new());
    again.extend_pairs(given);
    let fields = serde_urlencoded::from_str(&again.finish());
    Ok(fields.map_err(|error| CliError::usage("a field of the form holds what it cannot hold").because(&error))?)
}
