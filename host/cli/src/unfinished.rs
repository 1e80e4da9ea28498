//! Files that have another name until they are whole, and that replace nothing unless that was asked for.

use std::fs::{File, OpenOptions};
use std::io;
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
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.0)
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
