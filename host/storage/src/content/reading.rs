//! Reading content: one, a page, and all that belongs to something.

use handshake_core::Timestamp;
use handshake_core::content::Stored;
use handshake_core::edit::EditMetadata;
use handshake_core::storage::StorageError;

use super::tables::{Entity, id, optional_id};
use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::listed::Listed;
use crate::sql::{Row, column};

fn stored<E: Entity>(row: &Row) -> Result<Stored<E>, StorageError> {
    let time = |name| column(row, name).map(Timestamp::from_micros);
    Ok(Stored {
        content: E::decode(row)?,
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
        edit: EditMetadata {
            last_actor_kind: column::<String>(row, "last_actor_kind")?
                .parse()
                .map_err(unreadable("last_actor_kind"))?,
            last_actor_id: column(row, "last_actor_id")?,
            last_job_id: optional_id(row, "last_job_id")?,
            last_workflow_id: optional_id(row, "last_workflow_id")?,
            edit_event_id: id(row, "edit_event_id")?,
        },
    })
}

/// What has this id.
pub(super) async fn one<E: Entity>(database: &SqlDatabase, id: String) -> Result<Stored<E>, StorageError> {
    let operation = "read content";
    let mut reader = database.reader(operation).await?;
    let table = E::TABLE;
    let select = table.select().push(" WHERE ").push(table.key).push(" = ").push_bind(id.as_str());
    let row = select.fetch_optional(&mut reader).await.map_err(failed(operation))?;
    stored(&row.ok_or_else(|| table.missing(id))?)
}

/// Everything that belongs to something, in this order.
pub(super) async fn all<E: Entity>(
    database: &SqlDatabase,
    parent: String,
    order: &'static str,
) -> Result<Vec<Stored<E>>, StorageError> {
    let operation = "list content";
    let mut reader = database.reader(operation).await?;
    let mut list = E::TABLE.select();
    if let Some(table) = E::TABLE.parent {
        list = list.push(" WHERE ").push(table.key).push(" = ").push_bind(parent.as_str());
    }
    let rows = list.push(order).fetch_all(&mut reader).await.map_err(failed(operation))?;
    rows.iter().map(stored).collect()
}

/// What belongs to something, or everything, newest first.
pub(super) async fn page<E: Entity>(
    database: &SqlDatabase,
    parent: Option<String>,
    size: u32,
    after: Option<String>,
) -> Result<Vec<Stored<E>>, StorageError> {
    let operation = "list content";
    let mut reader = database.reader(operation).await?;
    let table = E::TABLE;
    let mut list = table.select().push(" WHERE 1 = 1");
    if let (Some(table), Some(parent)) = (table.parent, parent) {
        list = list.push(" AND ").push(table.key).push(" = ").push_bind(parent);
    }
    let listed = Listed { what: table.what(), table: table.name, key: table.key };
    let list = listed.page(list, &mut reader, operation, after, size).await?;
    let rows = list.fetch_all(&mut reader).await.map_err(failed(operation))?;
    rows.iter().map(stored).collect()
}
