//! What stands behind the gate in a test: canned models, artifacts in memory, documents and secrets of the case.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use handshake_core::artifact::{ArtifactHandle, ArtifactStore};
use handshake_core::capability::Axis;
use handshake_core::document::{Block, Document, DocumentReader, DocumentSummary};
use handshake_core::gate::Permit;
use handshake_core::model::{
    EmbedResponse, GenerateRequest, GenerateResponse, ModelError, ModelInfo, Models, TokenUsage,
};
use handshake_core::secret::{PLACEHOLDER_PREFIX, SecretStore};
use handshake_core::storage::StorageError;
use handshake_core::{Digest, JobId, RunId};
use secrecy::SecretString;

use super::Mismatch;
use super::file::{DocumentEntry, ModelEntry, ModelFault};

/// The version of every document of a case.
const VERSION: u64 = 1;

pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a canned answer was used, and how often it should be.
pub(super) struct Uses {
    /// Where the answer stands in its case.
    pub(super) place: String,
    what: String,
    times: u32,
    used: AtomicU32,
}

impl Uses {
    pub(super) fn new(place: &str, what: String, times: u32) -> Self {
        Self { place: place.to_owned(), what, times, used: AtomicU32::new(0) }
    }

    pub(super) fn is_left(&self) -> bool {
        self.used.load(Ordering::SeqCst) < self.times
    }

    pub(super) fn take(&self) {
        self.used.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn unused(&self) -> Option<Mismatch> {
        let used = self.used.load(Ordering::SeqCst);
        (used < self.times).then(|| Mismatch {
            place: self.place.clone(),
            what: format!("{} was asked for {used} times, not {}", self.what, self.times),
            diff: None,
        })
    }
}

/// Models that answer what the case says.
pub(super) struct CannedModels {
    entries: Vec<(Uses, ModelEntry)>,
    unanswered: Mutex<Vec<Mismatch>>,
}

impl CannedModels {
    pub(super) fn new(entries: &[(String, ModelEntry)]) -> Self {
        let entries = entries.iter().map(|(place, entry)| {
            (Uses::new(place, format!("this answer of model `{}`", entry.name), entry.times), entry.clone())
        });
        Self { entries: entries.collect(), unanswered: Mutex::default() }
    }

    /// What was asked in vain, and what was not asked.
    pub(super) fn complaints(&self) -> Vec<Mismatch> {
        let unused = self.entries.iter().filter_map(|(uses, _)| uses.unused());
        locked(&self.unanswered).iter().cloned().chain(unused).collect()
    }

    fn next(&self, model: &str, said: &str, embeds: bool) -> Result<&ModelEntry, ModelError> {
        let fitting = self.entries.iter().find(|(uses, entry)| {
            uses.is_left()
                && entry.name == model
                && entry.contains.as_deref().is_none_or(|text| said.contains(text))
                && (entry.error.is_some() || entry.vectors.is_some() == embeds)
        });
        if let Some((uses, entry)) = fitting {
            uses.take();
            return match entry.error {
                None => Ok(entry),
                Some(fault) => Err(failed(model, fault)),
            };
        }
        let beginning: String = said.chars().take(80).collect();
        let what = format!("model `{model}` was asked, and no answer is left for it: {beginning:?}; add a [[model]]");
        locked(&self.unanswered).push(Mismatch { place: "model".to_owned(), what, diff: None });
        let reason = "the case has no answer left for it".to_owned();
        Err(ModelError::Failed { model: model.to_owned(), reason, transient: false })
    }
}

fn failed(model: &str, fault: ModelFault) -> ModelError {
    let (model, reason) = (model.to_owned(), "as the case says".to_owned());
    match fault {
        ModelFault::RateLimit => ModelError::RateLimit { model, reason },
        ModelFault::BudgetExceeded => ModelError::BudgetExceeded { model, reason },
        ModelFault::Failed => ModelError::Failed { model, reason, transient: true },
    }
}

/// As many tokens as words: good enough to be counted, and the same everywhere.
fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn usage(prompt_tokens: u64, completion_tokens: u64) -> TokenUsage {
    TokenUsage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
}

#[async_trait]
impl Models for CannedModels {
    fn list(&self) -> Vec<ModelInfo> {
        Vec::new()
    }

    async fn generate(&self, permit: &Permit, request: &GenerateRequest) -> Result<GenerateResponse, ModelError> {
        permit.require(Axis::ModelInfer).map_err(|error| not_made(&request.model, &error))?;
        let said: Vec<_> = request.messages.iter().map(|message| message.content.as_str()).collect();
        let said = said.join("\n");
        let text = self.next(&request.model, &said, false)?.answer.clone().unwrap_or_default();
        let usage = usage(words(&said), words(&text));
        Ok(GenerateResponse { text, model: "canned".to_owned(), finish_reason: "stop".to_owned(), usage })
    }

