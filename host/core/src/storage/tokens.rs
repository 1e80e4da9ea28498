//! The port for tokens of the API.

use async_trait::async_trait;

use super::{Page, StorageError};
use crate::TokenId;
use crate::event::AdmittedEvent;
use crate::token::ApiToken;

/// Tokens. They are kept when they are over, so that the names in the record stay explained.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Stores a new token with its events; `Conflict` when another that was not revoked has its name.
    async fn add_token(&self, token: ApiToken, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
    /// One token.
    async fn token(&self, id: TokenId) -> Result<ApiToken, StorageError>;
    /// Tokens, newest first by creation, then by id.
    async fn tokens(&self, page: &Page<TokenId>) -> Result<Vec<ApiToken>, StorageError>;
    /// Revokes a token, with the events of that; `Conflict` when it was revoked before. Only who revoked it and when
    /// changes.
    async fn revoke_token(&self, token: ApiToken, events: Vec<AdmittedEvent>) -> Result<(), StorageError>;
}
