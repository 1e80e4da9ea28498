//! Copies of the record in Parquet, for readers that must not touch the recorder's own files: sealed segments under a
//! second name, and what is not sealed yet in a file of its own.

use std::path::Path;
use std::sync::Arc;

use handshake_core::Timestamp;
use handshake_core::chain::ChainHead;
use handshake_core::storage::{EventOutbox, StorageError};
use serde::{Deserialize, Serialize};

use crate::keeper::{Keeper, KeeperError};
use crate::segments::{Archive, ArchiveError, Manifest, ParquetWriter, Segment, linked};

/// Name of the file with what is not sealed.
pub(super) const LIVE_COPY: &str = "live.parquet";
/// Records that are read from the outbox at a time.
const PAGE: u32 = 2048;

/// Copies in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecordCopy {
    /// Names of the files, oldest records first. There is always at least one.
    pub files: Vec<String>,
    /// Last record that they hold; 0 when there is none.
    pub seq: u64,
    /// What was recorded before this time is older than what is kept, and must not be shown.
    pub retained: Timestamp,
    /// What retention has dropped ends with this record; 0 when it has dropped nothing.
    pub dropped_to: u64,
    /// What else is not there, and why; one sentence each.
    pub missing: Vec<String>,
}

impl Keeper {
    /// Copies the record, as it stands now, into an empty folder on the file system of the segments. Recording goes on
    /// meanwhile; sealing waits.
    pub async fn copy(&self, folder: &Path) -> Result<RecordCopy, KeeperError> {
        let head = self.log().flush().await?;
        // Nothing is moved from the outbox to a segment while this is held.
        let _sealing = self.hold_sealing().await;
        let archive = Arc::clone(self.log().archive());
        let retained = self.retained(&head);
        let (sealed_to, dropped_to) =
            (archive.sealed_to(), archive.tombstone().map_or(0, |tombstone| tombstone.body.to));
        let target = folder.to_owned();
        let segments = blocking(&archive, move |archive| segments(archive, &target, retained)).await?;
        let (mut files, mut missing) = segments;

        let folder = folder.to_owned();
        let new = folder.clone();
        let mut writer =
            blocking(&archive, move |archive| ParquetWriter::new(&new).map_err(|error| archive.segment(&error)))
                .await?;
        let mut end: Option<ChainHead> = None;
        let mut read = sealed_to;
        while read < head.seq {
            let mut records = self.log().outbox().read_after(read, PAGE).await?;
            records.retain(|record| record.seq <= head.seq);
            let (Some(first), Some(last)) = (records.first(), records.last()) else { break };
            if first.seq != read + 1 {
                missing.push(format!("events {} to {} are in no file", read + 1, first.seq - 1));
            }
            let mut chain = match end.filter(|end| end.seq + 1 == first.seq) {
                Some(end) => end,
                None => ChainHead::before(first).map_err(ArchiveError::Broken)?,
            };
            read = last.seq;
            let pushed = move |archive: &Archive| {
                for record in &records {
                    chain.verify(record).map_err(ArchiveError::Broken)?;
                }
                writer.push(&records).map_err(|error| archive.segment(&error))?;
                Ok((writer, chain))
            };
            let (returned, chain) = blocking(&archive, pushed).await?;
            (writer, end) = (returned, Some(chain));
        }
        blocking(&archive, move |archive| {
            writer.write(&folder.join(LIVE_COPY)).map_err(|error| archive.segment(&error))
        })
        .await?;
        files.push(LIVE_COPY.to_owned());
        Ok(RecordCopy { files, seq: head.seq, retained, dropped_to, missing })
    }
}

async fn blocking<T: Send + 'static>(
    archive: &Arc<Archive>,
    work: impl FnOnce(&Archive) -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, KeeperError> {
    let archive = Arc::clone(archive);
    let done = tokio::task::spawn_blocking(move || work(&archive)).await;
    Ok(done.map_err(|error| StorageError::Guard(error.to_string()))??)
}

/// Gives every segment that is not hidden as a whole a second name in the folder, so that retention can remove the first.
fn segments(archive: &Archive, folder: &Path, retained: Timestamp) -> Result<(Vec<String>, Vec<String>), ArchiveError> {
    let (mut files, mut missing) = (Vec::new(), Vec::new());
    let sealed: Vec<Result<Manifest, String>> = archive
        .contents()
        .segments
        .iter()
        .map(|(from, segment)| match segment {
            Segment::Sealed(manifest) => Ok(manifest.body.clone()),
            Segment::Damaged { to, problem } => Err(format!("events {from} to {to}: {problem}")),
        })
        .collect();
    for segment in sealed {
        match segment {
            Ok(manifest) if manifest.recorded_to < retained => {}
            Ok(manifest) => match linked(archive.folder(), &manifest, folder) {
                Ok(name) => files.push(name),
                // Dropped since it was listed.
                Err(_) if archive.tombstone().is_some_and(|tombstone| tombstone.body.to >= manifest.to) => {}
                Err(problem) => missing.push(format!("events {} to {}: {problem}", manifest.from, manifest.to)),
            },
            Err(problem) => missing.push(problem),
        }
    }
    Ok((files, missing))
}
