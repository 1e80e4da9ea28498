//! What stands behind the gate in tests: doubles that count how often they are reached.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use handshake_core::artifact::{ArtifactHandle, ArtifactStore};
use handshake_core::capability::Axis;
use handshake_core::document::{Block, Document, DocumentReader, DocumentSummary};
use handshake_core::event::{AdmittedEvent, Event};
use handshake_core::gate::Permit;
use handshake_core::model::{
    EmbedResponse, GenerateRequest, GenerateResponse, ModelError, ModelInfo, Models, TokenUsage,
};
use handshake_core::recorder::{EffectNote, FlightRecorder, OutcomeSlot, RecorderError};
use handshake_core::secret::{PLACEHOLDER_PREFIX, SecretStore};
use handshake_core::storage::StorageError;
use handshake_core::testing::NoRedaction;
use handshake_core::{Clock, Digest, JobId, RunId, Timestamp};
use handshake_runtime::NameResolver;
use secrecy::SecretString;

/// Counts, by name, how often a backend was reached.
#[derive(Debug, Default)]
pub struct Backends {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    artifacts: Mutex<HashMap<(RunId, Digest), Vec<u8>>>,
    confused: AtomicBool,
}

impl Backends {
    /// How often each was reached.
    pub fn reached(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// Puts an artifact there, for any run.
    pub fn plant(&self, run: RunId, content: &[u8]) -> Digest {
        let id = Digest::of(content);
        self.artifacts.lock().unwrap().insert((run, id), content.to_vec());
        id
    }

    /// From now on a permit to store artifacts is taken for another: a fault of the host.
    pub fn confuse(&self) {
        self.confused.store(true, Ordering::SeqCst);
    }

    fn count(&self, name: &'static str) {
        *self.counts.lock().unwrap().entry(name).or_default() += 1;
    }
}

#[async_trait]
impl Models for Backends {
    fn list(&self) -> Vec<ModelInfo> {
        Vec::new()
    }
    async fn generate(&self, permit: &Permit, request: &GenerateRequest) -> Result<GenerateResponse, ModelError> {
        permit.require(Axis::ModelInfer).expect("a permit for model.infer");
        self.count("generate");
        let usage = TokenUsage { prompt_tokens: 2, completion_tokens: 1, total_tokens: 3 };
        Ok(GenerateResponse { text: "text".into(), model: request.model.clone(), finish_reason: "stop".into(), usage })
    }
    async fn embed(&self, permit: &Permit, model: &str, texts: &[String]) -> Result<EmbedResponse, ModelError> {
        permit.require(Axis::ModelEmbed).expect("a permit for model.embed");
        self.count("embed");
        Ok(EmbedResponse {
            vectors: texts.iter().map(|_| vec![1.0]).collect(),
            model: model.into(),
            usage: TokenUsage::default(),
        })
    }
}

#[async_trait]
impl ArtifactStore for Backends {
    async fn put(
        &self,
        permit: &Permit,
        run: RunId,
        media_type: &str,
        content: &[u8],
    ) -> Result<ArtifactHandle, StorageError> {
        permit.require(if self.confused.load(Ordering::SeqCst) { Axis::FsWrite } else { Axis::ArtifactWrite })?;
        self.count("artifact put");
        Ok(ArtifactHandle { id: self.plant(run, content), size: content.len() as u64, media_type: media_type.into() })
    }
    async fn get(&self, permit: &Permit, run: RunId, id: Digest) -> Result<Vec<u8>, StorageError> {
        permit.require(Axis::ArtifactRead)?;
        self.count("artifact get");
        let found = self.artifacts.lock().unwrap().get(&(run, id)).cloned();
        found.ok_or(StorageError::NotFound { what: "artifact", id: id.to_string() })
    }
}

#[async_trait]
impl DocumentReader for Backends {
    async fn list(&self, _: Option<JobId>) -> Result<Vec<DocumentSummary>, StorageError> {
        // Listing comes before the decisions on what is shown, so it does not count as being reached.
        Ok(vec![summary("one"), summary("two")])
    }
    async fn read(&self, permit: &Permit, id: &str) -> Result<Document, StorageError> {
        permit.require(Axis::DocRead)?;
        self.count("document read");
        let block = Block { id: "b1".into(), kind: "paragraph".into(), content: "text".into() };
        Ok(Document { summary: summary(id), blocks: vec![block] })
    }
}

fn summary(id: &str) -> DocumentSummary {
    DocumentSummary { id: id.into(), title: id.to_uppercase(), version: 1 }
}

impl SecretStore for Backends {
    fn placeholder(&self, permit: &Permit, name: &str) -> Result<String, StorageError> {
        permit.require(Axis::SecretsUse)?;
        self.count("secret");
        let digest = Digest::of(format!("{:?} {name}", permit.decision()).as_bytes()).to_string();
        Ok(format!("{PLACEHOLDER_PREFIX}{}", &digest[..32]))
    }
    fn value(&self, permit: &Permit, name: &str) -> Result<SecretString, StorageError> {
        permit.require(Axis::NetHttp)?;
        self.count("secret value");
        Ok(SecretString::from(secret_value(name)))
    }
}

/// The value of a secret in tests.
pub fn secret_value(name: &str) -> String {
    format!("value-of-{name}-7261")
}

/// Looks names up in a list that tests fill, and counts. Each look-up takes the next answer, the last one stays.
#[derive(Debug, Default)]
pub struct Names {
    answers: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    asked: AtomicU64,
}

impl Names {
    /// Sets what a name is answered with, look-up after look-up.
    pub fn set(&self, name: &str, answers: &[&[&str]]) {
        let answers =
            answers.iter().map(|addresses| addresses.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers);
    }
    /// How often anything was looked up.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl NameResolver for Names {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let Some(list) = answers.get_mut(name).filter(|list| !list.is_empty()) else {
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such name"));
        };
        Ok(if list.len() > 1 { list.remove(0) } else { list[0].clone() })
    }
}

