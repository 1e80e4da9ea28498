//! Artifacts as files named by their hash, and the table that says which run may read which.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use handshake_core::artifact::{ArtifactHandle, ArtifactStore, MAX_ARTIFACT_BYTES};
use handshake_core::capability::Axis;
use handshake_core::gate::Permit;
use handshake_core::storage::StorageError;
use handshake_core::{Digest, Ids, JobId, RunId};
use tokio::sync::RwLock;

use crate::database::SqlDatabase;
use crate::error::failed;
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::sql::{query, signed};
use crate::{runs, text};

const RUN: &str = "SELECT run_id FROM runs WHERE run_id = $1";
const INSERT: &str = "INSERT INTO run_artifacts (run_id, sha256, size_bytes, media_type, created_at) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (run_id, sha256) DO NOTHING";
const LISTED: &str = "SELECT size_bytes FROM run_artifacts WHERE run_id = $1 AND sha256 = $2";

const SHARE: &str = "INSERT INTO run_artifacts (run_id, sha256, size_bytes, media_type, created_at) \
     SELECT $1, sha256, size_bytes, media_type, $2 FROM run_artifacts WHERE run_id = $3 AND sha256 = $4 \
     ON CONFLICT (run_id, sha256) DO NOTHING";
const INHERIT: &str = "INSERT INTO run_artifacts (run_id, sha256, size_bytes, media_type, created_at) \
     SELECT $1, a.sha256, a.size_bytes, a.media_type, $2 FROM run_artifacts a JOIN runs r ON r.run_id = a.run_id \
     WHERE r.job_id = $3 ON CONFLICT (run_id, sha256) DO NOTHING";

/// Longest media type, bytes; RFC 6838 allows 127 for each half.
const LONGEST_MEDIA_TYPE: usize = 255;
/// Folder of files that are still being written. Its name is too long to be the first two digits of a hash.
const UNFINISHED: &str = "unfinished";

/// Artifacts in a folder of their own, `ab/cdef…` for the hash `abcdef…`.
pub struct FileArtifacts {
    pub(crate) folder: PathBuf,
    pub(crate) database: Arc<SqlDatabase>,
    /// Shared by those who store content that is not listed yet; whoever sweeps has it alone.
    pub(crate) listing: Arc<RwLock<()>>,
    ids: Arc<dyn Ids>,
}

impl FileArtifacts {
    /// Opens the folder; it is created if it is missing. What an earlier process left unfinished is removed, so
    /// only the owner of the data directory may call this.
    pub fn new(folder: PathBuf, database: Arc<SqlDatabase>, ids: Arc<dyn Ids>) -> Result<Self, StorageError> {
        let unfinished = folder.join(UNFINISHED);
        let prepared = create_folder(&folder).and_then(|()| create_folder(&unfinished)).and_then(|()| {
            for entry in fs::read_dir(&unfinished)? {
                fs::remove_file(entry?.path())?;
            }
            sync_folder(&folder)
        });
        prepared.map_err(file_failed("open the folder of artifacts"))?;
        Ok(Self { folder, database, listing: Arc::default(), ids })
    }

    /// Where content with this hash lies.
    pub(crate) fn place(&self, id: Digest) -> PathBuf {
        let name = id.to_string();
        let (first, rest) = name.split_at(2);
        self.folder.join(first).join(rest)
    }
}

#[async_trait]
impl ArtifactStore for FileArtifacts {
    async fn put(
        &self,
        permit: &Permit,
        run: RunId,
        media_type: &str,
        content: &[u8],
    ) -> Result<ArtifactHandle, StorageError> {
        permit.require(Axis::ArtifactWrite)?;
        check_run(permit, run)?;
        if content.len() > MAX_ARTIFACT_BYTES {
            let size = content.len();
            return Err(StorageError::Validation(format!(
                "an artifact of {size} bytes is larger than {MAX_ARTIFACT_BYTES}"
            )));
        }
        let media_type = text::plain("media type", media_type)?;
        if media_type.is_empty() || media_type.len() > LONGEST_MEDIA_TYPE {
            return Err(StorageError::Validation(format!("a media type has 1 to {LONGEST_MEDIA_TYPE} bytes")));
        }

        let handle =
            ArtifactHandle { id: Digest::of(content), size: content.len() as u64, media_type: media_type.clone() };
        let place = self.place(handle.id);
        let unfinished = self.folder.join(UNFINISHED).join(self.ids.uuid().to_string());
        let owned = content.to_vec();
        let operation = "store an artifact";
        let _listing = self.listing.read().await;
        blocking(operation, move || store(&unfinished, &place, &owned)).await?;
        // The file comes first: a row must never promise content that a power cut can still take away.
        let row = ListArtifact { run, id: handle.id, size: signed(handle.size)?, media_type };
        self.database.queue.perform(operation, row, None).await?;
        Ok(handle)
    }

