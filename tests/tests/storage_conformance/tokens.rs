//! Tokens of the API: making, listing, revoking.

use std::time::Duration;

use handshake_core::event::ActorKind;
use handshake_core::storage::{Page, TokenStore};
use handshake_core::token::{ApiToken, Role};
use handshake_core::{Clock, Digest, TokenId};
use handshake_tests::storage::World;

use crate::desk::{is_conflict, is_invalid, is_missing};

fn token(world: &World, name: &str) -> ApiToken {
    ApiToken {
        token_id: TokenId::fresh(&*world.ids),
        name: name.into(),
        role: Role::Operator,
        kind: ActorKind::Human,
        secret_sha256: Digest::of(name.as_bytes()),
        created_at: world.clock.now(),
        created_by: "root".into(),
        expires_at: None,
        revoked_at: None,
        revoked_by: None,
    }
}

pub(crate) async fn a_token_comes_back_as_it_was_made(world: World) {
    let full = ApiToken {
        role: Role::Submitter,
        kind: ActorKind::Agent,
        created_by: "“Größe” '; DROP TABLE api_tokens; --".into(),
        expires_at: Some(world.clock.now().plus(Duration::from_secs(60))),
        ..token(&world, "bot@build-1")
    };
    for token in [token(&world, "ada"), full] {
        world.database.add_token(token.clone(), vec![world.event("made")]).await.unwrap();
        assert_eq!(world.database.token(token.token_id).await.unwrap(), token);
    }
    for refused in [
        token(&world, "a b"),
        ApiToken { role: Role::Owner, ..token(&world, "a") },
        ApiToken { created_by: "a\0".into(), ..token(&world, "a") },
    ] {
        assert!(is_invalid(&world.database.add_token(refused, vec![world.event("refused")]).await));
    }
    assert!(is_missing(&world.database.token(TokenId::fresh(&*world.ids)).await, "token"));
    assert_eq!(world.recorded().await.len(), 2, "events of refused tokens are not on record");
}

pub(crate) async fn of_the_tokens_that_count_only_one_has_a_name(world: World) {
    let first = token(&world, "ada");
    world.database.add_token(first.clone(), vec![]).await.unwrap();
    assert!(is_conflict(&world.database.add_token(token(&world, "ada"), vec![world.event("second")]).await));
    let revoked = ApiToken { revoked_at: Some(world.clock.now()), revoked_by: Some("root".into()), ..first };
    world.database.revoke_token(revoked, vec![]).await.unwrap();
    world.database.add_token(token(&world, "ada"), vec![]).await.unwrap();
    assert_eq!(world.recorded().await.len(), 0);
}

pub(crate) async fn a_token_is_revoked_once_and_says_by_whom(world: World) {
    let made = token(&world, "ada");
    world.database.add_token(made.clone(), vec![]).await.unwrap();
    assert!(is_invalid(&world.database.revoke_token(made.clone(), vec![]).await));
    let revoked = ApiToken { revoked_at: Some(world.clock.now()), revoked_by: Some("bob".into()), ..made.clone() };
    // Nothing else of it changes.
    let forged = ApiToken { role: Role::Reviewer, secret_sha256: Digest::of(b"other"), ..revoked.clone() };
    world.database.revoke_token(forged, vec![world.event("revoked")]).await.unwrap();
    assert_eq!(world.database.token(made.token_id).await.unwrap(), revoked);
    assert!(is_conflict(&world.database.revoke_token(revoked.clone(), vec![world.event("again")]).await));
    let unknown = ApiToken { token_id: TokenId::fresh(&*world.ids), ..revoked };
    assert!(is_missing(&world.database.revoke_token(unknown, vec![]).await, "token"));
    assert_eq!(world.recorded().await.len(), 1);
}

pub(crate) async fn tokens_page_without_gaps(world: World) {
    let mut made = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let token = token(&world, name);
        world.database.add_token(token.clone(), vec![]).await.unwrap();
        made.push(token.token_id);
    }
    let mut page = Page { limit: 2, after: None };
    let mut seen = Vec::new();
    loop {
        let tokens = world.database.tokens(&page).await.unwrap();
        let Some(last) = tokens.last() else { break };
        page.after = Some(last.token_id);
        seen.extend(tokens.iter().map(|token| token.token_id));
    }
    assert_eq!(seen.len(), made.len());
    seen.sort();
    made.sort();
    assert_eq!(seen, made);
    let unknown = Page { limit: 1, after: Some(TokenId::fresh(&*world.ids)) };
    assert!(is_missing(&world.database.tokens(&unknown).await, "token"));
}
