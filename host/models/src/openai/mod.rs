//! Client for any server that speaks the OpenAI protocol.
//!
//! The server is not trusted: its answers are bounded and checked, its messages are escaped and cut before a
//! person sees them, and redirects are not followed, so that it cannot send the key elsewhere.

mod wire;

use std::error::Error as _;
use std::sync::OnceLock;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use handshake_core::model::{EmbedResponse, GenerateRequest, GenerateResponse, ModelError, ModelInfo};
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::settings::{ModelSettingsError, OpenAiSettings};

/// An answer may hold that many bytes; the longest real ones, batches of vectors, are some megabytes.
const LARGEST_ANSWER: usize = 8 << 20;
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// What a server says goes no further than this, in characters.
const LONGEST_MESSAGE: usize = 300;
/// Names from a server are cut here, in characters.
const LONGEST_NAME: usize = 200;

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy)]
struct Waits {
    first: Duration,
    /// Also the most that a server's `Retry-After` can ask for.
    longest: Duration,
}

const WAITS: Waits = Waits { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

/// One model of one server.
pub(crate) struct OpenAi {
    name: String,
    settings: OpenAiSettings,
    base: Url,
    key: Option<SecretString>,
    waits: Waits,
    /// Built by the first call: reading the system's certificates takes time that other commands need not spend.
    client: OnceLock<Result<Client, String>>,
}

/// Why one attempt failed.
struct Failure {
    error: ModelError,
    /// Whether another attempt should follow.
    again: bool,
    /// How long the server asks to wait.
    after: Option<Duration>,
}

impl OpenAi {
    pub(crate) fn new(
        name: &str,
        settings: OpenAiSettings,
        key: Option<SecretString>,
    ) -> Result<Self, ModelSettingsError> {
        let invalid =
            |problem: &str| ModelSettingsError::Invalid { model: name.to_owned(), problem: problem.to_owned() };
        let base = settings.url().map_err(invalid)?;
        if key.is_some() && base.scheme() == "http" && !is_loopback(&base) {
            tracing::warn!(model = name, server = %place(&base), "the key of this model is sent over an unencrypted connection; use https");
        }
        Ok(Self { name: name.to_owned(), settings, base, key, waits: WAITS, client: OnceLock::new() })
    }

    pub(crate) fn info(&self, name: &str) -> ModelInfo {
        ModelInfo {
            name: name.to_owned(),
            provider: "openai".to_owned(),
            model: self.settings.model.clone(),
            endpoint: Some(self.base.to_string()),
            has_key: self.key.is_some(),
        }
    }

    pub(crate) async fn generate(
        &self,
        request: &GenerateRequest,
        trace: Option<&str>,
    ) -> Result<GenerateResponse, ModelError> {
        let max_tokens = match (request.max_tokens, self.settings.max_tokens) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        };
        if request.messages.is_empty() {
            return Err(self.invalid("the request has no messages"));
        }
        if request.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
            return Err(self.invalid("`temperature` must be from 0 to 2"));
        }
        // The prompt says already how long a summary is to be; the option is for models that read no prompts.
        if let Some(unknown) = request.options.keys().find(|name| *name != "sentences") {
            return Err(self.invalid(&format!("option `{}` is not known", self.shown(unknown, 40))));
        }
        let body = wire::ChatRequest {
            model: &self.settings.model,
            messages: &request.messages,
            max_tokens,
            temperature: request.temperature,
        };
        let answer: wire::ChatAnswer = self.post(&["chat", "completions"], &body, trace).await?;
        let usage = answer.usage();
        let choice = answer.choices.into_iter().next().ok_or_else(|| self.nonsense("it holds no choice"))?;
        Ok(GenerateResponse {
            text: choice.message.content.unwrap_or_default(),
            model: self.shown(answer.model.as_deref().unwrap_or(&self.settings.model), LONGEST_NAME),
            finish_reason: self.shown(choice.finish_reason.as_deref().unwrap_or("stop"), LONGEST_NAME),
            usage,
        })
    }

    pub(crate) async fn embed(&self, texts: &[String], trace: Option<&str>) -> Result<EmbedResponse, ModelError> {
        if texts.is_empty() {
            return Err(self.invalid("there is no text to embed"));
        }
        let body = wire::EmbedRequest { model: &self.settings.model, input: texts };
        let mut answer: wire::EmbedAnswer = self.post(&["embeddings"], &body, trace).await?;
        answer.data.sort_by_key(|vector| vector.index);
        let ordered =
            answer.data.len() == texts.len() && answer.data.iter().zip(0..).all(|(vector, at)| vector.index == at);
        if !ordered {
            return Err(self.nonsense("it does not hold one vector for each text"));
        }
        let usage = answer.usage();
        let vectors: Vec<Vec<f32>> = answer.data.into_iter().map(|vector| vector.embedding).collect();
        let dimensions = vectors.first().map_or(0, Vec::len);
        if dimensions == 0
            || vectors
                .iter()
                .any(|vector| vector.len() != dimensions || !vector.iter().all(|number| number.is_finite()))
        {
            return Err(self.nonsense("its vectors differ in length or hold no numbers"));
        }
        Ok(EmbedResponse {
            vectors,
            model: self.shown(answer.model.as_deref().unwrap_or(&self.settings.model), LONGEST_NAME),
            usage,
        })
    }

    /// Sends a request, again if that may help, and reads the answer.
    /// `trace` is the `traceparent` of W3C trace context.
    async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        trace: Option<&str>,
    ) -> Result<T, ModelError> {
        let authorization = self.authorization()?;
        let client = self.client.get_or_init(build_client(&self.base)).as_ref();
        let client =
            client.map_err(|problem| self.failed(&format!("the HTTP client cannot be set up: {problem}"), false))?;
        let mut url = self.base.clone();
        // A base URL with a host always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let body = serde_json::to_vec(body).map_err(|error| self.invalid(&error.to_string()))?;
        let attempt = || async {
            let mut request = client
                .post(url.clone())
                .header("content-type", "application/json")
                .body(body.clone())
                .timeout(self.settings.timeout.0);
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            if let Some(trace) = trace {
                request = request.header("traceparent", trace);
            }
            let response = request.send().await.map_err(|error| self.unreached(&error))?;
            self.read(response).await
        };
        // No jitter: one host asks here, and it keeps waits predictable.
        let backoff = ExponentialBuilder::new()
            .with_min_delay(self.waits.first)
            .with_max_delay(self.waits.longest)
            .with_max_times(self.settings.attempts.saturating_sub(1) as usize);
        let answer = attempt
            .retry(backoff)
            .when(|failure: &Failure| failure.again)
            .adjust(|failure, wait| wait.map(|wait| failure.after.map_or(wait, |after| after.min(self.waits.longest))))
            .await;
        let content = answer.map_err(|failure| failure.error)?;
        serde_json::from_slice(&content).map_err(|error| {
            // Line and column only: the text of the error could quote the answer.
            self.nonsense(&format!(
                "it is not the JSON that `{}` gives (line {}, column {})",
                path.join("/"),
                error.line(),
                error.column()
            ))
        })
    }

    /// Why there is no key although the settings name one.
    pub(crate) fn missing_key(&self) -> Option<String> {
        match (&self.key, &self.settings.key_env, &self.settings.key_file) {
            (None, Some(variable), _) => Some(format!("environment variable `{variable}` is not set")),
            (None, None, Some(path)) => Some(format!("key file `{}` does not exist or is empty", path.display())),
            _ => None,
        }
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, ModelError> {
        let Some(key) = &self.key else {
            let Some(missing) = self.missing_key() else { return Ok(None) };
            return Err(self.failed(
                &format!(
                    "there is no key for {}: {missing}; set it, or remove it from the model's settings",
                    place(&self.base)
                ),
                false,
            ));
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(|_| self.failed("its key fits no HTTP header", false))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The body of a good answer, or what went wrong.
    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let status = response.status();
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let too_large = || {
            Failure::last(self.failed(
                &format!("the answer of {} is larger than {} MiB", place(&self.base), LARGEST_ANSWER >> 20),
                false,
            ))
        };
        if response.content_length().is_some_and(|length| length > LARGEST_ANSWER as u64) {
            return Err(too_large());
        }
        let mut content = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreached(&error))? {
            if content.len() + chunk.len() > LARGEST_ANSWER {
                return Err(too_large());
            }
            content.extend_from_slice(&chunk);
        }
        if status.is_success() { Ok(content) } else { Err(self.refusal(status, &content, after)) }
    }

    fn refusal(&self, status: StatusCode, content: &[u8], after: Option<Duration>) -> Failure {
        let complaint = wire::Complaint::read(content);
        let model = self.name.clone();
        let said = match self.shown(&complaint.message, LONGEST_MESSAGE) {
            said if said.is_empty() => format!("{} answered {status}", place(&self.base)),
            said => format!("{} answered {status}: {said}", place(&self.base)),
        };
        match status {
            StatusCode::PAYMENT_REQUIRED => Failure::last(ModelError::BudgetExceeded { model, reason: said }),
            StatusCode::TOO_MANY_REQUESTS if complaint.is_about_budget() => {
                Failure::last(ModelError::BudgetExceeded { model, reason: said })
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Failure { error: ModelError::RateLimit { model, reason: said }, again: true, after }
            }
            status if status.is_server_error() => Failure { error: self.failed(&said, true), again: true, after },
            StatusCode::REQUEST_TIMEOUT => Failure::last(self.failed(&said, true)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::last(self.failed(&format!("{said}; check the model's key"), false))
            }
            StatusCode::NOT_FOUND => Failure::last(self.failed(
                &format!(
                    "{said}; check `base_url` and that the server has the model `{}`",
                    self.shown(&self.settings.model, LONGEST_NAME)
                ),
                false,
            )),
            status if status.is_redirection() => {
                Failure::last(self.failed(
                    &format!("{said}; redirects are not followed, set `base_url` to where the server is"),
                    false,
                ))
            }
            status if status.is_client_error() => Failure::last(ModelError::Invalid { model, reason: said }),
            _ => Failure::last(self.failed(&said, false)),
        }
    }

    /// The request or the answer got lost on the way.
    fn unreached(&self, error: &reqwest::Error) -> Failure {
        let place = place(&self.base);
        if error.is_timeout() && !error.is_connect() {
            let timeout = self.settings.timeout;
            return Failure::last(self.failed(
                &format!("{place} did not answer within {timeout}; raise the model's `timeout` or choose a faster one"),
                true,
            ));
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        // The outermost text would show the URL; the cause at the bottom says why.
        let why = self.shown(
            &if error.source().is_some() { cause.to_string() } else { "the connection failed".to_owned() },
            LONGEST_MESSAGE,
        );
        if error.is_connect() {
            let error = self
                .failed(&format!("cannot connect to {place}: {why}; start the server, or correct `base_url`"), true);
            return Failure { error, again: true, after: None };
        }
        // The server may have worked on it already: not again.
        Failure::last(self.failed(&format!("the connection to {place} broke: {why}"), true))
    }

    fn failed(&self, reason: &str, transient: bool) -> ModelError {
        ModelError::Failed { model: self.name.clone(), reason: reason.to_owned(), transient }
    }

    fn invalid(&self, reason: &str) -> ModelError {
        ModelError::Invalid { model: self.name.clone(), reason: reason.to_owned() }
    }

    fn nonsense(&self, why: &str) -> ModelError {
        self.failed(
            &format!(
                "the answer of {} makes no sense: {why}; check that `base_url` is an OpenAI-compatible server",
                place(&self.base)
            ),
            false,
        )
    }

    /// Text from outside for a person: without the key, on one line, escaped, at most `most` characters.
    fn shown(&self, text: &str, most: usize) -> String {
        let clean = match &self.key {
            Some(key) => text.replace(key.expose_secret(), "[key]"),
            None => text.to_owned(),
        };
        // Cut first, or a long text would be copied as a whole; then again, since escaping makes it longer.
        let words: String =
            clean.split_whitespace().flat_map(|word| [" ", word]).skip(1).flat_map(str::chars).take(most + 1).collect();
        let escaped = handshake_core::terminal::escape(&words, false);
        if escaped.chars().count() <= most {
            return escaped.into_owned();
        }
        escaped.chars().take(most.saturating_sub(1)).chain(['…']).collect()
    }
}

impl Failure {
    /// A failure that another attempt would only repeat.
    fn last(error: ModelError) -> Self {
        Self { error, again: false, after: None }
    }
}

fn build_client(base: &Url) -> impl FnOnce() -> Result<Client, String> {
    let mut builder = Client::builder().connect_timeout(CONNECT).redirect(redirect::Policy::none());
    if is_loopback(base) {
        // What runs on this machine is not reached through a proxy, whatever the environment says.
        builder = builder.no_proxy();
    }
    move || builder.build().map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host:port`.
fn place(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
