//! Refusals of the API: the error document with the status that fits it.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use handshake_recorder::Redaction;
use tokio::io::AsyncReadExt;

use crate::error::{CliError, ErrorDocument, Exit};

/// The most that is read of what the framework says, bytes.
const LONGEST_WORDS: usize = 4 << 10;

/// Bytes of a file that are read at a time.
const PIECE: usize = 64 << 10;

/// A file as the body of an answer, from where it stands to its end.
pub(super) fn file(file: std::fs::File) -> Body {
    let file = tokio::fs::File::from_std(file);
    Body::from_stream(futures::stream::try_unfold(file, async |mut file| {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(piece), file)))
    }))
}

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
        ("unauthorized", _) => StatusCode::UNAUTHORIZED,
        ("too_many", _) => StatusCode::TOO_MANY_REQUESTS,
        ("too_large", _) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, Exit::Denied) => StatusCode::FORBIDDEN,
        (_, Exit::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl IntoResponse for Refusal {
    /// Without a body: that is for [`say`], which knows what must not be said.
    fn into_response(self) -> Response {
        let mut response = status(&self.0).into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// An error as an answer, without secrets.
pub(crate) fn said(status: StatusCode, error: CliError, redaction: &Redaction) -> Response {
    (status, Json(ErrorDocument { error: error.clean(redaction) })).into_response()
}

/// Writes the error of a refusal into its response, without secrets. Wraps the whole API.
pub(crate) async fn say(State(redaction): State<Redaction>, mut response: Response) -> Response {
    match response.extensions_mut().remove::<CliError>() {
        Some(error) => {
            let mut said = said(response.status(), error, &redaction);
            *said.extensions_mut() = std::mem::take(response.extensions_mut());
            said
        }
        None if is_words(&response) => in_words(response, &redaction).await,
        None => response,
    }
}

/// Whether the framework has refused a request in its own form.
fn is_words(response: &Response) -> bool {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    (status.is_client_error() || status.is_server_error()) && kind.is_none_or(|kind| kind.starts_with("text/plain"))
}

async fn in_words(response: Response, redaction: &Redaction) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, LONGEST_WORDS).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&body);
    let words = if words.is_empty() { parts.status.canonical_reason().unwrap_or("refused") } else { &words };
    let mut said = said(parts.status, CliError::usage(words), redaction);
    // Such as which methods there are.
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    said.headers_mut().extend(parts.headers);
    *said.extensions_mut() = parts.extensions;
    said
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use axum::middleware::map_response_with_state;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_said_without_secrets() {
        let refuse = || async { Refusal(CliError::usage("`top-secret-value` is wrong").hint("not top-secret-value")) };
        let redaction = Redaction::new(vec!["top-secret-value".into()]);
        let router = Router::new().fallback(refuse).layer(map_response_with_state(redaction, say));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let document: ErrorDocument = serde_json::from_slice(&body).unwrap();
        assert_eq!(document.error.message, "`[REDACTED:token:secret_exact]` is wrong");
        assert_eq!(document.error.hint.as_deref(), Some("not [REDACTED:token:secret_exact]"));
    }

    #[test]
    fn every_class_of_error_has_its_status() {
        assert_eq!(status(&CliError::not_found("x")), StatusCode::NOT_FOUND);
        assert_eq!(status(&CliError::denied("x")), StatusCode::FORBIDDEN);
        assert_eq!(status(&CliError::busy("x")), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&CliError::usage("x")), StatusCode::BAD_REQUEST);
        assert_eq!(status(&CliError::internal("x")), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
