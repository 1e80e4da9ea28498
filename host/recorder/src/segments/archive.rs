//! The segments of one host in their folder: which there are, what they hold, and how records get into and out of
//! them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use handshake_core::chain::{BrokenChain, ChainHead, StampedEvent};
use handshake_core::storage::{EventOutbox, StorageError};
use handshake_core::{Digest, HostId, Timestamp};

use super::manifest::{Manifest, Tombstone, file_digest, manifest_path, name, parquet_path, range, read};
use super::merkle::MerkleTree;
use super::parquet::{ParquetError, ParquetReader, ParquetWriter, unfinished};
use crate::disk::Disk;
use crate::signing::{PublicKey, Signed, SigningKey};

/// Records that are read from the outbox or a segment at a time.
const PAGE: u32 = 2048;
/// Text of records that one segment holds at most, bytes, whatever their number: what is checked at once when a
/// segment is opened, and lost when one is.
const LARGEST_SEGMENT: usize = 32 << 20;
/// The tombstone, beside the segments.
const TOMBSTONE: &str = "tombstone.json";

/// Why records were not sealed or dropped. Nothing is lost: what was done so far is undone or completed by the next
/// attempt.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A step on the file system failed.
    #[error("cannot {operation} `{path}`")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A segment could not be written or read.
    #[error("segment `{path}`: {problem}")]
    Segment {
        /// Its Parquet file.
        path: PathBuf,
        /// What is wrong, with its causes.
        problem: String,
    },
    /// The outbox failed.
    #[error("cannot read or release the outbox")]
    Outbox(#[source] StorageError),
    /// The record itself is wrong; a person must look at it, and nothing behind is sealed.
    #[error("the record's chain is broken")]
    Broken(#[source] BrokenChain),
}

/// A segment as its files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Its manifest can be read.
    Sealed(Box<Signed<Manifest>>),
    /// There is no manifest that fits.
    Damaged {
        /// Number of its last record, from its name.
        to: u64,
        /// What is wrong.
        problem: String,
    },
}

impl Segment {
    fn to(&self) -> u64 {
        match self {
            Self::Sealed(manifest) => manifest.body.to,
            Self::Damaged { to, .. } => *to,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// By the number of the first record.
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(crate) tombstone: Option<Signed<Tombstone>>,
    /// What is wrong with the tombstone.
    tombstone_problem: Option<String>,
}

impl Contents {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.tombstone.is_none()
    }

    /// The segment that should hold a record.
    pub(crate) fn holding(&self, seq: u64) -> Option<&Segment> {
        self.segments.range(..=seq).next_back().map(|(_, segment)| segment).filter(|segment| segment.to() >= seq)
    }

    /// The first segment behind a record whose manifest can be read.
    pub(crate) fn next_sealed(&self, seq: u64) -> Option<&Manifest> {
        self.segments.range(seq + 1..).find_map(|(_, segment)| match segment {
            Segment::Sealed(manifest) => Some(&manifest.body),
            Segment::Damaged { .. } => None,
        })
    }

    /// Manifests, oldest first.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Signed<Manifest>> {
        self.segments.values().filter_map(|segment| match segment {
            Segment::Sealed(manifest) => Some(&**manifest),
            Segment::Damaged { .. } => None,
        })
    }

    /// Where the chain stands behind everything that is sealed or dropped. The hash is not known when the last segment
    /// is damaged.
    fn end(&self, host: HostId) -> (u64, Option<ChainHead>) {
        let start = self.tombstone.as_ref().map_or(ChainHead::empty(host), |tombstone| tombstone.body.end());
        match self.segments.last_key_value() {
            Some((_, segment)) if segment.to() > start.seq => match segment {
                Segment::Sealed(manifest) => (manifest.body.to, Some(manifest.body.end())),
                Segment::Damaged { to, .. } => (*to, None),
            },
            _ => (start.seq, Some(start)),
        }
    }
}

/// A segment that records are being read from.
struct OpenSegment {
    from: u64,
    reader: ParquetReader,
}

