//! The signed head: where the chain stood at a certain time, in a file that may lie elsewhere.
//!
//! Whoever keeps a copy of it out of the host's reach can prove later that nothing up to it was changed or cut off.

use std::path::{Path, PathBuf};

use handshake_core::chain::ChainHead;
use handshake_core::{Digest, HostId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::signing::{Document, Signed, SigningKey};

/// Where a host's chain stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Version of this form: 1.
    pub schema: u32,
    /// The host.
    pub host: HostId,
    /// Number of its last record; 0 before the first.
    pub seq: u64,
    /// That record's hash; zero before the first.
    pub hash: Digest,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// When this was signed.
    pub signed_at: Timestamp,
}

impl Document for Head {
    const KIND: &'static str = "head";
}

impl Head {
    /// The same, for checking records against it.
    pub const fn chain(&self) -> ChainHead {
        ChainHead { host: self.host, seq: self.seq, hash: self.hash, recorded_at: self.recorded_at }
    }
}

/// Writes the head to its file whenever it has moved.
#[derive(Debug)]
pub(crate) struct HeadPublisher {
    path: PathBuf,
    disk: Disk,
    published: Option<Signed<Head>>,
    pub(crate) problem: Option<String>,
}

impl HeadPublisher {
    pub(crate) fn new(path: PathBuf, disk: Disk) -> Self {
        let published = read(&path).ok().flatten();
        Self { path, disk, published, problem: None }
    }

    /// The head that is in the file, if this or an earlier process of this host wrote one.
    pub(crate) const fn published(&self) -> Option<&Signed<Head>> {
        self.published.as_ref()
    }

    /// Signs and writes the head, if the file does not have it. What goes wrong is remembered in `problem`, and tried
    /// again with the next call: the record goes on without.
    pub(crate) fn publish(&mut self, head: ChainHead, key: &SigningKey, now: Timestamp) {
        let same = |signed: &Signed<Head>| signed.body.chain() == head && signed.key_id == key.public().id();
        if self.published.as_ref().is_some_and(same) && self.problem.is_none() && self.path.exists() {
            return;
        }
        let ChainHead { host, seq, hash, recorded_at } = head;
        let written = key
            .sign(Head { schema: 1, host, seq, hash, recorded_at, signed_at: now })
            .and_then(|signed| Ok((signed.to_file()?, signed)))
            .map_err(std::io::Error::from)
            .and_then(|(content, signed)| self.disk.replace(&self.path, &content).map(|()| signed));
        match written {
            Ok(signed) => {
                if self.problem.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the recorder's head can be written again");
                }
                self.published = Some(signed);
            }
            Err(error) => {
                let problem = format!("the signed head cannot be written to `{}`: {error}", self.path.display());
                if self.problem.is_none() {
                    tracing::warn!("{problem}; recording goes on");
                }
                self.problem = Some(problem);
            }
        }
    }
}

/// The head in a file; none if there is no file. It is not verified.
pub fn read(path: &Path) -> Result<Option<Signed<Head>>, std::io::Error> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(Signed::from_file(&content)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::testing::SequentialIds;

    use super::*;

    #[test]
    fn the_head_is_written_when_it_moves_and_the_file_survives_failures() {
        let folder = tempfile::tempdir().unwrap();
        let ids = SequentialIds::default();
        let key = SigningKey::load_or_create(&folder.path().join("key.pem"), &ids).unwrap();
        let path = folder.path().join("head.json");
        let disk = Disk::default();
        let mut publisher = HeadPublisher::new(path.clone(), disk.clone());
        let mut head = ChainHead::empty(HostId::fresh(&ids));
        let stored = || read(&path).unwrap().unwrap();
        let at = Timestamp::from_micros;

        publisher.publish(head, &key, at(1));
        publisher.publish(head, &key, at(2));
        assert_eq!((stored().body.seq, stored().body.signed_at), (0, at(1)), "it has not moved");
        stored().verify(key.public()).unwrap();

        head.seq = 5;
        disk.fail_after(Some(1));
        publisher.publish(head, &key, at(3));
        assert_eq!(stored().body.seq, 0);
        assert!(publisher.problem.as_deref().unwrap().contains("head.json"));
        disk.fail_after(None);
        publisher.publish(head, &key, at(4));
        assert_eq!((stored().body.chain(), publisher.problem.clone()), (head, None));

        std::fs::remove_file(&path).unwrap();
        publisher.publish(head, &key, at(5));
        assert_eq!(stored().body.signed_at, at(5), "a file that is gone comes back");
        assert_eq!(HeadPublisher::new(path.clone(), disk).published().unwrap().body.seq, 5);
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path).is_err() && HeadPublisher::new(path.clone(), Disk::default()).published().is_none());
    }
}
