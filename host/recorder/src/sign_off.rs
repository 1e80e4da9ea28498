//! Statements of people about runs, signed with the recorder's key and kept beside the record.
//!
//! A statement names the record that the person looked at by its last hash. Its own hash is on record in a `sign_off`
//! event, so that it can neither be exchanged nor be made up afterwards.

use std::io;
use std::path::Path;

use handshake_core::event::Judgement;
use handshake_core::{Digest, HostId, JobId, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::keeper::Keeper;
use crate::signing::{Document, Signed};

/// What a person says about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignOffStatement {
    /// Version of this form: 1.
    pub schema: u32,
    /// The run.
    pub run: RunId,
    /// Its job.
    pub job: JobId,
    /// Who says it.
    pub name: String,
    /// What.
    pub verdict: Judgement,
    /// Why.
    pub note: String,
    /// The host whose record was looked at.
    pub host: HostId,
    /// Number of the last record that was verified.
    pub seq: u64,
    /// Its hash.
    pub head_hash: Digest,
    /// When.
    pub signed_at: Timestamp,
}

impl Document for SignOffStatement {
    const KIND: &'static str = "sign_off";
}

/// A statement as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptStatement {
    /// The statement.
    pub statement: Signed<SignOffStatement>,
    /// SHA-256 of its file, by which the record names it.
    pub sha256: Digest,
    /// Why it does not count; none when its signature is right.
    pub problem: Option<String>,
}

impl Keeper {
    /// Signs a statement and keeps it in this folder; durable on return.
    pub fn keep_statement(&self, folder: &Path, statement: SignOffStatement) -> io::Result<KeptStatement> {
        let statement = self.log().archive().key().sign(statement)?;
        let content = statement.to_file()?;
        let sha256 = Digest::of(&content);
        let disk = &self.log().archive().disk;
        if !folder.is_dir() {
            disk.create_folder(folder)?;
        }
        disk.replace(&folder.join(format!("{sha256}.json")), &content)?;
        Ok(KeptStatement { statement, sha256, problem: None })
    }

    /// The statements in a folder, oldest first; each is checked with this host's key.
    pub fn statements(&self, folder: &Path) -> io::Result<Vec<KeptStatement>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut kept = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let content = std::fs::read(&path)?;
            let sha256 = Digest::of(&content);
            // What cannot be read says nothing that could be shown; that it is missing shows in the record.
            let Ok(statement) = Signed::<SignOffStatement>::from_file(&content) else { continue };
            let problem = statement.verify(self.public_key()).err().map(|error| error.to_string());
            kept.push(KeptStatement { statement, sha256, problem });
        }
        kept.sort_by_key(|kept| kept.statement.body.signed_at);
        Ok(kept)
    }
}
