//! Making a backup while everything goes on.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use handshake_core::event::Actor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{BackupFile, BackupList, DATABASE, LIST, SCHEMA, is_left_out};
use crate::directory::scratch;
use crate::error::CliError;
use crate::hashed;
use crate::host::HostState;

/// Puts the archive together, in a file without a name. The database is copied first, and from before that on until the end
/// nothing is sealed, dropped or deleted: so what the copy refers to is there, and segments and outbox fit together.
pub(crate) async fn write(host: &HostState, actor: Actor) -> Result<File, CliError> {
    let Some(database) = host.url.file().map(Path::to_owned) else {
        return Err(CliError::usage("the database is PostgreSQL, which this host cannot copy")
            .hint("back it up with pg_dump, and the data directory with it while no process serves"));
    };
    let taken_at = host.gate.clock.now();
    host.record_system(actor, "backup", format!("a backup of the data directory is made, as of {taken_at}")).await?;
    let _sealing = host.keeper.hold_sealing().await;
    let _deleting = host.janitor.hold().await;
    let failed = |error: &io::Error| CliError::file("write a backup in", host.directory.path(), error);
    let scratch = scratch(host.directory.path(), ".backup-").map_err(|error| failed(&error))?;
    let copy = scratch.path().join(DATABASE);
    host.database.snapshot(&copy).await?;
    let list = BackupList {
        schema: SCHEMA,
        version: crate::VERSION.to_owned(),
        host: host.database.host(),
        taken_at,
        files: Vec::new(),
    };
    let folder = host.directory.path().to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let mut files = vec![(DATABASE.to_owned(), copy)];
        collect(&folder, "", &database, &mut files)?;
        files.sort();
        archive(files, list, &scratch)
    });
    written.await.map_err(io::Error::other).flatten().map_err(|error| failed(&error))
}

/// Files below a folder that belong into a backup, with their paths as they are called there. Links are none.
fn collect(folder: &Path, below: &str, database: &Path, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        let name = entry.file_name().into_string().map_err(|_| io::Error::other("a name is no text"))?;
        // The database, and what stands beside it under its name.
        let is_database = path.as_os_str().as_bytes().starts_with(database.as_os_str().as_bytes());
        if is_database || below.is_empty() && is_left_out(&name) || below == "artifacts/" && name == "unfinished" {
            continue;
        }
        if kind.is_dir() {
            collect(&path, &format!("{below}{name}/"), database, files)?;
        } else if kind.is_file() {
            files.push((format!("{below}{name}"), path));
        }
    }
    Ok(())
}

fn archive(files: Vec<(String, PathBuf)>, mut list: BackupList, scratch: &tempfile::TempDir) -> io::Result<File> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(0o600);
    let mut archive = ZipWriter::new(BufWriter::new(tempfile::tempfile_in(scratch.path())?));
    for (path, from) in files {
        let file = File::open(from)?;
        let large = file.metadata()?.len() >= u64::from(u32::MAX);
        archive.start_file(&path, options.large_file(large))?;
        let (bytes, sha256) = hashed::copy(file, &mut archive)?;
        list.files.push(BackupFile { path, bytes, sha256 });
    }
    archive.start_file(LIST, options)?;
    archive.write_all(&serde_json::to_vec_pretty(&list)?)?;
    let mut file = archive.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}
