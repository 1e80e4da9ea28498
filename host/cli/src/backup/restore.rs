//! Making a data directory from a backup.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::{BackupFile, BackupList, DATABASE, LIST, RESTORED, Restored, SCHEMA, is_left_out, is_plain};
use crate::directory::scratch;
use crate::error::CliError;
use crate::hashed;

/// The longest list: a hundred thousand segments and artifacts have some 20 MiB.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// Makes a data directory, which must not be there, and the database, which may lie elsewhere. Everything is unpacked beside
/// its place, checked, and moved there whole.
pub(crate) fn restore(backup: &Path, data_dir: &Path, database: &Path) -> Result<BackupList, CliError> {
    let taken = |path: &Path| {
        CliError::conflict(format!("`{}` is there already, and nothing is replaced", path.display()))
            .hint("move it aside, or choose another place with --data-dir")
    };
    // A folder without anything in it is as good as none.
    let is_there = |path: &Path| path.symlink_metadata().is_ok() && std::fs::remove_dir(path).is_err();
    if is_there(data_dir) {
        return Err(taken(data_dir));
    }
    if is_there(database) {
        return Err(taken(database));
    }
    let broken = |problem: String| {
        CliError::usage(format!("`{}` is no backup, or a damaged one: {problem}", backup.display())).code("backup")
    };
    let file = File::open(backup).map_err(|error| CliError::file("read", backup, &error))?;
    let mut archive = ZipArchive::new(file).map_err(|error| broken(error.to_string()))?;
    let list = read_list(&mut archive).map_err(|error| broken(error.to_string()))?;
    check(&list, &archive).map_err(&broken)?;

    let parent = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: &io::Error| CliError::file("write to", parent, error);
    std::fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    let scratch = scratch(parent, ".restore-").map_err(|error| failed(&error))?;
    for listed in &list.files {
        if !unpack(&mut archive, listed, scratch.path()).map_err(|error| failed(&error))? {
            return Err(broken(format!("`{}` is not what it was when the backup was made", listed.path)));
        }
    }
    let mark = serde_json::to_vec(&Restored { taken_at: list.taken_at })
        .map_err(|error| CliError::internal("cannot write down which backup this is").because(&error))?;
    write_whole(&scratch.path().join(RESTORED), &mut mark.as_slice()).map_err(|error| failed(&error))?;
    write_whole(&scratch.path().join(".gitignore"), &mut "*\n".as_bytes()).map_err(|error| failed(&error))?;

    let inside = database == data_dir.join(DATABASE);
    if !inside {
        let folder = database.parent().unwrap_or(Path::new("."));
        let copied = std::fs::create_dir_all(folder)
            .and_then(|()| File::open(scratch.path().join(DATABASE)))
            .and_then(|mut file| write_whole(database, &mut file))
            .and_then(|_| std::fs::remove_file(scratch.path().join(DATABASE)));
        copied.map_err(|error| CliError::file("write", database, &error))?;
    }
    let unpacked = scratch.keep();
    std::fs::rename(&unpacked, data_dir)
        .and_then(|()| File::open(parent)?.sync_all())
        .map_err(|error| CliError::file("create", data_dir, &error))?;
    Ok(list)
}

fn read_list(archive: &mut ZipArchive<File>) -> io::Result<BackupList> {
    let list = archive.by_name(LIST)?;
    Ok(serde_json::from_reader(list.take(MAX_LIST_BYTES))?)
}

/// Whether the list is one that this version understands, and the archive has just its files.
fn check(list: &BackupList, archive: &ZipArchive<File>) -> Result<(), String> {
    if list.schema != SCHEMA {
        return Err(format!("its form is {}, and this version of handshake knows {SCHEMA}", list.schema));
    }
    if archive.len() != list.files.len() + 1 {
        return Err("it has other files than it lists".to_owned());
    }
    if !list.files.is_sorted_by(|one, next| one.path < next.path) {
        return Err("its list is not sorted, or names a file twice".to_owned());
    }
    if !list.files.iter().any(|file| file.path == DATABASE) {
        return Err("it has no database".to_owned());
    }
    for BackupFile { path, .. } in &list.files {
        if !is_plain(path) || is_left_out(path.split('/').next().unwrap_or_default()) {
            return Err(format!("`{}` cannot be part of one", path.escape_debug()));
        }
    }
    Ok(())
}

/// Unpacks one file; false when it is not what the list says.
fn unpack(archive: &mut ZipArchive<File>, listed: &BackupFile, folder: &Path) -> io::Result<bool> {
    let to: PathBuf = folder.join(&listed.path);
    if let Some(parent) = to.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let packed = match archive.by_name(&listed.path) {
        Ok(packed) => packed,
        Err(zip::result::ZipError::Io(error)) => return Err(error),
        Err(_) => return Ok(false),
    };
    // Whatever it says of itself, it becomes no larger than the list says.
    match write_whole(&to, &mut packed.take(listed.bytes.saturating_add(1))) {
        Ok(written) => Ok(written == (listed.bytes, listed.sha256)),
        // Of the packed bytes, not of the disk.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn write_whole(path: &Path, from: &mut impl Read) -> io::Result<(u64, handshake_core::Digest)> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = hashed::copy(from, &mut file)?;
    file.sync_all()?;
    Ok(written)
}
