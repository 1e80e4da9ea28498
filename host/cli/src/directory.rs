//! The data directory: made private, kept private, and owned by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use handshake_core::{HostId, Ids};
use tokio::net::{UnixListener, UnixStream};

use crate::error::CliError;

/// Longest socket path that every system takes (104 bytes on some, 108 on Linux, with a final zero).
const MAX_SOCKET_PATH: usize = 100;
const SOCKET: &str = "handshake.sock";
const LOCK: &str = "owner.lock";

/// A data directory that exists and belongs to this user alone.
#[derive(Debug, Clone)]
pub(crate) struct DataDirectory {
    path: PathBuf,
}

impl DataDirectory {
    /// Creates the directory if need be (mode 0700) and checks that nobody else can write to it.
    pub(crate) fn prepare(path: &Path) -> Result<Self, CliError> {
        let cannot = |operation: &str, error: &std::io::Error| {
            let new = CliError::file(operation, path, error);
            if new.hint.is_some() { new } else { new.hint("choose another data directory with --data-dir") }
        };
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|error| cannot("create the data directory", &error))?;
            // What is in here is private and changes all the time; no version control should pick it up.
            std::fs::write(path.join(".gitignore"), "*\n")
                .map_err(|error| cannot("write to the data directory", &error))?;
        }
        let path = path.canonicalize().map_err(|error| cannot("open the data directory", &error))?;
        let this = Self { path };
        if let Some((problem, hint)) = this.exposed() {
            return Err(CliError::usage(problem).code("data_directory").hint(hint));
        }
        for folder in ["artifacts", "cache", "keys", "recorder"] {
            let folder = this.path.join(folder);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(CliError::file("create", &folder, &error));
                }
                _ => {}
            }
        }
        Ok(this)
    }

    /// The directory at a path that exists, unchecked; for looking at it.
    pub(crate) fn existing(path: &Path) -> Option<Self> {
        path.canonicalize().ok().map(|path| Self { path })
    }

    /// Who else could change what is in it, and what to do about that.
    pub(crate) fn exposed(&self) -> Option<(String, String)> {
        let shown = self.path.display();
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => {
                return Some((
                    format!("cannot look at the data directory `{shown}`: {error}"),
                    "choose another with --data-dir".to_owned(),
                ));
            }
        };
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if !metadata.is_dir() {
            return Some((
                format!("the data directory `{shown}` is not a folder"),
                "choose another with --data-dir".to_owned(),
            ));
        }
        if owner != user {
            return Some((
                format!("the data directory `{shown}` belongs to user {owner}, and you are user {user}"),
                "run as its owner, or choose another with --data-dir".to_owned(),
            ));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            let mode = metadata.permissions().mode() & 0o777;
            return Some((
                format!("other users can get at the data directory `{shown}` (mode {mode:03o})"),
                format!("look at what is in it, then run: chmod 700 {shown}"),
            ));
        }
        None
    }

    /// Absolute, without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Takes ownership, if no other process has it.
    pub(crate) fn try_own(&self) -> Result<Option<Ownership>, CliError> {
        let path = self.path.join(LOCK);
        let failed = |error: &std::io::Error| CliError::file("lock", &path, error);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        let note = format!("{}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(note.as_bytes()))
            .map_err(|error| failed(&error))?;
        Ok(Some(Ownership { directory: self.clone(), _lock: lock }))
    }

    /// The process that owns it by its own account; only meaningful while the lock is taken.
    pub(crate) fn owner_pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.path.join(LOCK)).ok()?.trim().parse().ok()
    }

    /// Connects to the owner's socket.
    pub(crate) async fn connect(&self) -> std::io::Result<UnixStream> {
        let address = SocketAddress::in_folder(&self.path)?;
        UnixStream::connect(&address.path).await
    }
}

/// The socket's path, short enough for the system's limit.
struct SocketAddress {
    path: PathBuf,
    /// Keeps `/proc/self/fd/N` alive for a path that goes through it.
    _folder: Option<File>,
}

