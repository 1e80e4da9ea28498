//! The keeper: publishes the head, seals what is in the outbox, drops what is too old, and tells of gaps.
//!
//! It never runs ahead of the projection: what is sealed or dropped was projected before. Each step can be the last
//! one before a crash; the next look completes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handshake_core::chain::ChainHead;
use handshake_core::event::{self, GapReason};
use handshake_core::recorder::{FlightRecorder, RecorderError};
use handshake_core::storage::{EventOutbox, StorageError};
use handshake_core::{Clock, Digest, EventId, Ids, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::gap::{gap_event, gap_event_id};
use crate::head::{Head, HeadPublisher};
use crate::log::RecordLog;
use crate::projection::{EventQuery, Projection, ProjectionStatus};
use crate::retention::{Expiry, end_of, too_old};
use crate::segments::{Archive, ArchiveError, Tombstone, told};
use crate::signing::{PublicKey, Signed};
use crate::verify::{Proof, ProofError, Verification, Verifier, prove};

/// When records are sealed and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeeperPolicy {
    /// Records are dropped when they are older than this (R6.4).
    pub retention: Duration,
    /// So many records in the outbox are sealed at once, without waiting until they are old enough.
    pub seal_records: u32,
    /// A record in the outbox that is older than this is sealed, with all behind it.
    pub seal_after: Duration,
}

/// What a keeper works with.
pub struct KeeperServices {
    /// The record.
    pub log: Arc<RecordLog>,
    /// Where events about gaps go.
    pub recorder: Arc<dyn FlightRecorder>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// The file for the signed head; its folder must exist.
    pub head_file: PathBuf,
    /// A file for the keeper's own notes.
    pub notes_file: PathBuf,
}

/// Why the keeper did not do what was asked. The record is complete, and the next look tries again.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Sealing or dropping failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The projection or the record failed.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// An event could not be proved.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl From<StorageError> for KeeperError {
    fn from(error: StorageError) -> Self {
        Self::Recorder(RecorderError::Sink(error))
    }
}

/// What sealing did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SealReport {
    /// Segments that were written.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Last record that is sealed now.
    pub sealed_to: u64,
}

/// How the recorder stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeeperStatus {
    /// The projection in DuckDB.
    pub projection: ProjectionStatus,
    /// Last record that is sealed, or was dropped after it.
    pub sealed_to: u64,
    /// Records in the outbox that are not sealed.
    pub unsealed: u64,
    /// Segments.
    pub segments: u64,
    /// Records in them.
    pub segment_records: u64,
    /// Size of their Parquet files, bytes.
    pub segment_bytes: u64,
    /// When the last one was sealed.
    pub last_sealed_at: Option<Timestamp>,
    /// The head that was published last.
    pub head: Option<Head>,
    /// Where it is published.
    pub head_file: String,
    /// Id of the key that signs.
    pub key_id: Digest,
    /// What retention has dropped.
    pub tombstone: Option<Tombstone>,
    /// How long records are kept, days.
    pub retention_days: u64,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Looks after the record of one host.
pub struct Keeper {
    services: KeeperServices,
    policy: KeeperPolicy,
    state: Mutex<State>,
}

struct State {
    head: HeadPublisher,
    expiry: Expiry,
    problem: Option<String>,
}

impl Keeper {
    /// A keeper of this record. There may be one at a time.
    pub fn new(services: KeeperServices, policy: KeeperPolicy) -> Self {
        let disk = services.log.archive().disk.clone();
        let head = HeadPublisher::new(services.head_file.clone(), disk.clone());
        let expiry = Expiry::new(services.notes_file.clone(), disk);
        Self { services, policy, state: Mutex::new(State { head, expiry, problem: None }) }
    }

    fn archive(&self) -> &Arc<Archive> {
        self.services.log.archive()
    }

    pub(crate) fn log(&self) -> &RecordLog {
        &self.services.log
    }

