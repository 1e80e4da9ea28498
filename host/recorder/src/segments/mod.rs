//! Segments: ranges of a host's record in Parquet files, each with a signed manifest, which take over from the outbox.

mod archive;
pub(crate) mod manifest;
pub(crate) mod merkle;
pub(crate) mod parquet;

pub use archive::{Archive, ArchiveError};
pub(crate) use archive::{Segment, linked, open_checked, told};
pub use manifest::{Manifest, Tombstone};
pub(crate) use parquet::ParquetWriter;
