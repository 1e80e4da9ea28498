//! `/metrics`: numbers for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use handshake_core::storage::EventOutbox as _;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::api::{Host, Refusal};
use crate::error::CliError;

/// The form that Prometheus asks for.
const FORM: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long the database may take for its numbers.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    status: u16,
}

/// What is counted while it happens.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    answers: Family<Answer, Counter>,
}

/// Counts every answer.
pub(super) async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    metrics.answers.get_or_create(&Answer { status: response.status().as_u16() }).inc();
    response
}

/// Answers with all of them as they are now.
pub(crate) async fn metrics(
    State(host): Host,
    Extension(counted): Extension<Arc<Metrics>>,
) -> Result<Response, Refusal> {
    let late = |_| CliError::busy("the database does not answer in time");
    let stored = tokio::time::timeout(PATIENCE, host.database.statistics()).await.map_err(late)??;
    let recorded = host.log.flush().await?.seq;
    let gauge = |value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    let mut registry = Registry::with_prefix("handshake");
    registry.register("build", "Version of the host", Info::new([("version", crate::VERSION)]));
    registry.register("http_answers", "Answers over the network", counted.answers.clone());
    registry.register("jobs_stored", "Jobs in the database", gauge(stored.jobs));
    registry.register("runs_stored", "Runs in the database", gauge(stored.runs));
    registry.register("runs_executing", "Runs that this process executes", gauge(host.executions.count() as u64));
    registry.register("events_recorded", "Number of the last record of this host's chain", gauge(recorded));
    registry.register("events_in_outbox", "Records that are not sealed yet", gauge(stored.outbox_events));
    registry.register_with_unit("database", "Size of the database", Unit::Bytes, gauge(stored.bytes));
    if host.is_projecting() {
        let status = host.projection().await?.status().await;
        registry.register("events_projected", "Number of the last record that queries see", gauge(status.projected));
    }
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| CliError::internal("the numbers cannot be written").because(&error))?;
    Ok(([(header::CONTENT_TYPE, FORM)], text).into_response())
}
