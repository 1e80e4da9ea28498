//! The way to the data directory: own it and answer in this process, or ask the process that owns it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, Method, Request, Response, header};
use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use crate::client::Client;
use crate::directory::DataDirectory;
use crate::error::{CliError, ErrorDocument};
use crate::host::Host;
use crate::network::health::Status;
use crate::output::Output;
use crate::settings::Settings;

/// How long an owner may take to answer before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait for an owner that answers but takes no jobs: it is looking something up, or about to end.
const QUEUE: Duration = Duration::from_secs(120);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(25);
/// The largest answer that is not a stream: a job with ten thousand documents has some megabytes.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// The longest line of a stream.
const MAX_LINE_BYTES: usize = 64 << 20;

/// What a command needs of the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Somebody who answers.
    Answers,
    /// Somebody who executes jobs.
    Jobs,
}

/// The way to the data directory.
pub(crate) enum Access {
    /// This process owns it.
    Owner(Box<Host>),
    /// Another process does.
    Remote(Client),
}

impl Access {
    /// Owns the data directory if nobody does, else reaches its owner.
    pub(crate) async fn open(settings: &Settings, need: Need, output: &Output) -> Result<Self, CliError> {
        let directory = DataDirectory::prepare(&settings.data_dir)?;
        let mut stuck = tokio::time::Instant::now() + PATIENCE;
        let mut quiet_until = Some(stuck);
        let mut waiting_since = None;
        loop {
            if let Some(ownership) = directory.try_own()? {
                return Ok(Self::Owner(Box::new(
                    Host::open(ownership, &directory, settings, need, output.redaction().clone()).await?,
                )));
            }
            let now = tokio::time::Instant::now();
            if let Some((client, health)) =
                Client::reach(&directory, stuck.saturating_duration_since(now).max(PAUSE)).await
            {
                if health.version != crate::VERSION {
                    let (pid, theirs) = (health.pid, health.version);
                    let message = format!(
                        "process {pid} owns the data directory with version {theirs} of handshake, and this is {}",
                        crate::VERSION
                    );
                    return Err(
                        CliError::busy(message).hint(format!("wait for process {pid} to end, or use its version"))
                    );
                }
                if health.status == Status::Starting {
                    // It says so itself, so it is not stuck: migrations and recovery take as long as they take.
                    stuck = now + PATIENCE;
                    if quiet_until.is_some_and(|until| now >= until) {
                        output.note(&format!(
                            "waiting for process {}, which has the data directory and starts",
                            health.pid
                        ));
                        quiet_until = None;
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                if need == Need::Answers || health.accepts_jobs {
                    return Ok(Self::Remote(client));
                }
                let since = *waiting_since.get_or_insert_with(|| {
                    output.note(&format!("waiting for process {}, which has the data directory", health.pid));
                    now
                });
                if now.duration_since(since) < QUEUE {
                    stuck = now + PATIENCE;
                }
            }
            if tokio::time::Instant::now() >= stuck {
                return Err(stuck_owner(&directory));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, CliError> {
        match self {
            Self::Owner(host) => host.router().oneshot(request).await.map_err(|never| match never {}),
            Self::Remote(client) => client.send(request).await,
        }
    }

    async fn call(&self, method: Method, path: &str, body: Body) -> Result<Response<Body>, CliError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| CliError::usage("the request cannot be put together").because(&error))?;
        let response = self.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = read(response).await?;
        Err(match serde_json::from_slice::<ErrorDocument>(&bytes) {
            Ok(document) => document.error,
            Err(_) => CliError::internal(format!("the local API answered {status}")),
        })
    }

    /// Reads a resource.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        decode(&read(self.call(Method::GET, path, Body::empty()).await?).await?)
    }

    /// Posts a document and reads the answer.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        decode(&read(self.call(Method::POST, path, encode(body)?).await?).await?)
    }

    /// Reads a resource line by line.
    pub(crate) async fn get_lines(&self, path: &str) -> Result<Lines, CliError> {
        self.call(Method::GET, path, Body::empty()).await.map(Lines::of)
    }

    /// Posts a document and reads the answer line by line.
    pub(crate) async fn post_for_lines(&self, path: &str, body: &impl Serialize) -> Result<Lines, CliError> {
        self.call(Method::POST, path, encode(body)?).await.map(Lines::of)
    }

    /// Posts a document and writes the answer to a file, which errors call `shown`; returns the answer's headers.
    pub(crate) async fn post_for_file(
        &self,
        path: &str,
        body: &impl Serialize,
        file: &mut File,
        shown: &Path,
    ) -> Result<HeaderMap, CliError> {
        into_file(self.call(Method::POST, path, encode(body)?).await?, file, shown).await
    }

    /// Reads a resource into a file, which errors call `shown`.
    pub(crate) async fn get_for_file(&self, path: &str, file: &mut File, shown: &Path) -> Result<HeaderMap, CliError> {
        into_file(self.call(Method::GET, path, Body::empty()).await?, file, shown).await
    }

    /// Ends the use of the data directory. An owner finishes what it executes and writes everything.
    pub(crate) async fn close(self, output: &Output) -> Result<(), CliError> {
        match self {
            Self::Owner(host) => host.close(output).await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// Closes and gives the result of what was done before; the earlier error is the one that counts.
    pub(crate) async fn finish<T>(self, output: &Output, result: Result<T, CliError>) -> Result<T, CliError> {
        let closed = self.close(output).await;
        let value = result?;
        closed?;
        Ok(value)
    }
}

fn stuck_owner(directory: &DataDirectory) -> CliError {
    let shown = directory.path().display();
    match directory.owner_pid() {
        Some(pid) => CliError::busy(format!("process {pid} owns the data directory `{shown}` and does not answer"))
            .hint(format!(
                "look at it with: ps -fp {pid}; end it with: kill {pid}; or use another directory with --data-dir"
            )),
        None => CliError::busy(format!("another process owns the data directory `{shown}` and does not answer"))
            .hint(format!("find it with: fuser {shown}/owner.lock; or use another directory with --data-dir")),
    }
}

/// Writes an answer to a file; one that ends early is an error.
async fn into_file(response: Response<Body>, file: &mut File, shown: &Path) -> Result<HeaderMap, CliError> {
    let headers = response.headers().clone();
    let mut pieces = response.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| CliError::internal("the answer did not arrive").because(&error))?;
        file.write_all(&piece).map_err(|error| CliError::file("write", shown, &error))?;
    }
    Ok(headers)
}

async fn read(response: Response<Body>) -> Result<Bytes, CliError> {
    axum::body::to_bytes(response.into_body(), MAX_ANSWER_BYTES)
        .await
        .map_err(|error| CliError::internal("the answer of the local API did not arrive").because(&error))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes)
        .map_err(|error| CliError::internal("the answer of the local API cannot be understood").because(&error))
}