    async fn embed(&self, permit: &Permit, model: &str, texts: &[String]) -> Result<EmbedResponse, ModelError> {
        permit.require(Axis::ModelEmbed).map_err(|error| not_made(model, &error))?;
        let said = texts.join("\n");
        let vectors = self.next(model, &said, true)?.vectors.clone().unwrap_or_default();
        Ok(EmbedResponse { vectors, model: "canned".to_owned(), usage: usage(words(&said), 0) })
    }
}

fn not_made(model: &str, error: &dyn std::fmt::Display) -> ModelError {
    ModelError::NotMade { model: model.to_owned(), reason: error.to_string() }
}

/// Artifacts of one run.
#[derive(Default)]
pub(super) struct MemoryArtifacts {
    content: Mutex<BTreeMap<Digest, Vec<u8>>>,
    written: Mutex<Vec<Vec<u8>>>,
}

impl MemoryArtifacts {
    /// Makes an artifact known that the run has from the beginning.
    pub(super) fn give(&self, media_type: &str, content: &[u8]) -> ArtifactHandle {
        let id = Digest::of(content);
        locked(&self.content).insert(id, content.to_vec());
        ArtifactHandle { id, size: content.len() as u64, media_type: media_type.to_owned() }
    }

    /// What the step wrote, in order.
    pub(super) fn written(&self) -> Vec<Vec<u8>> {
        locked(&self.written).clone()
    }
}

#[async_trait]
impl ArtifactStore for MemoryArtifacts {
    async fn put(
        &self,
        permit: &Permit,
        _: RunId,
        media_type: &str,
        content: &[u8],
    ) -> Result<ArtifactHandle, StorageError> {
        permit.require(Axis::ArtifactWrite)?;
        locked(&self.written).push(content.to_vec());
        Ok(self.give(media_type, content))
    }

    async fn get(&self, permit: &Permit, _: RunId, id: Digest) -> Result<Vec<u8>, StorageError> {
        permit.require(Axis::ArtifactRead)?;
        let unknown = || StorageError::NotFound { what: "artifact", id: id.to_string() };
        locked(&self.content).get(&id).cloned().ok_or_else(unknown)
    }
}

/// The documents of the case.
pub(super) struct CaseDocuments(Vec<Document>);

impl CaseDocuments {
    pub(super) fn new(entries: &[DocumentEntry]) -> Self {
        let documents = entries.iter().map(|entry| Document {
            summary: DocumentSummary { id: entry.id.clone(), title: entry.title.clone(), version: VERSION },
            blocks: entry
                .blocks
                .iter()
                .map(|block| Block { id: block.id.clone(), kind: block.kind.clone(), content: block.content.clone() })
                .collect(),
        });
        Self(documents.collect())
    }
}

#[async_trait]
impl DocumentReader for CaseDocuments {
    async fn list(&self, _: Option<JobId>) -> Result<Vec<DocumentSummary>, StorageError> {
        Ok(self.0.iter().map(|document| document.summary.clone()).collect())
    }

    async fn read(&self, permit: &Permit, id: &str) -> Result<Document, StorageError> {
        permit.require(Axis::DocRead)?;
        let found = self.0.iter().find(|document| document.summary.id == id).cloned();
        found.ok_or_else(|| StorageError::NotFound { what: "document", id: id.to_owned() })
    }
}

/// The secrets of the case. Placeholders are numbered, so that they are the same each time.
pub(super) struct CaseSecrets {
    values: BTreeMap<String, String>,
    given: AtomicU32,
}

impl CaseSecrets {
    pub(super) fn new(values: BTreeMap<String, String>) -> Self {
        Self { values, given: AtomicU32::new(0) }
    }

    fn known(&self, name: &str) -> Result<&String, StorageError> {
        self.values.get(name).ok_or_else(|| StorageError::NotFound { what: "secret", id: name.to_owned() })
    }
}

impl SecretStore for CaseSecrets {
    fn placeholder(&self, permit: &Permit, name: &str) -> Result<String, StorageError> {
        permit.require(Axis::SecretsUse)?;
        self.known(name)?;
        Ok(format!("{PLACEHOLDER_PREFIX}{:032x}", self.given.fetch_add(1, Ordering::SeqCst) + 1))
    }

    fn value(&self, permit: &Permit, name: &str) -> Result<SecretString, StorageError> {
        permit.require(Axis::NetHttp)?;
        self.known(name).map(|value| SecretString::from(value.clone()))
    }
}
