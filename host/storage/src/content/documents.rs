//! Workspaces, documents and blocks as their tables hold them.

use handshake_core::content::{ContentBlock, Document, Workspace};
use handshake_core::storage::StorageError;

use super::tables::{BLOCKS, DOCUMENTS, Entity, Table, WORKSPACES, id};
use crate::error::unreadable;
use crate::sql::{Row, Value, column};
use crate::text;

impl Entity for Workspace {
    const TABLE: &'static Table = &WORKSPACES;

    fn id(&self) -> String {
        self.workspace_id.to_string()
    }

    fn parent(&self) -> Option<String> {
        None
    }

    fn own<'v>(&'v self, _: &'v str) -> Vec<Value<'v>> {
        vec![self.name.as_str().into()]
    }

    fn decode(row: &Row) -> Result<Self, StorageError> {
        Ok(Self { workspace_id: id(row, "workspace_id")?, name: column(row, "name")? })
    }
}

impl Entity for Document {
    const TABLE: &'static Table = &DOCUMENTS;

    fn id(&self) -> String {
        self.document_id.to_string()
    }

    fn parent(&self) -> Option<String> {
        Some(self.workspace_id.to_string())
    }

    fn own<'v>(&'v self, _: &'v str) -> Vec<Value<'v>> {
        vec![self.title.as_str().into()]
    }

    fn decode(row: &Row) -> Result<Self, StorageError> {
        Ok(Self {
            document_id: id(row, "document_id")?,
            workspace_id: id(row, "workspace_id")?,
            title: column(row, "title")?,
        })
    }
}

impl Entity for ContentBlock {
    const TABLE: &'static Table = &BLOCKS;

    fn id(&self) -> String {
        self.block_id.to_string()
    }

    fn parent(&self) -> Option<String> {
        Some(self.document_id.to_string())
    }

    fn json(&self) -> Result<String, StorageError> {
        text::json("derived content", &self.derived_content)
    }

    fn own<'v>(&'v self, json: &'v str) -> Vec<Value<'v>> {
        vec![
            self.kind.as_str().into(),
            self.sequence.into(),
            self.raw_content.as_str().into(),
            self.display_content.as_str().into(),
            json.into(),
            self.sensitivity.as_str().into(),
            self.exportable.into(),
        ]
    }

    fn decode(row: &Row) -> Result<Self, StorageError> {
        Ok(Self {
            block_id: id(row, "block_id")?,
            document_id: id(row, "document_id")?,
            kind: column(row, "kind")?,
            sequence: column(row, "sequence")?,
            raw_content: column(row, "raw_content")?,
            display_content: column(row, "display_content")?,
            derived_content: text::parse("derived content", &column::<String>(row, "derived_content")?)?,
            sensitivity: column::<String>(row, "sensitivity")?.parse().map_err(unreadable("sensitivity"))?,
            exportable: column(row, "exportable")?,
        })
    }
}