fn encode(body: &impl Serialize) -> Result<Body, CliError> {
    serde_json::to_vec(body)
        .map(Body::from)
        .map_err(|error| CliError::internal("the request cannot be written as JSON").because(&error))
}

/// An answer that comes line by line.
pub(crate) struct Lines {
    stream: BodyDataStream,
    buffer: Vec<u8>,
}

impl Lines {
    fn of(response: Response<Body>) -> Self {
        Self { stream: response.into_body().into_data_stream(), buffer: Vec::new() }
    }

    /// The next line, once it is there. Giving up while it waits loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Vec<u8>, CliError>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Some(Ok(line));
            }
            match self.stream.next().await? {
                Ok(bytes) if self.buffer.len() + bytes.len() <= MAX_LINE_BYTES => self.buffer.extend_from_slice(&bytes),
                Ok(_) => return Some(Err(CliError::internal("a line of the local API is too long"))),
                Err(error) => {
                    return Some(Err(CliError::busy("the process that executes the job went away")
                        .because(&error)
                        .hint("handshake jobs list shows how the job stands")));
                }
            }
        }
    }
}

/// Puts parameters behind a path.
pub(crate) fn with_parameters<'a>(
    path: &str,
    parameters: impl IntoIterator<Item = (&'a str, Option<String>)>,
) -> String {
    let mut text = path.to_owned();
    let mut separator = '?';
    for (name, value) in parameters {
        if let Some(value) = value {
            text.push(separator);
            text.push_str(name);
            text.push('=');
            text.push_str(&percent_encoded(&value));
            separator = '&';
        }
    }
    text
}

/// Text as one part of a path or a parameter's value.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_and_absent_ones_left_out() {
        let path = with_parameters(
            "/api/v1/jobs",
            [("state", Some("a&b=c ü".to_owned())), ("kind", None), ("limit", Some("5".to_owned()))],
        );
        assert_eq!(path, "/api/v1/jobs?state=a%26b%3Dc%20%C3%BC&limit=5");
        assert_eq!(percent_encoded("../x"), "..%2Fx");
    }

    #[tokio::test]
    async fn lines_are_put_together_from_pieces() {
        let pieces = ["{\"a\"", ":1}\n{\"b\":2}\n", "{}", "\n"]
            .map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
        let mut lines =
            Lines { stream: Body::from_stream(futures::stream::iter(pieces)).into_data_stream(), buffer: Vec::new() };
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await {
            seen.push(String::from_utf8(line.unwrap()).unwrap());
        }
        assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}", "{}"]);
    }
}
