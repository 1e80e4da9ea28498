//! What is signed about sealed records: the manifest of a segment, and the tombstone of what retention has dropped.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use handshake_core::chain::ChainHead;
use handshake_core::{Digest, HostId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::signing::{Document, Signed};

/// A manifest or tombstone has less than a kilobyte; whatever is much larger is none.
const LARGEST: u64 = 64 << 10;

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this form: 1.
    pub schema: u32,
    /// The host whose records these are.
    pub host: HostId,
    /// Number of the first record.
    pub from: u64,
    /// Number of the last one.
    pub to: u64,
    /// How many there are: `to - from + 1`.
    pub records: u64,
    /// Hash of the record before the first; zero if that is the chain's first.
    pub prev: Digest,
    /// Hash of the last record.
    pub hash: Digest,
    /// Root of the Merkle tree (RFC 6962) whose leaves are the records' hashes.
    pub merkle_root: Digest,
    /// When the first was recorded.
    pub recorded_from: Timestamp,
    /// When the last was recorded.
    pub recorded_to: Timestamp,
    /// SHA-256 of the Parquet file.
    pub file_sha256: Digest,
    /// Size of the Parquet file.
    pub bytes: u64,
    /// When it was sealed.
    pub sealed_at: Timestamp,
}

impl Document for Manifest {
    const KIND: &'static str = "segment";
}

impl Manifest {
    /// The name of its files without what stands behind the dot. Sorted by name they are sorted by number.
    pub(crate) fn name(&self) -> String {
        name(self.from, self.to)
    }

    /// Where the chain stands before it. The time is that of the first record, since no other is known.
    pub const fn start(&self) -> ChainHead {
        ChainHead { host: self.host, seq: self.from - 1, hash: self.prev, recorded_at: self.recorded_from }
    }

    /// Where the chain stands behind it.
    pub const fn end(&self) -> ChainHead {
        ChainHead { host: self.host, seq: self.to, hash: self.hash, recorded_at: self.recorded_to }
    }
}

/// What retention has dropped: the records 1 to `to` of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Version of this form: 1.
    pub schema: u32,
    /// The host.
    pub host: HostId,
    /// Number of the first dropped record; 1, because only the oldest are dropped.
    pub from: u64,
    /// Number of the last one.
    pub to: u64,
    /// Hash of the last one, which the next record names.
    pub hash: Digest,
    /// When the last one was recorded.
    pub recorded_to: Timestamp,
    /// When it was dropped.
    pub dropped_at: Timestamp,
    /// Why: `retention`.
    pub reason: String,
}

impl Document for Tombstone {
    const KIND: &'static str = "tombstone";
}

impl Tombstone {
    /// Where the chain stands behind it.
    pub const fn end(&self) -> ChainHead {
        ChainHead { host: self.host, seq: self.to, hash: self.hash, recorded_at: self.recorded_to }
    }
}

/// The name of a segment's files.
pub(crate) fn name(from: u64, to: u64) -> String {
    format!("{from:020}-{to:020}")
}

/// The numbers in the name of a segment's file.
pub(crate) fn range(name: &str) -> Option<(u64, u64)> {
    let (from, to) = name.split_once('-')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from >= 1 && from <= to && name == self::name(from, to)).then_some((from, to))
}

/// Reads a signed document.
pub(crate) fn read<T: Document>(path: &Path) -> io::Result<Signed<T>> {
    let mut content = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut content)?;
    Ok(Signed::from_file(&content)?)
}

/// SHA-256 and size of a file.
pub(crate) fn file_digest(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((Digest::from(&context.finish()), size)),
            read => {
                context.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

/// The Parquet file of a segment in a folder.
pub(crate) fn parquet_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.parquet"))
}

/// The manifest of a segment in a folder.
pub(crate) fn manifest_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_number_and_others_are_no_segments() {
        assert_eq!(range(&name(1, 50_000)), Some((1, 50_000)));
        assert!(name(9, 10) < name(10, 11));
        for other in ["", "1-2", "x", "00000000000000000000-00000000000000000001", &name(3, 2)] {
            assert_eq!(range(other), None, "{other}");
        }
    }
}
