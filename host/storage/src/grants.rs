//! Grants: their rows, and the port.

use async_trait::async_trait;
use handshake_core::capability::{Grant, GrantTerms};
use handshake_core::event::AdmittedEvent;
use handshake_core::storage::{GrantFilter, GrantStore, StorageError};
use handshake_core::{GrantId, PluginId, Timestamp};

use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::jobs;
use crate::listed::Listed;
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::sql::{Row, column, query};
use crate::text;

macro_rules! columns {
    () => {
        "grant_id, plugin, capability, terms, expires_at, created_at, revoked_at, revoked_by"
    };
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM capability_grants WHERE grant_id = $1");
const LIST: &str = concat!("SELECT ", columns!(), " FROM capability_grants WHERE 1 = 1");
const INSERT: &str =
    concat!("INSERT INTO capability_grants (", columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
const REVOKE: &str = "UPDATE capability_grants SET revoked_at = $1, revoked_by = $2 WHERE grant_id = $3";
const LISTED: Listed = Listed { what: "grant", table: "capability_grants", key: "grant_id" };

fn decode(row: &Row) -> Result<Grant, StorageError> {
    let text = |name| column::<String>(row, name);
    let maybe_time = |name| column::<Option<i64>>(row, name).map(|at| at.map(Timestamp::from_micros));
    Ok(Grant {
        grant_id: text("grant_id")?.parse().map_err(unreadable("grant id"))?,
        plugin: PluginId::new(text("plugin")?).map_err(unreadable("plugin id"))?,
        capability: text("capability")?.parse().map_err(unreadable("capability"))?,
        terms: text::parse("terms", &text("terms")?)?,
        expires_at: maybe_time("expires_at")?,
        created_at: Timestamp::from_micros(column(row, "created_at")?),
        revoked_at: maybe_time("revoked_at")?,
        revoked_by: column(row, "revoked_by")?,
    })
}

fn missing(id: GrantId) -> StorageError {
    StorageError::NotFound { what: "grant", id: id.to_string() }
}

/// A new grant.
struct Add {
    grant: Grant,
    terms: String,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Add {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let grant = &self.grant;
        let stored = query(INSERT)
            .bind(grant.grant_id.to_string())
            .bind(grant.plugin.as_str())
            .bind(grant.capability.as_str())
            .bind(self.terms.as_str())
            .bind(grant.expires_at.map(Timestamp::micros))
            .bind(grant.created_at.micros())
            .bind(grant.revoked_at.map(Timestamp::micros))
            .bind(grant.revoked_by.as_deref())
            .execute(step.connection)
            .await
            .map_err(failed("store a grant"));
        stored.map_err(|error| jobs::exists(error, "grant", grant.grant_id))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// A grant is taken back.
struct Revoke {
    grant: Grant,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Revoke {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let operation = "take a grant back";
        let id = self.grant.grant_id;
        let row = query(SELECT).bind(id.to_string()).keep_rows().fetch_optional(step.connection).await;
        let stored = decode(&row.map_err(failed(operation))?.ok_or_else(|| Refusal::Answer(missing(id)))?)?;
        if let Some(at) = stored.revoked_at {
            let before = format!("grant `{id}` was taken back at {at}");
            return Err(Refusal::Answer(StorageError::Conflict(before)));
        }
        let revoke = query(REVOKE)
            .bind(self.grant.revoked_at.map(Timestamp::micros))
            .bind(self.grant.revoked_by.as_deref())
            .bind(id.to_string());
        revoke.execute(step.connection).await.map_err(failed(operation))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

#[async_trait]
impl GrantStore for SqlDatabase {
    async fn add_grant(&self, grant: Grant, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        let GrantTerms { workspace, granted_by, reason, .. } = &grant.terms;
        text::check("workspace", workspace)?;
        text::check("who grants", granted_by)?;
        text::check("reason", reason.as_deref().unwrap_or_default())?;
        text::check_events(&events)?;
        let terms = text::json("terms", &grant.terms)?;
        self.queue.perform("store a grant", Add { grant, terms, events }, None).await
    }

    async fn grant(&self, id: GrantId) -> Result<Grant, StorageError> {
        let operation = "read a grant";
        let mut reader = self.reader(operation).await?;
        let row = query(SELECT).bind(id.to_string()).fetch_optional(&mut reader).await.map_err(failed(operation))?;
        decode(&row.ok_or_else(|| missing(id))?)
    }

    async fn grants(&self, filter: &GrantFilter) -> Result<Vec<Grant>, StorageError> {
        let operation = "list grants";
        let mut reader = self.reader(operation).await?;
        let mut list = query(LIST);
        if let Some(moment) = filter.live_at.map(Timestamp::micros) {
            list = list.push(" AND (expires_at IS NULL OR expires_at > ").push_bind(moment);
            list = list.push(") AND (revoked_at IS NULL OR revoked_at > ").push_bind(moment).push(")");
        }
        if let Some(plugin) = &filter.plugin {
            list = list.push(" AND plugin = ").push_bind(plugin.as_str());
        }
        let after = filter.page.after.map(|id| id.to_string());
        let list = LISTED.page(list, &mut reader, operation, after, filter.page.size()).await?;
        let rows = list.fetch_all(&mut reader).await;
        rows.map_err(failed(operation))?.iter().map(decode).collect()
    }

    async fn revoke_grant(&self, grant: Grant, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        if grant.revoked_at.is_none() {
            return Err(StorageError::Validation("a grant that is taken back says when".to_owned()));
        }
        text::check("who takes it back", grant.revoked_by.as_deref().unwrap_or_default())?;
        text::check_events(&events)?;
        self.queue.perform("take a grant back", Revoke { grant, events }, None).await
    }
}
