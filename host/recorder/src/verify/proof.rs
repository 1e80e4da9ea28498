//! A proof that one event is in the record, which can be checked without the record.

use std::sync::Arc;

use handshake_core::chain::StampedEvent;
use handshake_core::{Digest, EventId, HostId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::segments::manifest::Manifest;
use crate::segments::merkle::{inclusion_path, root_from_path};
use crate::segments::{Archive, Segment, open_checked, told};
use crate::signing::{PublicKey, SignatureError, Signed};

/// Records that are read at a time.
const PAGE: u32 = 2048;

/// A record, the path from it to the root of its segment's Merkle tree, and the segment's signed manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Version of this form: 1.
    pub schema: u32,
    /// The record: canonical JSON, as it was hashed.
    pub record: String,
    /// Neighbours on the way to the root, lowest first (RFC 6962).
    pub path: Vec<Digest>,
    /// The segment.
    pub manifest: Signed<Manifest>,
}

/// Why a proof proves nothing, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The version of its form.
    #[error("the proof has form {0}, and this version of handshake knows form 1")]
    Unknown(u32),
    /// The record cannot be read.
    #[error("the proof's record is none")]
    NoRecord(#[source] serde_json::Error),
    /// The manifest is not signed with the key.
    #[error("the segment's manifest: {0}")]
    Signature(#[from] SignatureError),
    /// The record is none of the segment's.
    #[error("the record is not in the segment that the manifest is about")]
    NotInSegment,
    /// The segment is not there to make a proof from.
    #[error("record {seq} cannot be proved: {problem}")]
    NoSegment {
        /// The record.
        seq: u64,
        /// What is wrong.
        problem: String,
    },
}

/// What a proof proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proved {
    /// The event.
    pub event_id: EventId,
    /// The host that recorded it.
    pub host: HostId,
    /// Its number in the host's chain.
    pub seq: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Hash of its record.
    pub hash: Digest,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// The key that signed that.
    pub key_id: Digest,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
    host: HostId,
    recorded_at: i64,
    seq: u64,
}

#[derive(Deserialize)]
struct Event {
    event_id: EventId,
}

/// Checks a proof with nothing but the public key of the host that made it.
pub fn check_proof(proof: &Proof, key: &PublicKey) -> Result<Proved, ProofError> {
    if proof.schema != 1 {
        return Err(ProofError::Unknown(proof.schema));
    }
    proof.manifest.verify(key)?;
    let manifest = &proof.manifest.body;
    let record: Record<'_> = serde_json::from_str(&proof.record).map_err(ProofError::NoRecord)?;
    let event: Event = serde_json::from_str(record.event.get()).map_err(ProofError::NoRecord)?;
    let hash = Digest::of(proof.record.as_bytes());
    let index = record.seq.checked_sub(manifest.from).ok_or(ProofError::NotInSegment)?;
    let root = root_from_path(&hash, index, manifest.records, &proof.path);
    if root != Some(manifest.merkle_root) || record.host != manifest.host {
        return Err(ProofError::NotInSegment);
    }
    Ok(Proved {
        event_id: event.event_id,
        host: record.host,
        seq: record.seq,
        recorded_at: Timestamp::from_micros(record.recorded_at),
        hash,
        sealed_at: manifest.sealed_at,
        key_id: proof.manifest.key_id,
    })
}

/// Makes a proof for a record that is sealed. Blocks.
pub(crate) fn prove(archive: &Arc<Archive>, seq: u64) -> Result<Proof, ProofError> {
    let failed = |problem: String| ProofError::NoSegment { seq, problem };
    let segment = archive.contents().holding(seq).cloned();
    let manifest = match segment {
        Some(Segment::Sealed(manifest)) => *manifest,
        Some(Segment::Damaged { problem, .. }) => return Err(failed(problem)),
        None => return Err(failed("it is in no segment".into())),
    };
    let reader = open_checked(archive.folder(), &manifest.body).map_err(failed)?;
    let (mut hashes, mut found, mut after) = (Vec::new(), None::<StampedEvent>, manifest.body.from - 1);
    while after < manifest.body.to {
        let records = reader.read_after(after, PAGE).map_err(|error| failed(told(&error)))?;
        let Some(last) = records.last() else { break };
        after = last.seq;
        hashes.extend(records.iter().map(|record| Digest::of(record.record.as_bytes())));
        found = found.or_else(|| records.into_iter().find(|record| record.seq == seq));
    }
    let index = usize::try_from(seq - manifest.body.from).unwrap_or(usize::MAX);
    let proof = match (found, inclusion_path(&hashes, index)) {
        (Some(record), Some(path)) => Proof { schema: 1, record: record.record, path, manifest },
        _ => return Err(failed("its segment does not hold it".into())),
    };
    check_proof(&proof, archive.key().public())?;
    Ok(proof)
}
