//! SHA-256 of what is too long to be held in memory.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};
use handshake_core::Digest;

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// Copies everything that can be read, and gives its length and SHA-256.
pub(crate) fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<(u64, Digest)> {
    let (mut sum, mut bytes, mut piece) = (Context::new(&SHA256), 0, vec![0; PIECE]);
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            return Ok((bytes, Digest::from(&sum.finish())));
        }
        sum.update(&piece[..read]);
        to.write_all(&piece[..read])?;
        bytes += read as u64;
    }
}

/// SHA-256 of everything that can be read.
pub(crate) fn digest(from: impl Read) -> io::Result<Digest> {
    copy(from, &mut io::sink()).map(|(_, sha256)| sha256)
}
