//! Lists that are read page by page, newest first.

use handshake_core::storage::StorageError;

use crate::error::failed;
use crate::sql::{Connection, Query, query};

/// Rows of a table that a list shows.
pub(crate) struct Listed {
    /// What they are, in errors.
    pub(crate) what: &'static str,
    /// Their table.
    pub(crate) table: &'static str,
    /// Its key.
    pub(crate) key: &'static str,
}

impl Listed {
    /// Cuts a page out of a list that ends with its conditions: at most `size` rows, behind the one with the id `after`, which
    /// must exist.
    pub(crate) async fn page<'q>(
        &self,
        mut list: Query<'q>,
        connection: &mut Connection,
        operation: &'static str,
        after: Option<String>,
        size: u32,
    ) -> Result<Query<'q>, StorageError> {
        if let Some(after) = after {
            let age = query("SELECT created_at FROM ").push(self.table).push(" WHERE ").push(self.key).push(" = ");
            let age = age.push_bind(after.as_str()).fetch_value::<i64>(connection).await.map_err(failed(operation))?;
            let age = age.ok_or_else(|| StorageError::NotFound { what: self.what, id: after.clone() })?;
            // As a row value: that both backends look up in an index.
            list = list.push(" AND (created_at, ").push(self.key).push(") < (").push_bind(age);
            list = list.push(", ").push_bind(after).push(")");
        }
        list = list.push(" ORDER BY created_at DESC, ").push(self.key).push(" DESC LIMIT ");
        Ok(list.push_bind(i64::from(size)))
    }
}
