//! `handshake audit verify`, `prove` and `check-proof`: whether the record is what was recorded.

use std::path::{Path, PathBuf};

use clap::Args;
use handshake_core::EventId;
use handshake_recorder::head::Head;
use handshake_recorder::signing::{PublicKey, Signed};
use handshake_recorder::{Proof, Verification, check_proof};
use serde::Serialize;

use crate::access::Need;
use crate::api::recorder::VerifyRequest;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::output::{Output, Tone};

/// The largest file that can be a head, a proof or a key. A record has a megabyte at most.
const LARGEST_FILE: u64 = 8 << 20;

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A signed head that was kept where this host cannot change it; without one the
    /// record is found consistent with itself at best
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
}

/// Arguments of `audit prove`.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// The event's id
    event: EventId,
}

/// Arguments of `audit check-proof`.
#[derive(Debug, Args)]
pub(crate) struct CheckProofArgs {
    /// What `handshake audit prove` has printed
    file: PathBuf,
    /// What `handshake recorder public-key` has printed
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
}

/// Checks the whole record.
pub(crate) async fn verify(context: &Context<'_>, args: &VerifyArgs) -> Result<Exit, CliError> {
    let head = match &args.head {
        Some(path) => Some(parse::<Signed<Head>>(path, "a signed head")?),
        None => None,
    };
    let access = context.access(Need::Answers).await?;
    let verified = access.post::<Verification>("/api/v1/recorder/verify", &VerifyRequest { head }).await;
    let verified = access.finish(context.output, verified).await?;
    show(context.output, &verified)?;
    Ok(if verified.finding.is_some() { Exit::Verification } else { Exit::Done })
}

fn show(output: &Output, verified: &Verification) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(verified);
    }
    output.field("host", &verified.host.to_string())?;
    if verified.dropped_to > 0 {
        output.field("dropped", &format!("1 to {}, by retention", verified.dropped_to))?;
    }
    let Verification { segments, segment_records, outbox_records, rows, seq, .. } = verified;
    output.field("segments", &format!("{segments} with {segment_records} events"))?;
    output.field("outbox", &format!("{outbox_records} events"))?;
    output.field("duckdb", &format!("{rows} rows compared"))?;
    if *seq > 0 {
        output.field("head", &format!("{seq}, recorded {}", verified.recorded_at))?;
        output.field("hash", &verified.hash.to_string())?;
    }
    match (&verified.finding, verified.outside_head) {
        (Some(finding), _) => {
            output.toned_field("result", &format!("wrong at event {}", finding.seq), Tone::Bad)?;
            output.field(&finding.place, &finding.reason)
        }
        (None, Some(outside)) => {
            output.toned_field("result", &format!("as signed outside, up to event {outside}"), Tone::Good)
        }
        (None, None) => output.toned_field("result", "self-consistent only: no outside head was compared", Tone::Odd),
    }
}

/// Prints a proof of one event.
pub(crate) async fn prove(context: &Context<'_>, args: &ProveArgs) -> Result<Exit, CliError> {
    let access = context.access(Need::Answers).await?;
    let path = format!("/api/v1/recorder/proofs/{}", args.event);
    let proof = access.post::<Proof>(&path, &serde_json::json!({})).await;
    // A proof is for a program, whatever the form of other output.
    context.output.json(&access.finish(context.output, proof).await?)?;
    Ok(Exit::Done)
}

/// What a proof is worth.
#[derive(Serialize)]
struct Checked {
    proved: bool,
    problem: Option<String>,
    #[serde(flatten)]
    proof: Option<handshake_recorder::Proved>,
}

/// Checks a proof, without any data directory.
pub(crate) fn check(context: &Context<'_>, args: &CheckProofArgs) -> Result<Exit, CliError> {
    let proof: Proof = parse(&args.file, "a proof")?;
    let key = read(&args.public_key)?;
    let key = String::from_utf8(key).ok().and_then(|text| PublicKey::from_pem(&text).ok()).ok_or_else(|| {
        CliError::usage(format!("`{}` is not a public key", args.public_key.display()))
            .hint("handshake recorder public-key prints it, on the host that recorded the event")
    })?;
    let output = context.output;
    let checked = check_proof(&proof, &key);
    let (problem, proof) = match checked {
        Ok(proved) => (None, Some(proved)),
        Err(error) => (Some(error.to_string()), None),
    };
    if output.is_json() {
        output.json(&Checked { proved: proof.is_some(), problem: problem.clone(), proof: proof.clone() })?;
    }
    match (proof, problem) {
        (Some(proved), _) => {
            if !output.is_json() {
                output.field("event", &proved.event_id.to_string())?;
                output.field("host", &proved.host.to_string())?;
                output.field("number", &proved.seq.to_string())?;
                output.field("recorded", &proved.recorded_at.to_string())?;
                output.field("sealed", &proved.sealed_at.to_string())?;
                output.field("hash", &proved.hash.to_string())?;
                output.toned_field("result", "the event is on record as it is in the proof", Tone::Good)?;
            }
            Ok(Exit::Done)
        }
        (None, problem) => {
            if !output.is_json() {
                output.toned_field("result", "not proved", Tone::Bad)?;
                output.field("reason", &problem.unwrap_or_default())?;
            }
            Ok(Exit::Verification)
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |error: std::io::Error| CliError::file("read", path, &error);
    if std::fs::metadata(path).map_err(failed)?.len() > LARGEST_FILE {
        return Err(CliError::usage(format!("`{}` has more than {} MB", path.display(), LARGEST_FILE >> 20)));
    }
    std::fs::read(path).map_err(failed)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T, CliError> {
    let content = read(path)?;
    serde_json::from_slice(&content)
        .map_err(|error| CliError::usage(format!("`{}` is not {what}", path.display())).because(&error))
}
