//! `documents`: reading, and proposing changes that travel with the step's result.

use handshake_core::Digest;
use handshake_core::capability::{Axis, Resource};
use handshake_core::document::Proposal;
use handshake_core::job::PlannedOperation;

use super::from_storage;
use crate::bindings::handshake::step::documents::{Block, Document, Host, Operation, Summary};
use crate::bindings::handshake::step::types::CallError;
use crate::limits::LimitExceeded;
use crate::state::StepState;

const INTERFACE: &str = "handshake:step/documents@0.1.0";
/// Operations that an attempt may propose, all documents together.
const MAX_OPERATIONS: usize = 10_000;
/// Bytes of all proposals of an attempt, as JSON.
const MAX_PROPOSED_BYTES: usize = 16 << 20;

impl Host for StepState {
    async fn list(&mut self) -> wasmtime::Result<Result<Vec<Summary>, CallError>> {
        let job = self.gate.identity().place.as_ref().map(|place| place.job);
        let arguments = Digest::of_parts(&[]);
        // The listing itself is one decision on the axis as a whole; a step that may read only some documents is
        // shown only those, each by a decision of its own.
        let whole = self.permit((INTERFACE, "list"), Axis::DocRead, Resource::Whole, arguments).await;
        let listed = match self.backends.documents.list(job).await {
            Ok(listed) => listed,
            Err(error) => {
                let (error, label) = from_storage(&error);
                if let Ok(permit) = whole {
                    permit.failed(label);
                }
                return Ok(Err(error));
            }
        };
        let mut summaries = Vec::new();
        match whole {
            Ok(permit) => {
                summaries.extend(listed.into_iter().map(|summary| Summary {
                    id: summary.id,
                    title: summary.title,
                    version: summary.version,
                }));
                permit.succeeded(summaries.len() as u64, 0);
            }
            Err(denial) => {
                for summary in listed {
                    let Ok(permit) =
                        self.permit((INTERFACE, "list"), Axis::DocRead, Resource::name(&summary.id), arguments).await
                    else {
                        continue;
                    };
                    permit.succeeded(summary.title.len() as u64, 0);
                    summaries.push(Summary { id: summary.id, title: summary.title, version: summary.version });
                }
                if summaries.is_empty() {
                    return Ok(Err(denial.into()));
                }
            }
        }
        Ok(Ok(summaries))
    }

    async fn read(&mut self, id: String) -> wasmtime::Result<Result<Document, CallError>> {
        let arguments = Digest::of_parts(&[id.as_bytes()]);
        let permit = match self.permit((INTERFACE, "read"), Axis::DocRead, Resource::name(&id), arguments).await {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial.into())),
        };
        match self.backends.documents.read(&permit, &id).await {
            Ok(document) => {
                permit.succeeded(document.blocks.iter().map(|block| block.content.len() as u64).sum(), 0);
                self.metrics.entities_read += 1;
                let info = Summary {
                    id: document.summary.id,
                    title: document.summary.title,
                    version: document.summary.version,
                };
                let blocks = document.blocks.into_iter().map(|block| Block {
                    id: block.id,
                    kind: block.kind,
                    content: block.content,
                });
                Ok(Ok(Document { info, blocks: blocks.collect() }))
            }
            Err(error) => {
                let (error, label) = from_storage(&error);
                permit.failed(label);
                Ok(Err(error))
            }
        }
    }

    async fn propose(
        &mut self,
        id: String,
        base_version: u64,
        operations: Vec<Operation>,
    ) -> wasmtime::Result<Result<(), CallError>> {
        let proposal =
            Proposal { document: id, base_version, operations: operations.into_iter().map(Into::into).collect() };
        let encoded = serde_json::to_vec(&proposal).unwrap_or_default();
        let resource = Resource::name(&proposal.document);
        let permit = match self
            .permit((INTERFACE, "propose"), Axis::DocPropose, resource, Digest::of_parts(&[&encoded]))
            .await
        {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial.into())),
        };
        // A proposal counts as one operation at least, or empty ones would be free.
        let proposed: usize = self.proposals.iter().map(|earlier| earlier.operations.len().max(1)).sum();
        self.proposed_bytes += encoded.len();
        if proposed + proposal.operations.len().max(1) > MAX_OPERATIONS || self.proposed_bytes > MAX_PROPOSED_BYTES {
            permit.failed("limit");
            return Err(LimitExceeded::new(
                "proposals",
                format!("an attempt may propose {MAX_OPERATIONS} operations and {MAX_PROPOSED_BYTES} bytes"),
            )
            .into());
        }
        permit.succeeded(0, encoded.len() as u64);
        self.proposals.push(proposal);
        Ok(Ok(()))
    }
}

impl From<Operation> for PlannedOperation {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::InsertBlock(insert) => {
                Self::InsertBlock { after: insert.after, kind: insert.block.kind, content: insert.block.content }
            }
            Operation::ReplaceBlock(replace) => Self::ReplaceBlock { block_id: replace.id, content: replace.content },
            Operation::MoveBlock(moved) => Self::MoveBlock { block_id: moved.id, after: moved.after },
            Operation::DeleteBlock(block_id) => Self::DeleteBlock { block_id },
            Operation::UpdateMetadata(update) => Self::UpdateMetadata { key: update.key, value: update.value },
        }
    }
}
