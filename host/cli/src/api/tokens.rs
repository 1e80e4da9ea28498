//! Tokens: making them, listing them, revoking them, and telling whose a request's is.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use handshake_core::event::{Actor, ActorKind, AdmittedEvent, Event, EventBody};
use handshake_core::storage::{Page, StorageError};
use handshake_core::token::{ApiToken, Right, Role};
use handshake_core::workflow::Period;
use handshake_core::{Digest, EventId, Timestamp, TokenId, TraceId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Answer, Caller, Document, Host, Parameters, Refusal, Routes};
use crate::error::CliError;
use crate::host::HostState;

/// How every token begins, so that scanners for leaked secrets know it.
const PREFIX: &str = "hsk_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// How long a token holds when nobody says: a quarter of a year.
pub(crate) const DEFAULT_LIFE: Period = Period(std::time::Duration::from_secs(90 * 24 * 3600));

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(Right::Own, "/tokens", "Tokens, newest first, never their secrets", list)
        .post(Right::Own, "/tokens", "Makes a token", create)
        .post(Right::Own, "/tokens/{name}/revoke", "Revokes a token", revoke)
        .get(Right::See, "/whoami", "Who asks, and in which role", whoami)
}

/// A token to be made.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Whose it is; unique among those that were not revoked.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) role: Role,
    /// Whether a person or a program has it.
    #[serde(default = "human")]
    pub(crate) kind: ActorKind,
    /// How long it holds; 90 days by default, none for as long as it is not revoked.
    #[serde(default = "default_life")]
    pub(crate) expires_in: Option<Period>,
}

fn human() -> ActorKind {
    ActorKind::Human
}

fn default_life() -> Option<Period> {
    Some(DEFAULT_LIFE)
}

/// A token that was made.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct MadeToken {
    /// What is stored of it.
    pub(crate) token: ApiToken,
    /// What its bearer shows. It is said this once and stored nowhere.
    pub(crate) bearer: String,
}

/// Tokens, newest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct TokenList {
    /// The tokens, those that are over as well.
    pub(crate) tokens: Vec<ApiToken>,
    /// What to give as `after` for the next page.
    pub(crate) next: Option<TokenId>,
}

/// Who asks.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct WhoAmI {
    /// The actor of what comes of the request.
    pub(crate) actor: Actor,
    /// In which role.
    pub(crate) role: Role,
}

async fn whoami(caller: Caller) -> Json<WhoAmI> {
    Json(WhoAmI { actor: caller.actor, role: caller.role })
}

async fn list(State(host): Host, Parameters(page): Parameters<Page<TokenId>>) -> Answer<TokenList> {
    let tokens = host.database.tokens(&page).await?;
    let full = tokens.len() >= usize::try_from(page.size()).unwrap_or(usize::MAX);
    let next = tokens.last().filter(|_| full).map(|token| token.token_id);
    Ok(Json(TokenList { tokens, next }))
}

async fn create(State(host): Host, caller: Caller, Document(request): Document<NewToken>) -> Answer<MadeToken> {
    let ids = &*host.gate.ids;
    let mut secret = [0; SECRET_BYTES];
    ids.random(&mut secret);
    let now = host.gate.clock.now();
    let token = ApiToken {
        // Not ordered by time: the id is half of what a bearer shows.
        token_id: TokenId::from_uuid(random_uuid(&host)),
        name: request.name,
        role: request.role,
        kind: request.kind,
        secret_sha256: Digest::of(&secret),
        created_at: now,
        created_by: caller.actor.id.clone(),
        expires_at: request.expires_in.map(|Period(life)| now.plus(life)),
        revoked_at: None,
        revoked_by: None,
    };
    token.check().map_err(|error| CliError::bad_input(&error))?;
    let bearer = format!("{PREFIX}{}_{}", token.token_id.uuid().simple(), URL_SAFE_NO_PAD.encode(secret));
    let detail = format!("`{}`, role {}, {}", token.name, token.role, ends(&token));
    let event = event(&host, &caller.actor, "token_created", detail)?;
    host.database.add_token(token.clone(), vec![event]).await?;
    Ok(Json(MadeToken { token, bearer }))
}

