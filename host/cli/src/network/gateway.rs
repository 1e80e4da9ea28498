//! What answers from the first moment on: that the host is starting, and then the host.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use tower::ServiceExt;

use super::health::Health;
use crate::error::{CliError, ErrorDocument};

/// Seconds after which somebody may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Answers requests, before the host is there and when it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gateway(Arc<OnceLock<Router>>);

impl Gateway {
    /// From now on this answers.
    pub(crate) fn open(&self, router: Router) {
        // First write wins; there is only this one.
        let _ = self.0.set(router);
    }

    /// Answers one request.
    pub(crate) async fn answer(self, request: Request<Body>) -> Result<Response, Infallible> {
        match self.0.get() {
            Some(router) => router.clone().oneshot(request).await,
            None => Ok(starting(request.uri().path())),
        }
    }
}

fn starting(path: &str) -> Response {
    let mut response = if path == "/health" {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Health::starting())).into_response()
    } else {
        let error = CliError::busy(format!("process {} is starting and takes no requests yet", std::process::id()))
            .hint("try again in a moment; /health tells when it is ready");
        (StatusCode::SERVICE_UNAVAILABLE, Json(ErrorDocument { error })).into_response()
    };
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::routing::get;

    use super::*;

    async fn ask(gateway: &Gateway, path: &str) -> (StatusCode, Option<HeaderValue>, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = gateway.clone().answer(request).await.unwrap();
        let (status, later) = (response.status(), response.headers().get(header::RETRY_AFTER).cloned());
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, later, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn until_the_host_is_there_everybody_is_told_to_try_again() {
        let gateway = Gateway::default();
        let (status, later, body) = ask(&gateway, "/api/v1/jobs").await;
        assert_eq!((status, later), (StatusCode::SERVICE_UNAVAILABLE, Some(RETRY_AFTER)));
        assert!(body.contains("is starting"), "{body}");
        let (status, _, body) = ask(&gateway, "/health").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(r#""status":"starting""#) && body.contains(r#""accepts_jobs":false"#), "{body}");
        gateway.open(Router::new().route("/api/v1/jobs", get(|| async { "here" })));
        assert_eq!(ask(&gateway, "/api/v1/jobs").await, (StatusCode::OK, None, "here".to_owned()));
    }
}
