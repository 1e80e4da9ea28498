//! Refusals of the API: the error document with the status that fits it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::error::{CliError, ErrorDocument, Exit};

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) CliError);

impl<E: Into<CliError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

fn status(error: &CliError) -> StatusCode {
    match (error.code.as_str(), error.exit) {
        ("not_found", _) => StatusCode::NOT_FOUND,
        ("conflict", _) => StatusCode::CONFLICT,
        ("busy", _) => StatusCode::SERVICE_UNAVAILABLE,
        ("too_large", _) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, Exit::Denied) => StatusCode::FORBIDDEN,
        (_, Exit::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (status(&self.0), Json(ErrorDocument { error: self.0 })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_error_has_its_status() {
        assert_eq!(status(&CliError::not_found("x")), StatusCode::NOT_FOUND);
        assert_eq!(status(&CliError::denied("x")), StatusCode::FORBIDDEN);
        assert_eq!(status(&CliError::busy("x")), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&CliError::usage("x")), StatusCode::BAD_REQUEST);
        assert_eq!(status(&CliError::internal("x")), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
