//! Deletes artifacts that no run lists: what deleted jobs leave behind, and crashes between a file and its row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use handshake_core::Digest;
use handshake_core::storage::{ContentSweeper, EventOutbox, StorageError, Swept};

use crate::artifacts::{FileArtifacts, blocking};
use crate::error::{failed, unreadable};
use crate::sql::{column, query};

const LISTED: &str = "SELECT DISTINCT sha256 FROM run_artifacts WHERE sha256 IN ($1";

/// Artifacts that are looked up at once, and for whose deletion new ones wait.
const CHUNK: usize = 100;
const OPERATION: &str = "delete artifacts that nobody lists";

#[async_trait]
impl ContentSweeper for FileArtifacts {
    async fn sweep(&self, dry_run: bool) -> Result<Swept, StorageError> {
        let folder = self.folder.clone();
        let stored = blocking(OPERATION, move || stored(&folder)).await?;
        let mut swept = Swept::default();
        for some in stored.chunks(CHUNK) {
            let unlisted = self.unlisted(some).await?;
            if unlisted.is_empty() {
                continue;
            }
            // Who stores an artifact holds the other side of this lock until its row is at least in the queue, and
            // the queue is written before the second look. So what is unlisted then stays so.
            let alone = Arc::clone(&self.listing).write_owned().await;
            self.database.flush().await?;
            let places = self.unlisted(&unlisted).await?.into_iter().map(|id| self.place(id)).collect();
            let found = blocking(OPERATION, move || {
                // Until the last file is gone, even if nobody waits for that any more.
                let _alone = alone;
                delete(places, dry_run)
            });
            let found = found.await?;
            swept = Swept { files: swept.files + found.files, bytes: swept.bytes + found.bytes };
        }
        Ok(swept)
    }
}

impl FileArtifacts {
    /// Those of some artifacts that no run lists.
    async fn unlisted(&self, some: &[Digest]) -> Result<Vec<Digest>, StorageError> {
        let [first, others @ ..] = some else { return Ok(Vec::new()) };
        let mut listed = query(LISTED).bind(first.to_string());
        for id in others {
            listed = listed.push(", ").push_bind(id.to_string());
        }
        let mut reader = self.database.reader(OPERATION).await?;
        let rows = listed.push(")").fetch_all(&mut reader).await.map_err(failed(OPERATION))?;
        let mut listed = BTreeSet::new();
        for row in &rows {
            listed.insert(column::<String>(row, "sha256")?.parse::<Digest>().map_err(unreadable("hash"))?);
        }
        Ok(some.iter().filter(|id| !listed.contains(id)).copied().collect())
    }
}

/// The artifacts in the folder, by the names of their files. What has another name is not the host's.
fn stored(folder: &Path) -> std::io::Result<Vec<Digest>> {
    let mut stored = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let first = entry.file_name();
        let Some(first) = first.to_str().filter(|name| name.len() == 2) else { continue };
        for file in fs::read_dir(entry.path())? {
            let rest = file?.file_name();
            stored.extend(rest.to_str().and_then(|rest| format!("{first}{rest}").parse::<Digest>().ok()));
        }
    }
    Ok(stored)
}

fn delete(places: Vec<PathBuf>, dry_run: bool) -> std::io::Result<Swept> {
    let mut swept = Swept::default();
    for place in places {
        let size = fs::metadata(&place)?.len();
        if !dry_run {
            fs::remove_file(&place)?;
        }
        swept = Swept { files: swept.files + 1, bytes: swept.bytes + size };
    }
    Ok(swept)
}
