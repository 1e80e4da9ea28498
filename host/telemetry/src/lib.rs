//! Export of what the flight recorder holds as OpenTelemetry traces, over OTLP/HTTP.
//!
//! The record is the truth, and this is a copy for dashboards: made in the background from what is durable already,
//! and given up rather than waited for. A slow, broken or missing collector costs spans and nothing else.

mod client;
mod collector;
mod exporter;
mod spans;

pub use collector::{Collector, CollectorError};
pub use exporter::Exporter;
