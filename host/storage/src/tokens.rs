//! Tokens of the API: their rows, and the port.

use async_trait::async_trait;
use handshake_core::event::AdmittedEvent;
use handshake_core::storage::{Page, StorageError, TokenStore};
use handshake_core::token::ApiToken;
use handshake_core::{Timestamp, TokenId};

use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::jobs;
use crate::listed::Listed;
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::sql::{Row, column, query};
use crate::text;

macro_rules! columns {
    () => {
        "token_id, name, role, kind, secret_sha256, created_at, created_by, expires_at, revoked_at, revoked_by"
    };
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM api_tokens WHERE token_id = $1");
const LIST: &str = concat!("SELECT ", columns!(), " FROM api_tokens WHERE 1 = 1");
const INSERT: &str =
    concat!("INSERT INTO api_tokens (", columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
const REVOKE: &str = "UPDATE api_tokens SET revoked_at = $1, revoked_by = $2 WHERE token_id = $3";
const LISTED: Listed = Listed { what: "token", table: "api_tokens", key: "token_id" };

fn decode(row: &Row) -> Result<ApiToken, StorageError> {
    let text = |name| column::<String>(row, name);
    let maybe_time = |name| column::<Option<i64>>(row, name).map(|at| at.map(Timestamp::from_micros));
    Ok(ApiToken {
        token_id: text("token_id")?.parse().map_err(unreadable("token id"))?,
        name: text("name")?,
        role: text("role")?.parse().map_err(unreadable("role"))?,
        kind: text("kind")?.parse().map_err(unreadable("actor kind"))?,
        secret_sha256: text("secret_sha256")?.parse().map_err(unreadable("hash of a token"))?,
        created_at: Timestamp::from_micros(column(row, "created_at")?),
        created_by: text("created_by")?,
        expires_at: maybe_time("expires_at")?,
        revoked_at: maybe_time("revoked_at")?,
        revoked_by: column(row, "revoked_by")?,
    })
}

fn missing(id: TokenId) -> StorageError {
    StorageError::NotFound { what: "token", id: id.to_string() }
}

/// A new token.
struct Add {
    token: ApiToken,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Add {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let token = &self.token;
        let stored = query(INSERT)
            .bind(token.token_id.to_string())
            .bind(token.name.as_str())
            .bind(token.role.as_str())
            .bind(token.kind.as_str())
            .bind(token.secret_sha256.to_string())
            .bind(token.created_at.micros())
            .bind(token.created_by.as_str())
            .bind(token.expires_at.map(Timestamp::micros))
            .bind(token.revoked_at.map(Timestamp::micros))
            .bind(token.revoked_by.as_deref())
            .execute(step.connection)
            .await
            .map_err(failed("store a token"));
        stored.map_err(|error| jobs::exists(error, "token", &token.name))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// A token lets nobody in any more.
struct Revoke {
    token: ApiToken,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for Revoke {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let operation = "revoke a token";
        let id = self.token.token_id;
        let row = query(SELECT).bind(id.to_string()).keep_rows().fetch_optional(step.connection).await;
        let stored = decode(&row.map_err(failed(operation))?.ok_or_else(|| Refusal::Answer(missing(id)))?)?;
        if let Some(at) = stored.revoked_at {
            let before = format!("token `{}` was revoked at {at}", stored.name);
            return Err(Refusal::Answer(StorageError::Conflict(before)));
        }
        let revoke = query(REVOKE)
            .bind(self.token.revoked_at.map(Timestamp::micros))
            .bind(self.token.revoked_by.as_deref())
            .bind(id.to_string());
        revoke.execute(step.connection).await.map_err(failed(operation))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

#[async_trait]
impl TokenStore for SqlDatabase {
    async fn add_token(&self, token: ApiToken, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        token.check().map_err(|error| StorageError::Validation(error.to_string()))?;
        text::check("who makes it", &token.created_by)?;
        text::check_events(&events)?;
        self.queue.perform("store a token", Add { token, events }, None).await
    }

    async fn token(&self, id: TokenId) -> Result<ApiToken, StorageError> {
        let operation = "read a token";
        let mut reader = self.reader(operation).await?;
        let row = query(SELECT).bind(id.to_string()).fetch_optional(&mut reader).await.map_err(failed(operation))?;
        decode(&row.ok_or_else(|| missing(id))?)
    }

    async fn tokens(&self, page: &Page<TokenId>) -> Result<Vec<ApiToken>, StorageError> {
        let operation = "list tokens";
        let mut reader = self.reader(operation).await?;
        let list = query(LIST);
        let after = page.after.map(|id| id.to_string());
        let list = LISTED.page(list, &mut reader, operation, after, page.size()).await?;
        let rows = list.fetch_all(&mut reader).await;
        rows.map_err(failed(operation))?.iter().map(decode).collect()
    }

    async fn revoke_token(&self, token: ApiToken, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        if token.revoked_at.is_none() {
            return Err(StorageError::Validation("a token that is revoked says when".to_owned()));
        }
        text::check("who revokes it", token.revoked_by.as_deref().unwrap_or_default())?;
        text::check_events(&events)?;
        self.queue.perform("revoke a token", Revoke { token, events }, None).await
    }
}
