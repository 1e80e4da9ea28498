//! Whether a file is still the one that was read, without reading it again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use handshake_core::Timestamp;

/// A file is remembered only when its last change lies so far back, microseconds. Two changes within one tick of the
/// file system's clock look the same; the coarsest clocks tick every two seconds.
const SETTLED: i64 = 2_000_000;

/// What the file system says of a file's content. The time of change is set by the kernel with every write and every
/// change of attributes, and nobody can set it back, as they can the time of modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file that was looked at.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of whatever is there now; none when that cannot be looked at.
    pub(crate) fn now(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    /// Whether a later change is sure to give another stamp.
    pub(crate) fn is_settled(&self, now: Timestamp) -> bool {
        self.changed.0.saturating_mul(1_000_000).saturating_add(SETTLED) <= now.micros()
    }
}
