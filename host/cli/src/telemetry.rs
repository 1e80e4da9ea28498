//! Where traces are exported to, if anywhere: `[telemetry]` in `handshake.toml`, and the environment variables of
//! OpenTelemetry.

use std::sync::Arc;

use handshake_core::Clock;
use handshake_core::event::{RedactionScope, Redactor};
use handshake_core::model::{ModelInfo, Models};
use handshake_core::storage::EventOutbox;
use handshake_telemetry::{Collector, CollectorError, Exporter};
use secrecy::SecretString;
use serde::Deserialize;

use crate::error::CliError;

/// The standard variable for the address, which wins over the file.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// The standard variable for headers, unless the file names another.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// `[telemetry]` as written.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelemetryFile {
    /// A collector that speaks OTLP/HTTP, up to and without `/v1/traces`, for example `http://127.0.0.1:4318`; default
    /// none, and nothing is exported. The environment variable OTEL_EXPORTER_OTLP_ENDPOINT wins over it.
    otlp_endpoint: Option<String>,
    /// Environment variable that holds headers for it, as `name=value,name=value` with values percent-encoded; default
    /// OTEL_EXPORTER_OTLP_HEADERS.
    headers_env: Option<String>,
}

/// Where traces are exported to.
#[derive(Debug, Default)]
pub(crate) struct TelemetrySettings {
    /// The collector, if one is configured.
    pub(crate) collector: Option<Collector>,
    /// The variable that was to hold headers and does not.
    pub(crate) missing: Option<String>,
}

impl TelemetrySettings {
    /// What must be redacted wherever it turns up.
    pub(crate) fn secret_values(&self) -> Vec<String> {
        self.collector.as_ref().map(Collector::secret_values).unwrap_or_default()
    }

    /// Exports what is recorded from now on, if a collector is configured.
    pub(crate) async fn start(
        &self,
        outbox: &Arc<dyn EventOutbox>,
        clock: &Arc<dyn Clock>,
        models: &dyn Models,
        redactor: &dyn Redactor,
    ) -> Option<Exporter> {
        let collector = self.collector.clone()?;
        if let Some(variable) = &self.missing {
            tracing::warn!("environment variable `{variable}` is not set, so traces are exported without headers");
        }
        // Events have been redacted; what spans say of models comes from the settings instead.
        let clean = |text: &str| redactor.clean(RedactionScope::Text, text).into_owned();
        let known = |model: ModelInfo| ModelInfo { model: clean(&model.model), ..model };
        let models = models.list().into_iter().map(known).collect();
        Exporter::start(collector, Arc::clone(outbox), Arc::clone(clock), models, crate::VERSION).await
    }
}

impl TelemetryFile {
    /// Checks everything. `name` is the settings file as the person knows it.
    pub(crate) fn resolve(
        self,
        name: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<TelemetrySettings, CliError> {
        // The standard says that an empty variable is none.
        let set = |variable: &str| environment(variable).filter(|value| !value.trim().is_empty());
        let (place, endpoint) = match (set(ENDPOINT), self.otlp_endpoint) {
            (Some(endpoint), _) => (ENDPOINT.to_owned(), endpoint),
            (None, Some(endpoint)) => (format!("{name}: telemetry.otlp_endpoint"), endpoint),
            (None, None) => return Ok(TelemetrySettings::default()),
        };
        let variable = self.headers_env.as_deref().unwrap_or(HEADERS);
        let headers = set(variable).map(SecretString::from);
        let missing = self.headers_env.as_ref().filter(|_| headers.is_none()).cloned();
        let collector = Collector::new(&endpoint, headers.as_ref()).map_err(|error| {
            let place = if matches!(error, CollectorError::Headers { .. }) { variable } else { &place };
            CliError::usage(format!("{place}: {error}"))
        })?;
        Ok(TelemetrySettings { collector: Some(collector), missing })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolve(text: &str, environment: &[(&str, &str)]) -> Result<TelemetrySettings, String> {
        let value = |name: &str| environment.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        let file: TelemetryFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        file.resolve("handshake.toml", &value).map_err(|error| error.message)
    }

    fn shown(settings: TelemetrySettings) -> Option<String> {
        settings.collector.map(|collector| collector.to_string())
    }

    #[test]
    fn nothing_is_exported_unless_the_file_or_the_environment_says_where_to() {
        let file = "otlp_endpoint = 'http://127.0.0.1:4318'";
        assert_eq!(shown(resolve("", &[]).unwrap()), None);
        assert_eq!(shown(resolve("", &[(ENDPOINT, " ")]).unwrap()), None);
        assert_eq!(shown(resolve(file, &[(ENDPOINT, "")]).unwrap()).unwrap(), "http://127.0.0.1:4318/v1/traces");
        let wins = resolve(file, &[(ENDPOINT, "https://otel.example")]).unwrap();
        assert_eq!(shown(wins).unwrap(), "https://otel.example/v1/traces");
    }

    #[test]
    fn headers_come_from_the_environment_and_a_missing_variable_is_told() {
        let file = "otlp_endpoint = 'http://h'\nheaders_env = 'MINE'";
        let secrets = |environment| resolve(file, environment).unwrap().collector.unwrap().secret_values();
        assert_eq!(secrets(&[("MINE", "k=hunter22"), (HEADERS, "k=other")])[0], "hunter22");
        assert_eq!(resolve(file, &[(HEADERS, "k=other")]).unwrap().missing.unwrap(), "MINE");
        let standard = resolve("otlp_endpoint = 'http://h'", &[(HEADERS, "k=hunter22")]).unwrap();
        assert_eq!((standard.collector.unwrap().secret_values()[0].as_str(), standard.missing), ("hunter22", None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_without_its_value() {
        assert!(resolve("endpoint = 'http://h'", &[]).unwrap_err().contains("unknown field `endpoint`"));
        let error = resolve("otlp_endpoint = 'http://u:hunter22@h'", &[]).unwrap_err();
        assert!(
            error.starts_with("handshake.toml: telemetry.otlp_endpoint: ") && !error.contains("hunter22"),
            "{error}"
        );
        let error = resolve("", &[(ENDPOINT, "localhost")]).unwrap_err();
        assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: "), "{error}");
        let error = resolve("", &[(ENDPOINT, "http://h"), (HEADERS, "hunter22")]).unwrap_err();
        assert!(error.starts_with("OTEL_EXPORTER_OTLP_HEADERS: header 1 ") && !error.contains("hunter22"), "{error}");
    }
}
