//! One request to the collector, and what its answer means.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode, redirect};

use crate::Collector;

/// How long one request may take; what the OpenTelemetry SDKs allow.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer may hold that many bytes; real ones are empty or have one sentence.
const LARGEST_ANSWER: usize = 64 << 10;
/// What went wrong is told in so many characters.
const LONGEST_PROBLEM: usize = 200;

/// Why spans were not taken.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For a person.
    pub(crate) problem: String,
    /// Whether trying again may help.
    pub(crate) again: bool,
    /// How long the collector asks to wait.
    pub(crate) after: Option<Duration>,
}

impl Failure {
    fn last(problem: String) -> Self {
        Self { problem, again: false, after: None }
    }
}

/// Posts spans.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    collector: Collector,
}

impl Client {
    /// Reads the system's certificates, which takes its time.
    pub(crate) fn new(collector: Collector) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // Credentials go to the place that the operator named and nowhere else.
            .redirect(redirect::Policy::none());
        if collector.is_local() {
            // What runs on this machine is not reached through a proxy, whatever the environment says.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Failure::last(format!("no HTTP client: {}", root(&error))))?;
        Ok(Self { http, collector })
    }

    /// Posts an encoded request, and says how many spans of it the collector has rejected.
    pub(crate) async fn post(&self, request: Bytes) -> Result<usize, Failure> {
        let sent = self
            .http
            .post(self.collector.traces().clone())
            .headers(self.collector.headers().clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(request)
            .send()
            .await;
        let response = sent.map_err(|error| unreached(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(status, &response));
        }
        // It has taken the spans, whatever it says about them; an answer that makes no sense rejects none.
        let answer = body(response).await.and_then(|body| ExportTraceServiceResponse::decode(body.as_slice()).ok());
        let rejected = answer.and_then(|answer| answer.partial_success).map_or(0, |partial| partial.rejected_spans);
        Ok(usize::try_from(rejected).unwrap_or(0))
    }
}

async fn body(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

fn refusal(status: StatusCode, response: &Response) -> Failure {
    // What OTLP says may be sent again; everything else would be refused again.
    let again = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Failure { problem: format!("it answered {status}"), again, after: after.map(Duration::from_secs) }
}

fn unreached(error: &reqwest::Error) -> Failure {
    let problem = if error.is_timeout() && !error.is_connect() {
        format!("it did not answer within {} s", TIMEOUT.as_secs())
    } else {
        root(error)
    };
    Failure { problem, again: true, after: None }
}

/// The cause at the bottom, which says why.
fn root(error: &reqwest::Error) -> String {
    let Some(mut cause) = error.source() else { return "the connection failed".to_owned() };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let short: String = cause.to_string().chars().take(LONGEST_PROBLEM).collect();
    handshake_core::terminal::escape(&short, false).into_owned()
}
