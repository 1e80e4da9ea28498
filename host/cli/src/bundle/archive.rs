//! A ZIP file whose bytes depend on nothing but its content: names sorted, all times 1980, no owners, all modes alike.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};

use aws_lc_rs::digest::{Context, SHA256};
use handshake_core::Digest;
use serde::Serialize;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::directory::scratch;
use crate::hashed;

/// The file that lists the SHA-256 of all others, as `sha256sum` reads it.
const SUMS: &str = "SHA256SUMS";

/// Files on their way into an archive. They wait in a temporary file each, since only then their sums are known.
pub(super) struct Spool {
    folder: tempfile::TempDir,
    files: BTreeMap<String, Spooled>,
}

struct Spooled {
    file: BufWriter<File>,
    sum: Context,
}

/// A whole archive. It has no name, so it is gone when it is closed.
pub(crate) struct Finished {
    /// At its beginning.
    pub(crate) file: File,
    /// Of all of it.
    pub(crate) sha256: Digest,
}

impl Spool {
    /// An archive that is put together in a folder.
    pub(super) fn new(folder: &std::path::Path) -> io::Result<Self> {
        Ok(Self { folder: scratch(folder, ".bundle-")?, files: BTreeMap::new() })
    }

    /// Adds to a file.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let spooled = match self.files.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let file = BufWriter::new(tempfile::tempfile_in(self.folder.path())?);
                entry.insert(Spooled { file, sum: Context::new(&SHA256) })
            }
        };
        spooled.sum.update(content);
        spooled.file.write_all(content)
    }

    /// Adds a file of JSON.
    pub(super) fn json(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        self.add(name, &text)
    }

    /// Adds a line of JSON to a file.
    pub(super) fn json_line(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(value)?;
        text.push(b'\n');
        self.add(name, &text)
    }

    /// Puts all of it together, with the list of sums.
    pub(super) fn finish(mut self) -> io::Result<Finished> {
        let sums = self.files.iter().map(|(name, spooled)| {
            let sum = Digest::from(&spooled.sum.clone().finish());
            format!("{sum}  {name}\n")
        });
        let sums: String = sums.collect();
        self.add(SUMS, sums.as_bytes())?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o600);
        let mut archive = ZipWriter::new(BufWriter::new(tempfile::tempfile_in(self.folder.path())?));
        for (name, spooled) in self.files {
            let mut file = spooled.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            let large = file.stream_position()? >= u64::from(u32::MAX);
            file.rewind()?;
            archive.start_file(name, options.large_file(large))?;
            io::copy(&mut BufReader::new(file), &mut archive)?;
        }
        let mut file = archive.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let sha256 = hashed::digest(&file)?;
        file.rewind()?;
        Ok(Finished { file, sha256 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    fn bytes(names: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path()).unwrap();
        for name in names {
            spool.add(name, name.as_bytes()).unwrap();
        }
        let mut finished = spool.finish().unwrap();
        let mut bytes = Vec::new();
        finished.file.read_to_end(&mut bytes).unwrap();
        assert_eq!(finished.sha256, Digest::of(&bytes));
        bytes
    }

    #[test]
    fn the_bytes_depend_on_the_content_alone() {
        let whole = bytes(&["b.json", "a.json"]);
        assert_eq!(whole, bytes(&["a.json", "b.json"]));
        let mut archive = zip::ZipArchive::new(io::Cursor::new(whole)).unwrap();
        let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
        assert_eq!(names, ["SHA256SUMS", "a.json", "b.json"]);
        let mut sums = String::new();
        let mut file = archive.by_name(SUMS).unwrap();
        assert_eq!(file.last_modified(), Some(DateTime::default()));
        file.read_to_string(&mut sums).unwrap();
        assert!(sums.starts_with(&format!("{}  a.json\n", Digest::of(b"a.json"))), "{sums}");
    }
}
