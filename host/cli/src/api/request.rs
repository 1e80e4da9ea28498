//! Bodies and parameters of requests, refused in the API's own form when they are wrong.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::{MAX_REQUEST_BYTES, Refusal};
use crate::error::CliError;

/// A JSON body.
pub(crate) struct Document<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Document<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(problem)
                if problem.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE =>
            {
                Refusal(
                    CliError::usage(format!("the request is larger than {MAX_REQUEST_BYTES} bytes")).code("too_large"),
                )
            }
            problem => Refusal(CliError::usage("the request's body did not arrive").because(&problem)),
        })?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            Refusal(CliError::usage("the request's body is not what this resource takes").because(&error))
        })?;
        Ok(Self(value))
    }
}

/// Parameters behind the `?`.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|problem| Refusal(CliError::usage(problem.body_text())))?;
        Ok(Self(value))
    }
}

/// The key that makes a submission happen once however often it is sent.
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let text = value.to_str().map_err(|_| {
            Refusal(CliError::usage("the header idempotency-key holds other characters than those of ASCII"))
        })?;
        Ok(Self(Some(text.to_owned())))
    }
}