/// A wall clock that starts at a given time and really runs, so that deadlines and timers work.
#[derive(Debug)]
pub struct RunningClock {
    at: Timestamp,
    start: Instant,
}

impl RunningClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock that is injected")]
    fn starting(at: Timestamp) -> Self {
        Self { at, start: Instant::now() }
    }

    /// Agrees with the file system, as the host's own clock does.
    #[allow(clippy::disallowed_methods, reason = "this is the clock that is injected")]
    pub fn of_the_machine() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self::starting(Timestamp::from_micros(0).plus(now))
    }
}

impl Default for RunningClock {
    /// 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::starting(Timestamp::from_micros(1_767_225_600_000_000))
    }
}

impl Clock for RunningClock {
    fn now(&self) -> Timestamp {
        self.at.plus(self.start.elapsed())
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Lines and progress that a step gave.
#[derive(Debug, Default)]
pub struct Watcher {
    lines: Mutex<Vec<String>>,
    reports: AtomicU64,
}

impl Watcher {
    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
    /// How many progress reports came through.
    pub fn reports(&self) -> u64 {
        self.reports.load(Ordering::SeqCst)
    }
    /// Shared, as the runtime takes it.
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }
}

impl handshake_core::step::StepObserver for Watcher {
    fn log(&self, _: handshake_core::step::LogLevel, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }
    fn progress(&self, _: u64, _: Option<u64>, message: &str) {
        self.reports.fetch_add(1, Ordering::SeqCst);
        self.lines.lock().unwrap().push(message.to_owned());
    }
}

/// A flight recorder that keeps nothing.
#[derive(Debug, Clone, Copy)]
pub struct Forgetting;

#[async_trait]
impl FlightRecorder for Forgetting {
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, RecorderError> {
        Ok(AdmittedEvent::admit(event, &NoRedaction, event.timestamp)?)
    }
    fn enqueue(&self, _: &Event) -> Result<(), RecorderError> {
        Ok(())
    }
    fn reserve(&self) -> Result<Box<dyn OutcomeSlot>, RecorderError> {
        Ok(Box::new(*self))
    }
    async fn record_event(&self, _: &Event) -> Result<(), RecorderError> {
        Ok(())
    }
    async fn record_effect(&self, _: EffectNote, _: &Event) -> Result<(), RecorderError> {
        Ok(())
    }
    async fn flush(&self) -> Result<(), RecorderError> {
        Ok(())
    }
}

impl OutcomeSlot for Forgetting {
    fn fill(self: Box<Self>, _: Event) {}
}