/// The segments of one host.
pub struct Archive {
    folder: PathBuf,
    host: HostId,
    key: Arc<SigningKey>,
    pub(crate) disk: Disk,
    contents: RwLock<Contents>,
    open: Mutex<Option<OpenSegment>>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("folder", &self.folder).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Archive {
    /// The segments in a host's own folder, which need not exist. Reads their manifests, not the records.
    pub fn open(folder: PathBuf, host: HostId, key: Arc<SigningKey>) -> Result<Self, ArchiveError> {
        Self::on(Disk::default(), folder, host, key)
    }

    pub(crate) fn on(disk: Disk, folder: PathBuf, host: HostId, key: Arc<SigningKey>) -> Result<Self, ArchiveError> {
        let contents = list(&folder, host, key.public())?;
        Ok(Self { folder, host, key, disk, contents: RwLock::new(contents), open: Mutex::default() })
    }

    /// Where the segments are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The host whose segments these are.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// The key that signs them.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    pub(crate) fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the last record that is sealed or was dropped after it.
    pub fn sealed_to(&self) -> u64 {
        self.contents().end(self.host).0
    }

    /// What retention has dropped.
    pub fn tombstone(&self) -> Option<Signed<Tombstone>> {
        self.contents().tombstone.clone()
    }

    /// Why the tombstone cannot be read.
    pub(crate) fn tombstone_problem(&self) -> Option<String> {
        self.contents().tombstone_problem.clone()
    }

    /// Manifests, oldest first.
    pub fn manifests(&self) -> Vec<Signed<Manifest>> {
        self.contents().manifests().cloned().collect()
    }

    /// What is wrong with the files, as far as their names and manifests tell.
    pub fn problems(&self) -> Vec<String> {
        let contents = self.contents();
        let damaged = contents.segments.iter().filter_map(|(from, segment)| match segment {
            Segment::Damaged { to, problem } => Some(format!("records {from} to {to}: {problem}")),
            Segment::Sealed(_) => None,
        });
        contents.tombstone_problem.iter().cloned().chain(damaged).collect()
    }

    /// Reads records from a segment. The file's hash is checked when the reading begins.
    pub(crate) fn read_after(&self, segment: &Manifest, after: u64, limit: u32) -> Result<Vec<StampedEvent>, String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match open.take().filter(|open| open.from == segment.from) {
            Some(current) => current,
            None => OpenSegment { from: segment.from, reader: open_checked(&self.folder, segment)? },
        };
        let wanted = limit.min(u32::try_from(segment.to.saturating_sub(after)).unwrap_or(u32::MAX));
        let records = current.reader.read_after(after, wanted).map_err(|error| told(&error))?;
        if records.len() != wanted as usize || records.first().is_some_and(|first| first.seq != after + 1) {
            return Err("it does not hold the records that its manifest names".into());
        }
        *open = Some(current);
        Ok(records)
    }

    /// Seals the oldest records of the outbox, up to and with `up_to` at most and no more than `most`, and releases
    /// them from the outbox once file and manifest are durable. Nothing is sealed twice, whatever was done before a
    /// crash. None if there is nothing to seal.
    pub(crate) async fn seal(
        self: &Arc<Self>,
        outbox: &dyn EventOutbox,
        up_to: u64,
        most: u32,
        now: Timestamp,
    ) -> Result<Option<Signed<Manifest>>, ArchiveError> {
        let (end, known) = self.contents().end(self.host);
        // What an earlier process had sealed when it was lost.
        self.begin("release records of")?;
        if end > 0 {
            outbox.release(end).await.map_err(ArchiveError::Outbox)?;
        }
        if up_to <= end {
            return Ok(None);
        }
        self.clear(end).await?;
        let mut draft: Option<Draft> = None;
        loop {
            let (read, collected, bytes) =
                draft.as_ref().map_or((end, 0, 0), |draft| (draft.head.seq, draft.tree.size(), draft.bytes));
            let left = u64::from(most.max(1)).saturating_sub(collected).min(up_to.saturating_sub(read));
            let page = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
            if page == 0 || bytes >= LARGEST_SEGMENT {
                break;
            }
            let records = outbox.read_after(read, page).await.map_err(ArchiveError::Outbox)?;
            let Some(first) = records.first() else { break };
            let started = match draft.take() {
                Some(draft) => draft,
                None => {
                    let start = match known {
                        Some(start) if first.seq == start.seq + 1 => start,
                        // Records are missing, which is on record as a gap; the chain goes on behind them.
                        _ => ChainHead::before(first).map_err(ArchiveError::Broken)?,
                    };
                    Draft::new(&self.folder, start).map_err(|error| self.segment(&error))?
                }
            };
            draft = Some(self.blocking(move |_| started.push(records)).await?);
        }
        let Some(draft) = draft.filter(|draft| draft.tree.size() > 0) else { return Ok(None) };
        let manifest = self.blocking(move |archive| archive.store(draft, now)).await?;
        self.begin("release records of")?;
        outbox.release(manifest.body.to).await.map_err(ArchiveError::Outbox)?;
        Ok(Some(manifest))
    }