    async fn get(&self, permit: &Permit, run: RunId, id: Digest) -> Result<Vec<u8>, StorageError> {
        permit.require(Axis::ArtifactRead)?;
        check_run(permit, run)?;
        let operation = "read an artifact";
        let mut reader = self.database.reader(operation).await?;
        let listed: Option<i64> = query(LISTED)
            .bind(run.to_string())
            .bind(id.to_string())
            .fetch_value(&mut reader)
            .await
            .map_err(failed(operation))?;
        drop(reader);
        // The same answer whether or not the content exists for another run.
        if listed.is_none() {
            return Err(StorageError::NotFound { what: "artifact", id: id.to_string() });
        }
        let place = self.place(id);
        let content = blocking(operation, move || read(&place)).await?;
        if Digest::of(&content) != id {
            return Err(StorageError::Serialization {
                what: "artifact",
                source: "its content does not match its hash".into(),
            });
        }
        Ok(content)
    }
}

/// A permit opens nothing but the run that it was given in.
fn check_run(permit: &Permit, run: RunId) -> Result<(), StorageError> {
    match &permit.identity().place {
        Some(place) if place.run != run => {
            Err(StorageError::Guard("a permit of one run was shown for another run's artifacts".into()))
        }
        _ => Ok(()),
    }
}

/// Lists an artifact with a run.
struct ListArtifact {
    run: RunId,
    id: Digest,
    size: i64,
    media_type: String,
}

#[async_trait]
impl Operation for ListArtifact {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let operation = "list an artifact";
        let run: Option<String> =
            query(RUN).bind(self.run.to_string()).fetch_value(step.connection).await.map_err(failed(operation))?;
        if run.is_none() {
            return Err(Refusal::Answer(runs::missing(self.run)));
        }
        query(INSERT)
            .bind(self.run.to_string())
            .bind(self.id.to_string())
            .bind(self.size)
            .bind(self.media_type.as_str())
            .bind(step.now.micros())
            .execute(step.connection)
            .await
            .map_err(failed(operation))?;
        Ok(Applied::Wrote(()))
    }
}

/// A run may read what another lists.
pub(crate) struct Share {
    pub(crate) from: RunId,
    pub(crate) to: RunId,
    pub(crate) artifacts: Vec<Digest>,
}

#[async_trait]
impl Operation for Share {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let operation = "share artifacts";
        let to = self.to.to_string();
        let run: Option<String> =
            query(RUN).bind(to.as_str()).fetch_value(step.connection).await.map_err(failed(operation))?;
        if run.is_none() {
            return Err(Refusal::Answer(runs::missing(self.to)));
        }
        for id in &self.artifacts {
            let share =
                query(SHARE).bind(to.as_str()).bind(step.now.micros()).bind(self.from.to_string()).bind(id.to_string());
            share.execute(step.connection).await.map_err(failed(operation))?;
        }
        Ok(Applied::Wrote(()))
    }
}

/// Lets a new run read what the earlier runs of its job list.
pub(crate) async fn inherit(step: &mut Step<'_>, run: RunId, job: JobId) -> Result<(), StorageError> {
    let inherit = query(INHERIT).bind(run.to_string()).bind(step.now.micros()).bind(job.to_string());
    inherit.execute(step.connection).await.map(drop).map_err(failed("share artifacts"))
}

/// Writes content so that it is there, whole and durable, or not at all.
fn store(unfinished: &Path, place: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("."));
    // Content that is there already is compared: a damaged file is replaced by this good copy.
    if read(place).is_ok_and(|stored| stored == content) {
        return sync_folder(folder);
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(unfinished)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| {
        if !folder.is_dir() {
            create_folder(folder)?;
            sync_folder(folder.parent().unwrap_or(Path::new(".")))?;
        }
        fs::rename(unfinished, place)
    });
    if written.is_err() {
        // The first error is the one to report; what stays behind is removed at the next start.
        let _ = fs::remove_file(unfinished);
    }
    written?;
    sync_folder(folder)
}

/// Reads at most what an artifact can have, so that a file that was swapped cannot fill the memory.
fn read(place: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(place)?.take(MAX_ARTIFACT_BYTES as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

fn create_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Runs work on files away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other).and_then(|result| result).map_err(file_failed(operation))
}

fn file_failed(operation: &'static str) -> impl FnOnce(std::io::Error) -> StorageError {
    move |source| StorageError::Database { operation, source: Box::new(source) }
}
