//! Lists the files below a mount in the order of their paths' bytes.
//!
//! The standard library's `read_dir` ends at the first entry it cannot decode, which would lose the files behind a
//! name that is not UTF-8; the descriptors below it give such an entry as an error and go on.

use handshake_step::StepError;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, OpenFlags, PathFlags,
};

/// A mount's root directory.
pub(crate) struct Root(Descriptor);

impl Root {
    /// Finds the mount of this name among what the host opened for the step.
    pub(crate) fn open(mount: &str) -> Result<Self, StepError> {
        let path = format!("/{mount}");
        let root = get_directories().into_iter().find(|(_, name)| *name == path).map(|(root, _)| root);
        let Some(root) = root else {
            return Err(StepError::permanent(format!(
                "the step has no mount `{mount}`: add it under `mounts` and grant `fs.read:{mount}`"
            )));
        };
        // Every later failure is one entry's; this one would hide them all.
        match root.open_at(PathFlags::empty(), ".", OpenFlags::DIRECTORY, DescriptorFlags::READ) {
            Ok(directory) => Ok(Self(directory)),
            Err(ErrorCode::Access | ErrorCode::NotPermitted) => Err(StepError::permanent(format!(
                "the mount `{mount}` may not be read: the step needs the grant `fs.read:{mount}`"
            ))),
            Err(code) => Err(StepError::permanent(format!("the mount `{mount}` cannot be read: {}", code.name()))),
        }
    }

    /// All files below, depth first. Hidden entries, symbolic links and devices are left out.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { root: &self.0, pending: vec![Pending::Directory(String::new())] }
    }
}

/// One thing that the walk came across; paths are within the mount.
pub(crate) enum Found {
    /// A regular file.
    File(String),
    /// A directory, or an entry of one, that could not be listed.
    Unreadable { path: String, reason: String },
}

enum Pending {
    /// Its path with a `/` behind it, or nothing for the root.
    Directory(String),
    File(String),
    Unreadable {
        path: String,
        reason: String,
    },
}

impl Pending {
    /// What entries are ordered by. With the `/`, the order within each directory adds up to the order of whole
    /// paths: `a-b` comes before `a/c`, and `a/c` before `a0`.
    fn path(&self) -> &str {
        match self {
            Self::Directory(path) | Self::File(path) | Self::Unreadable { path, .. } => path,
        }
    }
}

/// Holds the entries of the directories on the way down, not the whole tree.
pub(crate) struct Walk<'a> {
    root: &'a Descriptor,
    /// What comes next is last.
    pending: Vec<Pending>,
}

impl Iterator for Walk<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            match self.pending.pop()? {
                Pending::File(path) => return Some(Found::File(path)),
                Pending::Unreadable { path, reason } => return Some(Found::Unreadable { path, reason }),
                Pending::Directory(path) => match self.list(&path) {
                    Ok(mut entries) => {
                        entries.sort_unstable_by(|a, b| b.path().as_bytes().cmp(a.path().as_bytes()));
                        self.pending.append(&mut entries);
                    }
                    Err(code) => {
                        let path = if path.is_empty() { "/".to_owned() } else { path };
                        return Some(Found::Unreadable { path, reason: reason(code) });
                    }
                },
            }
        }
    }
}

impl Walk<'_> {
    fn list(&self, directory: &str) -> Result<Vec<Pending>, ErrorCode> {
        let opened = match directory.trim_end_matches('/') {
            "" => None,
            path => Some(self.root.open_at(PathFlags::empty(), path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?),
        };
        let stream = opened.as_ref().unwrap_or(self.root).read_directory()?;
        let mut entries = Vec::new();
        loop {
            match stream.read_directory_entry() {
                Ok(Some(DirectoryEntry { name, .. })) if name.starts_with('.') => {}
                Ok(Some(DirectoryEntry { type_: DescriptorType::RegularFile, name })) => {
                    entries.push(Pending::File(format!("{directory}{name}")));
                }
                Ok(Some(DirectoryEntry { type_: DescriptorType::Directory, name })) => {
                    entries.push(Pending::Directory(format!("{directory}{name}/")));
                }
                Ok(Some(DirectoryEntry { type_: DescriptorType::SymbolicLink, name })) => {
                    let path = format!("{directory}{name}");
                    entries.push(Pending::Unreadable { path, reason: "a symbolic link".to_owned() });
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(entries),
                Err(ErrorCode::IllegalByteSequence) => entries.push(Pending::Unreadable {
                    path: format!("{directory}\u{fffd}"),
                    reason: "a name that is not UTF-8".to_owned(),
                }),
                // Not about one entry: what was listed so far counts, and the gap is on record.
                Err(code) => {
                    let path = if directory.is_empty() { "/" } else { directory };
                    let reason = format!("listed in part: {}", reason(code));
                    entries.push(Pending::Unreadable { path: path.to_owned(), reason });
                    return Ok(entries);
                }
            }
        }
    }
}

fn reason(code: ErrorCode) -> String {
    match code {
        ErrorCode::Access | ErrorCode::NotPermitted => "denied".to_owned(),
        ErrorCode::NoEntry => "gone before it was read".to_owned(),
        other => format!("not readable: {}", other.name()),
    }
}