    /// Makes the folder and removes what unfinished attempts have left there: their records are still in the outbox.
    async fn clear(self: &Arc<Self>, end: u64) -> Result<(), ArchiveError> {
        self.blocking(move |archive| {
            let folder = &archive.folder;
            let failed = |operation| move |source| archive.file(operation, folder, source);
            archive.disk.create_folder(folder).map_err(failed("create"))?;
            for entry in std::fs::read_dir(folder).map_err(failed("list"))? {
                let path = entry.map_err(failed("list"))?.path();
                let is_behind = |name: &str| range(name).is_some_and(|(from, _)| from > end);
                let leftover = match (path.file_stem().and_then(|name| name.to_str()), path.extension()) {
                    (_, Some(kind)) if kind == "new" => true,
                    (Some(name), Some(kind)) => kind == "parquet" && is_behind(name),
                    _ => false,
                };
                if leftover {
                    archive.disk.remove(&path).map_err(|source| archive.file("remove", &path, source))?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Writes a segment: the Parquet file under another name, synchronised, read again and compared, then under its
    /// own name, and then its manifest.
    fn store(&self, draft: Draft, now: Timestamp) -> Result<Signed<Manifest>, ArchiveError> {
        let Draft { writer, start, head, recorded_from, tree, .. } = draft;
        let (from, to) = (start.seq + 1, head.seq);
        let name = name(from, to);
        let path = parquet_path(&self.folder, &name);
        let new = unfinished(&path);
        let failed = |operation, path: &PathBuf| {
            let path = path.clone();
            move |source| ArchiveError::File { operation, path, source }
        };
        let written = self.disk.step().map_err(failed("write", &new)).and_then(|()| {
            writer.write(&new).map_err(|error| self.segment(&error))?;
            self.disk.sync_file(&new).map_err(failed("write", &new))?;
            let (file_sha256, bytes) = file_digest(&new).map_err(failed("read", &new))?;
            let again = merkle_root(&new, self.host, start.seq, to).map_err(|error| self.segment(&error))?;
            if again != (tree.size(), tree.root()) {
                return Err(ArchiveError::Segment {
                    path: new.clone(),
                    problem: "what was written does not come back; the records stay in the outbox".into(),
                });
            }
            Ok((file_sha256, bytes))
        });
        let (file_sha256, bytes) = written.inspect_err(|_| {
            // On a full disk the attempt itself must not keep what little space there is.
            let _ = std::fs::remove_file(&new);
        })?;
        self.disk.rename(&new, &path).map_err(failed("write", &path))?;
        let body = Manifest {
            schema: 1,
            host: self.host,
            from,
            to,
            records: tree.size(),
            prev: start.hash,
            hash: head.hash,
            merkle_root: tree.root(),
            recorded_from,
            recorded_to: head.recorded_at,
            file_sha256,
            bytes,
            sealed_at: now,
        };
        let path = manifest_path(&self.folder, &name);
        let manifest = self.write_signed(&path, body)?;
        self.change().segments.insert(from, Segment::Sealed(Box::new(manifest.clone())));
        Ok(manifest)
    }

    fn write_signed<T: crate::signing::Document>(&self, path: &Path, body: T) -> Result<Signed<T>, ArchiveError> {
        let failed = |source| self.file("write", path, source);
        let signed = self.key.sign(body).map_err(|error| failed(error.into()))?;
        let content = signed.to_file().map_err(|error| failed(error.into()))?;
        self.disk.replace(path, &content).map_err(failed)?;
        Ok(signed)
    }

    /// Writes down that everything up to the end of a segment is dropped. Its files are still there.
    pub(crate) fn bury(&self, up_to: ChainHead, now: Timestamp) -> Result<Signed<Tombstone>, ArchiveError> {
        let body = Tombstone {
            schema: 1,
            host: self.host,
            from: 1,
            to: up_to.seq,
            hash: up_to.hash,
            recorded_to: up_to.recorded_at,
            dropped_at: now,
            reason: "retention".into(),
        };
        let tombstone = self.write_signed(&self.folder.join(TOMBSTONE), body)?;
        let mut contents = self.change();
        contents.tombstone = Some(tombstone.clone());
        contents.tombstone_problem = None;
        Ok(tombstone)
    }

    /// Whether files are there of records that the tombstone covers.
    pub(crate) fn has_buried(&self) -> bool {
        let contents = self.contents();
        let to = contents.tombstone.as_ref().map_or(0, |tombstone| tombstone.body.to);
        contents.segments.values().next().is_some_and(|segment| segment.to() <= to)
    }

    /// Removes the files of what the tombstone covers.
    pub(crate) fn remove_buried(&self) -> Result<(), ArchiveError> {
        let to = self.tombstone().map_or(0, |tombstone| tombstone.body.to);
        loop {
            let oldest = self.contents().segments.iter().next().map(|(from, segment)| (*from, segment.to()));
            let Some((from, last)) = oldest.filter(|(_, last)| *last <= to) else { break };
            let name = name(from, last);
            // The manifest last, so that a crash in between leaves a segment that is known.
            for path in [parquet_path(&self.folder, &name), manifest_path(&self.folder, &name)] {
                self.disk.remove(&path).map_err(|source| self.file("remove", &path, source))?;
            }
            self.change().segments.remove(&from);
        }
        self.disk.sync_folder(&self.folder).map_err(|source| self.file("synchronise", &self.folder, source))
    }

    /// Begins a step of which the disk knows nothing.
    pub(crate) fn begin(&self, operation: &'static str) -> Result<(), ArchiveError> {
        self.disk.step().map_err(|source| self.file(operation, &self.folder, source))
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let archive = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&archive)).await;
        done.unwrap_or_else(|error| Err(self.file("work on", &self.folder, std::io::Error::other(error))))
    }

    fn file(&self, operation: &'static str, path: &Path, source: std::io::Error) -> ArchiveError {
        ArchiveError::File { operation, path: path.to_owned(), source }
    }

    pub(crate) fn segment(&self, error: &ParquetError) -> ArchiveError {
        ArchiveError::Segment { path: self.folder.clone(), problem: told(error) }
    }
}

/// Opens a segment's file, if it is the one that was sealed. DuckDB sees no other: a file that was damaged or made by
/// somebody else is no input for a parser.
pub(crate) fn open_checked(folder: &Path, segment: &Manifest) -> Result<ParquetReader, String> {
    let path = parquet_path(folder, &segment.name());
    match file_digest(&path) {
        Ok(found) if found == (segment.file_sha256, segment.bytes) => {}
        Ok(_) => return Err("its Parquet file is not the one that was sealed".into()),
        Err(error) => return Err(format!("its Parquet file cannot be read: {error}")),
    }
    ParquetReader::open(&path, segment.host).map_err(|error| told(&error))
}

/// Gives a segment's file a second name in another folder, if it is the one that was sealed, and returns that name.
pub(crate) fn linked(folder: &Path, segment: &Manifest, target: &Path) -> Result<String, String> {
    let name = segment.name();
    let (path, link) = (parquet_path(folder, &name), parquet_path(target, &name));
    // Some file systems have no second names.
    std::fs::hard_link(&path, &link)
        .or_else(|_| std::fs::copy(&path, &link).map(drop))
        .map_err(|error| format!("its Parquet file cannot be read: {error}"))?;
    match file_digest(&link) {
        Ok(found) if found == (segment.file_sha256, segment.bytes) => Ok(format!("{name}.parquet")),
        found => {
            // What is left of it goes with its folder.
            let _ = std::fs::remove_file(&link);
            Err(match found {
                Ok(_) => "its Parquet file is not the one that was sealed".into(),
                Err(error) => format!("its Parquet file cannot be read: {error}"),
            })
        }
    }
}

/// Records and their Merkle root, read from a file.
fn merkle_root(path: &Path, host: HostId, after: u64, to: u64) -> Result<(u64, Digest), ParquetError> {
    let reader = ParquetReader::open(path, host)?;
    let (mut tree, mut read) = (MerkleTree::default(), after);
    while read < to {
        let records = reader.read_after(read, PAGE)?;
        for record in &records {
            // The hash of what came back, not the hash that came back.
            tree.push(&Digest::of(record.record.as_bytes()));
        }
        read = read.saturating_add(u64::from(PAGE));
    }
    Ok((tree.size(), tree.root()))
}

/// The message with all its causes.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What is in the folder.
fn list(folder: &Path, host: HostId, key: &PublicKey) -> Result<Contents, ArchiveError> {
    let failed = |source| ArchiveError::File { operation: "list", path: folder.to_owned(), source };
    let mut contents = Contents::default();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(contents),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        // A Parquet file alone was being sealed: its records are still in the outbox.
        if path.extension().is_none_or(|kind| kind != "json") {
            continue;
        }
        let Some((from, to)) = path.file_stem().and_then(|name| name.to_str()).and_then(range) else { continue };
        let segment = match read::<Manifest>(&path) {
            Ok(manifest) if (manifest.body.host, manifest.body.from, manifest.body.to) != (host, from, to) => {
                Segment::Damaged { to, problem: "its manifest is about other records".into() }
            }
            Ok(manifest) if manifest.body.records != to - from + 1 => {
                Segment::Damaged { to, problem: "its manifest contradicts itself".into() }
            }
            // Records of a host whose key was exchanged are still its records.
            Ok(manifest) if manifest.key_id != key.id() => Segment::Sealed(Box::new(manifest)),
            Ok(manifest) => match manifest.verify(key) {
                Ok(()) => Segment::Sealed(Box::new(manifest)),
                Err(error) => Segment::Damaged { to, problem: format!("its manifest: {error}") },
            },
            Err(error) => Segment::Damaged { to, problem: format!("its manifest cannot be read: {error}") },
        };
        contents.segments.insert(from, segment);
    }
    let path = folder.join(TOMBSTONE);
    match read::<Tombstone>(&path) {
        Ok(tombstone) if tombstone.body.host == host => contents.tombstone = Some(tombstone),
        Ok(_) => contents.tombstone_problem = Some("the tombstone is another host's".into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => contents.tombstone_problem = Some(format!("the tombstone cannot be read: {error}")),
    }
    Ok(contents)
}

/// Records on their way into a segment.
struct Draft {
    writer: ParquetWriter,
    start: ChainHead,
    head: ChainHead,
    recorded_from: Timestamp,
    tree: MerkleTree,
    bytes: usize,
}

impl Draft {
    fn new(folder: &Path, start: ChainHead) -> Result<Self, ParquetError> {
        let recorded_from = start.recorded_at;
        let writer = ParquetWriter::new(folder)?;
        Ok(Self { writer, start, head: start, recorded_from, tree: MerkleTree::default(), bytes: 0 })
    }

    fn push(mut self, records: Vec<StampedEvent>) -> Result<Self, ArchiveError> {
        for record in &records {
            self.head.verify(record).map_err(ArchiveError::Broken)?;
            if self.tree.size() == 0 {
                self.recorded_from = record.recorded_at;
            }
            self.tree.push(&record.hash);
            self.bytes += record.record.len();
        }
        self.writer.push(&records).map_err(|error| ArchiveError::Segment {
            path: PathBuf::from(name(self.start.seq + 1, self.head.seq)),
            problem: told(&error),
        })?;
        Ok(self)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
