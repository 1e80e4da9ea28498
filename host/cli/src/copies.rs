//! Folders in the data directory that hold copies of the record while somebody reads them.
//!
//! Each has a lock that its reader holds, so that a folder whose reader was killed is known, and removed by whoever looks
//! next: copies must not outlive what retention drops.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use handshake_core::Ids;
use uuid::Uuid;

use crate::directory::DataDirectory;
use crate::error::CliError;

/// The lock in a folder, and beside all folders for those who make and remove them.
const LOCK: &str = "lock";

/// A folder of this process, mode 0700; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct CopiesFolder {
    path: PathBuf,
    name: Uuid,
    _lock: File,
}

/// Where all of them are.
fn parent(directory: &DataDirectory) -> PathBuf {
    directory.file("recorder").join("copies")
}

/// The folder of that name.
pub(crate) fn folder(directory: &DataDirectory, name: Uuid) -> PathBuf {
    parent(directory).join(name.to_string())
}

impl CopiesFolder {
    /// Makes a new one, and removes those that nobody reads any more.
    pub(crate) fn create(directory: &DataDirectory, ids: &dyn Ids) -> Result<Self, CliError> {
        let parent = parent(directory);
        let failed = |error: io::Error| CliError::file("make copies of the record in", &parent, &error);
        make_folder(&parent).map_err(failed)?;
        let others = lock(&parent).map_err(failed)?;
        others.lock().map_err(failed)?;
        remove_unread(&parent).map_err(failed)?;
        let name = ids.uuid();
        let path = folder(directory, name);
        make_folder(&path).map_err(failed)?;
        let own = lock(&path).map_err(failed)?;
        own.lock().map_err(failed)?;
        Ok(Self { path, name, _lock: own })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    pub(crate) fn name(&self) -> Uuid {
        self.name
    }
}

impl Drop for CopiesFolder {
    fn drop(&mut self) {
        // What stays because this fails is removed by the next look.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes folders whose readers are gone.
pub(crate) fn clear(directory: &DataDirectory) -> io::Result<()> {
    let parent = parent(directory);
    if !parent.exists() {
        return Ok(());
    }
    match lock(&parent)?.try_lock() {
        // Whoever has it does the same.
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => remove_unread(&parent),
    }
}

fn remove_unread(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == LOCK) {
            continue;
        }
        if lock(&path)?.try_lock().is_ok() {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn lock(folder: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::testing::SequentialIds;

    use super::*;

    #[test]
    fn a_folder_is_there_while_somebody_reads_it_and_then_it_goes() {
        let home = tempfile::tempdir().unwrap();
        let directory = DataDirectory::prepare(&home.path().join("data")).unwrap();
        clear(&directory).unwrap();
        let ids = SequentialIds::default();
        let read = CopiesFolder::create(&directory, &ids).unwrap();
        std::fs::write(read.path().join("live.parquet"), "x").unwrap();
        // As a reader leaves it that was killed.
        let left = folder(&directory, ids.uuid());
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("live.parquet"), "x").unwrap();
        clear(&directory).unwrap();
        assert!(read.path().join("live.parquet").exists() && !left.exists());
        std::fs::create_dir(&left).unwrap();
        let second = CopiesFolder::create(&directory, &ids).unwrap();
        assert!(second.path().exists() && read.path().exists() && !left.exists());
        let path = read.path().to_owned();
        drop(read);
        assert!(!path.exists());
    }
}