    /// Keeps records from being sealed and dropped, and the head from being published, until it is dropped.
    pub async fn hold_sealing(&self) -> impl Drop + '_ {
        self.state.lock().await
    }

    /// From when on records may be shown (R6.4), as the projection has it.
    pub(crate) fn retained(&self, head: &ChainHead) -> Timestamp {
        head.recorded_at.max(self.services.clock.now()).minus(self.policy.retention)
    }

    /// Writes the signed head to its file, if it has moved. A file that cannot be written is told in the status and
    /// in the log; recording goes on.
    pub async fn publish_head(&self) {
        let Ok(head) = self.services.log.flush().await else { return };
        let mut state = self.state.lock().await;
        state.head.publish(head, self.archive().key(), self.services.clock.now());
    }

    /// Returns when so many records wait in the outbox that they are sealed whatever their age.
    pub async fn full(&self) {
        let most = u64::from(self.policy.seal_records).saturating_sub(1);
        self.services.log.grown_past(self.archive().sealed_to().saturating_add(most)).await;
    }

    /// Whether there is something to do: to seal, to drop, or to complete what a crash has interrupted.
    pub async fn is_due(&self) -> Result<bool, KeeperError> {
        let now = self.services.clock.now();
        Ok(self.seal_is_due().await?
            || self.archive().has_buried()
            || too_old(self.archive(), now, self.policy.retention).is_some())
    }

    /// The key that checks what the keeper signs.
    pub fn public_key(&self) -> &PublicKey {
        self.archive().key().public()
    }

    /// Whether there are so many records in the outbox, or such old ones, that they are to be sealed.
    pub async fn seal_is_due(&self) -> Result<bool, KeeperError> {
        let sealed = self.archive().sealed_to();
        let head = self.services.log.flush().await?;
        if head.seq.saturating_sub(sealed) >= u64::from(self.policy.seal_records) {
            return Ok(true);
        }
        let oldest = self.services.log.outbox().read_after(sealed, 1).await?;
        let age = oldest.first().map(|oldest| self.services.clock.now().since(oldest.recorded_at));
        Ok(age.is_some_and(|age| age >= self.policy.seal_after))
    }

    /// Does what is due. What fails is told in the status and in the log, and tried again with the next look.
    pub async fn tend(&self, projection: &Projection) {
        let result = self.look_after(projection).await;
        let mut state = self.state.lock().await;
        match result {
            Ok(()) => {
                if state.problem.take().is_some() {
                    tracing::info!("the flight recorder can be looked after again");
                }
            }
            Err(error) => {
                let problem = told(&error);
                if state.problem.as_ref() != Some(&problem) {
                    tracing::warn!(%problem, "the flight recorder cannot be looked after; recording goes on");
                }
                state.problem = Some(problem);
            }
        }
    }

    async fn look_after(&self, projection: &Projection) -> Result<(), KeeperError> {
        self.complete_drop(projection).await?;
        if self.seal_is_due().await? {
            self.seal(projection).await?;
        }
        self.drop_old(projection).await?;
        for gap in projection.unannounced().await? {
            // What was wrong is kept with the projection, for people; it names files.
            let (host, first_seq, last_seq) = (self.archive().host(), gap.first, gap.last);
            let told = event::Gap { host, first_seq, last_seq, reason: GapReason::Damage, last_hash: None };
            self.tell(projection, told).await?;
            projection.announced(gap).await?;
        }
        projection.remove_set_aside().await?;
        Ok(())
    }

    /// Seals everything that is recorded up to now, whatever its number and age.
    pub async fn seal(&self, projection: &Projection) -> Result<SealReport, KeeperError> {
        let head = self.services.log.flush().await?.seq;
        projection.wait_for(head).await?;
        // Only one at a time: a second one would write the same segment.
        let mut state = self.state.lock().await;
        let mut report = SealReport::default();
        let outbox = &**self.services.log.outbox();
        loop {
            let now = self.services.clock.now();
            let up_to = head.min(projection.projected());
            match self.archive().seal(outbox, up_to, self.policy.seal_records, now).await? {
                None => break,
                Some(manifest) => {
                    report.segments += 1;
                    report.records += manifest.body.records;
                }
            }
        }
        report.sealed_to = self.archive().sealed_to();
        let head = self.services.log.flush().await?;
        state.head.publish(head, self.archive().key(), self.services.clock.now());
        Ok(report)
    }

    /// Drops what is too old, if that is sure enough.
    async fn drop_old(&self, projection: &Projection) -> Result<(), KeeperError> {
        let clock = &*self.services.clock;
        let old = too_old(self.archive(), clock.now(), self.policy.retention);
        let confirmed = self.state.lock().await.expiry.confirmed(old.map(|head| head.seq), clock);
        let Some(end) = confirmed.and_then(|to| end_of(self.archive(), to)) else { return Ok(()) };
        if end.seq > projection.projected() {
            return Ok(());
        }
        // From here on the records are gone, whatever happens.
        self.archive().bury(end, clock.now())?;
        self.state.lock().await.expiry.dropped(end.seq);
        self.complete_drop(projection).await
    }

    /// What follows a tombstone: the event, the files, the rows.
    async fn complete_drop(&self, projection: &Projection) -> Result<(), KeeperError> {
        let Some(tombstone) = self.archive().tombstone().map(|signed| signed.body) else { return Ok(()) };
        // A file that is being rebuilt says only at the end what it has not.
        projection.caught_up().await?;
        let in_projection = projection.first().await? <= tombstone.to;
        if !in_projection && !self.archive().has_buried() {
            return Ok(());
        }
        let archive = Arc::clone(self.archive());
        archive.begin("tell of dropped records")?;
        let told = event::Gap {
            host: tombstone.host,
            first_seq: tombstone.from,
            last_seq: tombstone.to,
            reason: GapReason::Retention,
            last_hash: Some(tombstone.hash),
        };
        self.tell(projection, told).await?;
        let removed = tokio::task::spawn_blocking(move || archive.remove_buried()).await;
        removed.map_err(|error| RecorderError::Sink(StorageError::Guard(error.to_string())))??;
        projection.drop_through(tombstone.end()).await?;
        Ok(())
    }

    /// Records an event about records that are gone, unless it is on record.
    async fn tell(&self, projection: &Projection, gap: event::Gap) -> Result<(), KeeperError> {
        let query = EventQuery { event_id: Some(gap_event_id(&gap)), ..EventQuery::default() };
        if projection.events(&query).await?.events.is_empty() {
            let event = gap_event(gap, self.services.clock.now(), &*self.services.ids);
            self.services.recorder.record_event(&event).await?;
        }
        Ok(())
    }

    /// Checks the whole record up to where it stands now, with all that speaks of it. `outside` is a signed head that
    /// was kept out of this host's reach.
    pub async fn verify(
        &self,
        projection: &Projection,
        outside: Option<Signed<Head>>,
    ) -> Result<Verification, KeeperError> {
        // A record that is broken stops the projection, and what is wrong with it is what was asked.
        if let Err(error) = projection.caught_up().await {
            tracing::debug!(%error, "the projection is verified as far as it goes");
        }
        let published = match crate::head::read(&self.services.head_file) {
            Ok(published) => published,
            Err(error) => {
                let problem = format!("cannot read the signed head `{}`: {error}", self.services.head_file.display());
                return Err(StorageError::Guard(problem).into());
            }
        };
        Ok(Verifier::verify(&self.services.log, projection, published, outside).await?)
    }

    /// Proves that an event is in the record, for somebody who has nothing but the public key. An event that is not
    /// sealed yet is sealed first, with all others.
    pub async fn prove(&self, projection: &Projection, event: EventId) -> Result<Proof, KeeperError> {
        let query = EventQuery { event_id: Some(event), ..EventQuery::default() };
        let page = projection.events(&query).await?;
        let found = page.events.first().map(|event| event.seq);
        let seq = found.ok_or_else(|| StorageError::NotFound { what: "event", id: event.to_string() })?;
        if seq > self.archive().sealed_to() {
            self.seal(projection).await?;
        }
        let archive = Arc::clone(self.archive());
        let proved = tokio::task::spawn_blocking(move || prove(&archive, seq)).await;
        let proof = proved.map_err(|error| RecorderError::Sink(StorageError::Guard(error.to_string())))?;
        Ok(proof?)
    }

    /// How the recorder stands.
    pub async fn status(&self, projection: &Projection) -> KeeperStatus {
        let projection = projection.status().await;
        let archive = self.archive();
        let manifests: Vec<Signed<_>> = archive.manifests();
        let state = self.state.lock().await;
        let gaps = projection.gaps.iter().map(|gap| format!("records {} to {}: {}", gap.first, gap.last, gap.reason));
        let own = [&projection.problem, &state.problem, &state.head.problem].into_iter().flatten().cloned();
        let mut problems: Vec<String> = own.chain(archive.problems()).chain(gaps).collect();
        problems.dedup();
        let sealed_to = archive.sealed_to();
        KeeperStatus {
            sealed_to,
            unsealed: projection.recorded.unwrap_or(projection.projected).saturating_sub(sealed_to),
            segments: manifests.len() as u64,
            segment_records: manifests.iter().map(|manifest| manifest.body.records).sum(),
            segment_bytes: manifests.iter().map(|manifest| manifest.body.bytes).sum(),
            last_sealed_at: manifests.iter().map(|manifest| manifest.body.sealed_at).max(),
            head: state.head.published().map(|head| head.body.clone()),
            head_file: self.services.head_file.display().to_string(),
            key_id: archive.key().public().id(),
            tombstone: archive.tombstone().map(|tombstone| tombstone.body),
            retention_days: self.policy.retention.as_secs() / (24 * 3600),
            problems,
            projection,
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
