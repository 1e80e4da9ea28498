//! Files that have another name until they are whole, and that replace nothing unless that was asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// A file under another name; removed when it does not become whole.
pub(crate) struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is there only when something failed, which is what is told, or when it has two names.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Refuses what could not be written in the end.
pub(crate) fn check(file: &Path, force: bool) -> Result<(), CliError> {
    if file.is_dir() {
        return Err(CliError::usage(format!("`{}` is a folder", file.display())).hint("name a file in it"));
    }
    if !force && file.symlink_metadata().is_ok() { Err(exists(file)) } else { Ok(()) }
}

fn exists(file: &Path) -> CliError {
    CliError::conflict(format!("`{}` exists", file.display())).hint("name another file, or replace it with --force")
}

/// Has a file filled, and gives it its name once all of it is on disk. Gives what filling it gave, and its length in bytes.
pub(crate) async fn write<T>(
    file: &Path,
    force: bool,
    fill: impl AsyncFnOnce(&mut File) -> Result<T, CliError>,
) -> Result<(T, u64), CliError> {
    let failed = |error: &io::Error| CliError::file("write", file, error);
    let part = Unfinished::beside(file)?;
    let mut target = part.create().map_err(|error| failed(&error))?;
    let filled = fill(&mut target).await?;
    target.sync_all().map_err(|error| failed(&error))?;
    let bytes = target.metadata().map_err(|error| failed(&error))?.len();
    part.publish(file, force)?;
    Ok((filled, bytes))
}

/// The same for a text.
pub(crate) async fn write_text(file: &Path, force: bool, text: &str) -> Result<(), CliError> {
    let fill = async |target: &mut File| {
        target.write_all(text.as_bytes()).map_err(|error| CliError::file("write", file, &error))
    };
    write(file, force, fill).await.map(drop)
}

impl Unfinished {
    /// A name beside the file.
    pub(crate) fn beside(file: &Path) -> Result<Self, CliError> {
        let name = file.file_name().ok_or_else(|| CliError::usage(format!("`{}` names no file", file.display())))?;
        Ok(Self(file.with_file_name(format!(".{}.part-{}", name.to_string_lossy(), std::process::id()))))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it, for this user alone.
    pub(crate) fn create(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&self.0)
    }

    /// Gives the whole file its name. Nothing is replaced unless that was asked for, whoever made it meanwhile.
    pub(crate) fn publish(self, file: &Path, force: bool) -> Result<(), CliError> {
        let named = if force { std::fs::rename(&self.0, file) } else { std::fs::hard_link(&self.0, file) };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(file),
            _ => CliError::file("write", file, &error),
        })
    }
}