impl SocketAddress {
    fn in_folder(folder: &Path) -> std::io::Result<Self> {
        let path = folder.join(SOCKET);
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(folder)?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&folder);
        Ok(Self { path: PathBuf::from(format!("/proc/self/fd/{descriptor}")).join(SOCKET), _folder: Some(folder) })
    }
}

/// The right to open what is in the data directory; ends when it is dropped or the process is gone.
#[derive(Debug)]
pub(crate) struct Ownership {
    directory: DataDirectory,
    _lock: File,
}

impl Ownership {
    /// Listens on the socket (mode 0600). A socket that an earlier owner left behind is removed: nobody can be
    /// listening on it, because the lock is ours.
    pub(crate) fn listen(&self) -> Result<UnixListener, CliError> {
        let shown = self.directory.path.join(SOCKET);
        let failed = |error: &std::io::Error| CliError::file("listen on", &shown, error);
        self.remove_socket();
        let address = SocketAddress::in_folder(&self.directory.path).map_err(|error| failed(&error))?;
        let listener = UnixListener::bind(&address.path).map_err(|error| failed(&error))?;
        // Until this line the directory's own mode keeps others out.
        std::fs::set_permissions(&shown, std::fs::Permissions::from_mode(0o600)).map_err(|error| failed(&error))?;
        Ok(listener)
    }

    /// The key that authenticates compiled code: 32 random bytes, made at first use.
    pub(crate) fn cache_key(&self, ids: &dyn Ids) -> Result<[u8; 32], CliError> {
        let path = self.directory.path.join("keys").join("cache.key");
        let failed = |error: &std::io::Error| CliError::file("read the key", &path, error);
        match File::open(&path) {
            Ok(file) => read_key(file, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                ids.random(&mut key);
                write_private(&path, &key).map_err(|error| failed(&error))?;
                Ok(key)
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// This host's id in a database that several hosts share; drawn at first use.
    pub(crate) fn host_id(&self, ids: &dyn Ids) -> Result<HostId, CliError> {
        let path = self.directory.path.join("host-id");
        match std::fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse::<HostId>() {
                Ok(id) if !id.is_nil() => Ok(id),
                _ => Err(CliError::usage(format!("`{}` does not hold the id of a host", path.display()))
                    .code("data_directory")
                    .hint("restore it; without it this is a new host, whose record begins anew")),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = HostId::fresh(ids);
                write_private(&path, format!("{id}\n").as_bytes())
                    .map_err(|error| CliError::file("write", &path, &error))?;
                Ok(id)
            }
            Err(error) => Err(CliError::file("read", &path, &error)),
        }
    }

    fn remove_socket(&self) {
        if let Err(error) = std::fs::remove_file(self.directory.path.join(SOCKET))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the socket of an earlier process cannot be removed");
        }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.remove_socket();
    }
}

fn read_key(mut file: File, path: &Path) -> Result<[u8; 32], CliError> {
    let shown = path.display();
    let failed = |error: &std::io::Error| CliError::file("read the key", path, error);
    let refuse = |problem: &str| {
        let hint = format!("find out who changed it, then delete {shown}; compiled code is then compiled again");
        Err(CliError::usage(format!("the key `{shown}` {problem}")).code("data_directory").hint(hint))
    };
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.permissions().mode() & 0o077 != 0 {
        return refuse("can be read or written by others");
    }
    let mut key = [0; 32];
    if metadata.len() != 32 || file.read_exact(&mut key).is_err() {
        return refuse("does not have 32 bytes");
    }
    Ok(key)
}

/// A folder that a person names, absolute and without symbolic links.
pub(crate) fn canonical(folder: &Path) -> Result<PathBuf, CliError> {
    folder
        .canonicalize()
        .map_err(|error| CliError::usage(format!("cannot open folder `{}`", folder.display())).because(&error))
}

/// A folder for what is on its way, for this user alone; gone when it is dropped.
pub(crate) fn scratch(folder: &Path, prefix: &str) -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(prefix).permissions(std::fs::Permissions::from_mode(0o700)).tempdir_in(folder)
}

/// Writes a file beside its place and moves it there, so that a crash never leaves half of it.
fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