fn random_uuid(host: &HostState) -> Uuid {
    let mut bytes = [0; 16];
    host.gate.ids.random(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// When a token ends, for people.
pub(crate) fn ends(token: &ApiToken) -> String {
    match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "until it is revoked".to_owned(),
    }
}

fn event(host: &HostState, actor: &Actor, kind: &str, detail: String) -> Result<AdmittedEvent, CliError> {
    let ids = &*host.gate.ids;
    let body = EventBody::System { kind: kind.to_owned(), detail };
    let event = Event::new(EventId::fresh(ids), TraceId::fresh(ids), host.gate.clock.now(), actor.clone(), body);
    Ok(host.gate.recorder.admit(&event)?)
}

/// Answers when the token lets nobody in any more: every request looks it up.
async fn revoke(State(host): Host, caller: Caller, Path(name): Path<String>) -> Answer<ApiToken> {
    let found = named(&host, &name).await?;
    let found = found.ok_or_else(|| {
        Refusal(CliError::not_found(format!("no token `{name}`")).hint("handshake token list shows them"))
    })?;
    let revoked =
        ApiToken { revoked_at: Some(host.gate.clock.now()), revoked_by: Some(caller.actor.id.clone()), ..found };
    let event = event(&host, &caller.actor, "token_revoked", format!("`{}`, role {}", revoked.name, revoked.role))?;
    host.database.revoke_token(revoked.clone(), vec![event]).await?;
    host.token_revoked.send_replace(());
    Ok(Json(revoked))
}

/// The token with an id, or else the one of a name that counts.
async fn named(host: &HostState, name: &str) -> Result<Option<ApiToken>, CliError> {
    if let Ok(id) = name.parse::<TokenId>() {
        return match host.database.token(id).await {
            Ok(token) => Ok(Some(token)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    let mut page = Page { limit: 1_000, after: None };
    loop {
        let tokens = host.database.tokens(&page).await?;
        let Some(last) = tokens.last() else { return Ok(None) };
        page.after = Some(last.token_id);
        if let Some(found) = tokens.into_iter().find(|token| token.revoked_at.is_none() && token.name == name) {
            return Ok(Some(found));
        }
    }
}

/// Why a token lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unwelcome {
    /// It is none, or not one of this host's. Which of the two nobody is told.
    Unknown,
    /// It was one: whose, and why it is none any more.
    Over(Actor, &'static str),
}

/// Whose token this is.
///
/// A token that is no token takes as long as one with a wrong secret: something is looked up, and something compared.
pub(crate) async fn authenticate(
    host: &Arc<HostState>,
    bearer: &str,
    now: Timestamp,
) -> Result<Result<ApiToken, Unwelcome>, CliError> {
    let (id, secret) = parts(bearer).unwrap_or((TokenId::from_uuid(Uuid::nil()), [0; SECRET_BYTES]));
    let shown = Digest::of(&secret).to_string();
    let found = match host.database.token(id).await {
        Ok(token) => Some(token),
        Err(StorageError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    // The hash of nothing that has 32 bytes.
    let kept = found.as_ref().map_or_else(|| Digest::of(b"nobody"), |token| token.secret_sha256).to_string();
    let same = verify_slices_are_equal(shown.as_bytes(), kept.as_bytes()).is_ok();
    Ok(match found {
        Some(token) if same => match token.over(now) {
            None => Ok(token),
            Some(why) => Err(Unwelcome::Over(token.actor(), why)),
        },
        _ => Err(Unwelcome::Unknown),
    })
}

fn parts(bearer: &str) -> Option<(TokenId, [u8; SECRET_BYTES])> {
    let (id, secret) = bearer.strip_prefix(PREFIX)?.split_once('_')?;
    let id = Uuid::try_parse(id).ok()?;
    let secret = URL_SAFE_NO_PAD.decode(secret).ok()?;
    Some((TokenId::from_uuid(id), secret.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_form_of_a_token_is_taken_apart() {
        let id = Uuid::from_u128(7);
        let text = format!("hsk_{}_{}", id.simple(), URL_SAFE_NO_PAD.encode([9; SECRET_BYTES]));
        assert_eq!(parts(&text), Some((TokenId::from_uuid(id), [9; SECRET_BYTES])));
        for wrong in ["", "hsk_", "hsk_x_y", &text[1..], &text[..text.len() - 1], &format!("{text}A")] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
