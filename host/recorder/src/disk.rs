//! Steps on the file system that must survive a crash, each of which tests can make the last one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::{Arc, Mutex, PoisonError};

/// The disk. What it has written is durable when a method returns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    /// Steps that still succeed; none for all.
    #[cfg(test)]
    left: Arc<Mutex<Option<usize>>>,
}

impl Disk {
    /// Lets so many steps succeed and all later ones fail, as if the process had been killed or the disk were full.
    #[cfg(test)]
    pub(crate) fn fail_after(&self, steps: Option<usize>) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = steps;
    }

    /// Begins a step. Work that others do, such as DuckDB, is announced with this as well.
    #[cfg_attr(not(test), allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "only tests make steps fail"))]
    pub(crate) fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = self.left.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
        }
        Ok(())
    }

    /// Creates a folder (mode 0700) and those above it that are missing.
    pub(crate) fn create_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.step()?;
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(path)?;
        path.parent().map_or(Ok(()), |parent| self.sync_folder(parent))
    }

    /// Replaces a file (mode 0600) as a whole: whoever reads sees the old content or the new one.
    pub(crate) fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let new = beside(path, ".new");
        self.remove(&new)?;
        self.step()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = self.step().and_then(|()| file.write_all(content)).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // On a full disk the attempt itself must not keep what little space there is.
            let _ = std::fs::remove_file(&new);
            return Err(error);
        }
        self.rename(&new, path)
    }

    /// Makes a file's content durable.
    pub(crate) fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        OpenOptions::new().write(true).open(path)?.sync_all()
    }

    /// Gives a file another name in the same folder, durably.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        std::fs::rename(from, to)?;
        self.sync_folder(to.parent().unwrap_or(Path::new(".")))
    }

    /// Removes a file, if it is there. That is durable with the folder's next synchronisation.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        if !path.exists() {
            return Ok(());
        }
        self.step()?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes names in a folder durable.
    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }
}

/// The path with something behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_whichever_step_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.json");
        let disk = Disk::default();
        disk.replace(&path, b"old").unwrap();
        let mut steps = 0;
        loop {
            disk.fail_after(Some(steps));
            let done = disk.replace(&path, b"new").is_ok();
            let content = std::fs::read(&path).unwrap();
            assert!(content == b"old" || content == b"new", "{content:?}");
            if done {
                assert_eq!(content, b"new");
                break;
            }
            steps += 1;
        }
        assert!(steps >= 4, "each step was the last one once");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
