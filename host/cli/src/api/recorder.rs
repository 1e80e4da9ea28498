//! The flight recorder's files: how they stand, and looking after them at once.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use handshake_core::Digest;
use handshake_core::recorder::RecorderError;
use handshake_core::storage::StorageError;
use handshake_core::token::Right;
use handshake_recorder::head::Head;
use handshake_recorder::signing::Signed;
use handshake_recorder::{Compaction, KeeperError, KeeperStatus, Proof, Rebuilt, RecordCopy, SealReport, Verification};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::audit::event_id;
use super::{Answer, Document, Host, Refusal, Routes};
use crate::copies;
use crate::error::{CliError, Exit, store_failure};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::Audit, "/recorder", "How the flight recorder stands", status)
        .get(Right::Audit, "/recorder/public-key", "The key that its signatures are verified with", public_key)
        .post(Right::Own, "/recorder/seal", "Seals what is not sealed yet", seal)
        .post(Right::Own, "/recorder/compact", "Makes the projection's file as small as it can be", compact)
        .post(Right::Own, "/recorder/rebuild", "Makes the projection anew from the record", rebuild)
        .post(Right::Own, "/recorder/copies", "Copies the record for a query in SQL", copy)
        .post(Right::Audit, "/recorder/verify", "Verifies the record", verify)
        .post(Right::Audit, "/recorder/proofs/{event}", "Proves that an event is in the record", prove)
}

/// How long the status waits for events that are about to be projected.
const MOMENT: Duration = Duration::from_secs(2);

/// The key that others check signatures with.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct PublicKeyDocument {
    /// SHA-256 of its SubjectPublicKeyInfo, as in everything that is signed.
    pub(crate) key_id: Digest,
    /// Its SubjectPublicKeyInfo in PEM.
    pub(crate) public_key: String,
}

/// A request to check the whole record.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyRequest {
    /// A signed head that was kept elsewhere.
    pub(crate) head: Option<Signed<Head>>,
}

async fn verify(State(host): Host, Document(request): Document<VerifyRequest>) -> Answer<Verification> {
    let verified = host.keeper.verify(host.projection().await?, request.head).await;
    Ok(Json(verified.map_err(|error| failed(&error))?))
}

async fn prove(State(host): Host, Path(event): Path<String>) -> Answer<Proof> {
    let event = event_id(&event)?;
    to_its_end(async move {
        let projection = host.projection().await?;
        host.keeper.prove(projection, event).await.map_err(|error| failed(&error))
    })
    .await
}

async fn status(State(host): Host) -> Answer<KeeperStatus> {
    let projection = host.projection().await?;
    host.keeper.publish_head().await;
    // A process that has just begun is caught up in a moment; one that cannot keep up is shown as it is.
    let _ = tokio::time::timeout(MOMENT, projection.caught_up()).await;
    Ok(Json(host.keeper.status(projection).await))
}

async fn public_key(State(host): Host) -> Answer<PublicKeyDocument> {
    let key = host.keeper.public_key();
    Ok(Json(PublicKeyDocument { key_id: key.id(), public_key: key.to_pem() }))
}

/// Does work that must come to its end although whoever asked for it may go away: a second attempt while the first
/// still writes would write the same files.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Result<T, CliError>> + Send + 'static) -> Answer<T> {
    let done = tokio::spawn(work).await;
    Ok(Json(done.map_err(|error| CliError::internal("looking after the recorder failed").because(&error))??))
}

async fn seal(State(host): Host) -> Answer<SealReport> {
    to_its_end(async move {
        let projection = host.projection().await?;
        host.keeper.seal(projection).await.map_err(|error| failed(&error))
    })
    .await
}

/// A request for copies of the record.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CopyRequest {
    /// The folder that whoever asks has made for them.
    #[schemars(with = "String")]
    pub(crate) folder: Uuid,
}

async fn copy(State(host): Host, Document(request): Document<CopyRequest>) -> Answer<RecordCopy> {
    let folder = copies::folder(&host.directory, request.folder);
    if !folder.is_dir() {
        return Err(Refusal(CliError::not_found(format!("there is no folder `{}` for copies", request.folder))));
    }
    to_its_end(async move { host.keeper.copy(&folder).await.map_err(|error| failed(&error)) }).await
}

async fn compact(State(host): Host) -> Answer<Compaction> {
    to_its_end(async move { host.projection().await?.compact().await.map_err(|error| recorder_failed(&error)) }).await
}

async fn rebuild(State(host): Host) -> Answer<Rebuilt> {
    to_its_end(async move { host.projection().await?.rebuild().await.map_err(|error| recorder_failed(&error)) }).await
}

fn recorder_failed(error: &RecorderError) -> CliError {
    store_failure(error)
}

pub(crate) fn failed(error: &KeeperError) -> CliError {
    match error {
        KeeperError::Recorder(RecorderError::Sink(StorageError::NotFound { what, id })) => {
            CliError::not_found(format!("{what} `{id}` does not exist, or is too old to be shown"))
        }
        KeeperError::Recorder(error) => recorder_failed(error),
        KeeperError::Proof(error) => {
            CliError::new(Exit::Verification, "not_proved", "the event cannot be proved").because(error)
        }
        KeeperError::Archive(error) => CliError::internal("the flight recorder's segments cannot be written")
            .because(error)
            .hint("nothing is lost: what is not sealed stays in the database, and the next look tries again"),
    }
}
