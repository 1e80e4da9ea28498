//! Tokens of the API: who may come in over the network, and what for.

use serde::{Deserialize, Serialize};

use crate::event::{Actor, ActorKind};
use crate::job::canonical_enum;
use crate::{Digest, Timestamp, TokenId};

/// Longest name of a token, bytes.
const LONGEST_NAME: usize = 64;

canonical_enum! {
    /// What somebody may do through the API.
    Role, "role" {
        /// Submits jobs and looks at them.
        Submitter = "submitter",
        /// Reads everything that is on record, answers questions, signs off; runs nothing.
        Reviewer = "reviewer",
        /// Runs and controls jobs, and changes documents and plugins; does not sign off.
        Operator = "operator",
        /// Whoever the data directory belongs to. No token has this role.
        Owner = "owner",
    }
}

/// What takes a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// See jobs, runs, workflows, plugins and what they depend on.
    See,
    /// See what is on record, and documents.
    Audit,
    /// Submit jobs.
    Submit,
    /// Control jobs; change documents, plugins, triggers and grants.
    Operate,
    /// Answer questions, accept or decline what jobs propose.
    Decide,
    /// Vouch for a run.
    SignOff,
    /// Change the host itself: its tokens, its policy, its files.
    Own,
}

impl Role {
    /// Whether the role has the right.
    pub const fn has(self, right: Right) -> bool {
        match self {
            Self::Owner => true,
            Self::Operator => !matches!(right, Right::Own | Right::SignOff),
            Self::Reviewer => matches!(right, Right::See | Right::Audit | Right::Decide | Right::SignOff),
            Self::Submitter => matches!(right, Right::See | Right::Submit),
        }
    }
}

/// Why a token cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(String);

/// A token, as it is stored: without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// Its id, which is also the first part of what its bearer shows.
    pub token_id: TokenId,
    /// Whose it is; unique among those that were not revoked.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Whether a person or a program has it.
    pub kind: ActorKind,
    /// SHA-256 of its secret. That has 256 random bits, so nothing slower is needed.
    #[serde(skip_serializing, default = "nothing")]
    pub secret_sha256: Digest,
    /// Made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// From when on it lets nobody in; none when it holds until it is revoked.
    pub expires_at: Option<Timestamp>,
    /// Revoked.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
}

/// The hash in a token that was read from an answer, which has none.
fn nothing() -> Digest {
    Digest::of(b"")
}

impl ApiToken {
    /// Checks what a person chose: the name, and that no program is to answer for people.
    pub fn check(&self) -> Result<(), TokenError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || !self.name.bytes().all(plain) {
            return Err(TokenError(format!(
                "a token's name has 1 to {LONGEST_NAME} letters, digits, dots, dashes, underscores and `@`"
            )));
        }
        match (self.role, self.kind) {
            (Role::Owner, _) => Err(TokenError("no token has the role owner".to_owned())),
            (_, ActorKind::System) => Err(TokenError("no token is the host's own".to_owned())),
            (Role::Reviewer, ActorKind::Agent) => {
                Err(TokenError("a program cannot be a reviewer: reviews are people's".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Why it lets nobody in any more; none when it does.
    pub fn over(&self, now: Timestamp) -> Option<&'static str> {
        if self.revoked_at.is_some() {
            return Some("revoked");
        }
        self.expires_at.is_some_and(|expires| expires <= now).then_some("expired")
    }

    /// Who acts with it. The prefix keeps its name apart from users of the operating system.
    pub fn actor(&self) -> Actor {
        Actor { kind: self.kind, id: format!("token:{}", self.name) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn token(name: &str, role: Role, kind: ActorKind) -> ApiToken {
        ApiToken {
            token_id: TokenId::from_uuid(uuid::Uuid::from_u128(1)),
            name: name.to_owned(),
            role,
            kind,
            secret_sha256: Digest::of(b"secret"),
            created_at: Timestamp::from_micros(1),
            created_by: "root".to_owned(),
            expires_at: Some(Timestamp::from_micros(10)),
            revoked_at: None,
            revoked_by: None,
        }
    }

    #[test]
    fn each_role_has_exactly_its_rights() {
        let rights =
            [Right::See, Right::Audit, Right::Submit, Right::Operate, Right::Decide, Right::SignOff, Right::Own];
        let table = [
            (Role::Submitter, [true, false, true, false, false, false, false]),
            (Role::Reviewer, [true, true, false, false, true, true, false]),
            (Role::Operator, [true, true, true, true, true, false, false]),
            (Role::Owner, [true; 7]),
        ];
        for (role, expected) in table {
            assert_eq!(rights.map(|right| role.has(right)), expected, "{role}");
        }
    }

    #[test]
    fn names_are_plain_and_programs_do_not_review() {
        assert_eq!(token("ada.l@example-1", Role::Reviewer, ActorKind::Human).check(), Ok(()));
        for name in ["", "a b", "a/b", "ä", "a\u{202e}", &"x".repeat(65)] {
            assert!(token(name, Role::Operator, ActorKind::Human).check().is_err(), "{name}");
        }
        assert!(token("a", Role::Reviewer, ActorKind::Agent).check().is_err());
        assert!(token("a", Role::Operator, ActorKind::System).check().is_err());
        assert!(token("a", Role::Owner, ActorKind::Human).check().is_err());
        assert_eq!(token("bot", Role::Submitter, ActorKind::Agent).actor().id, "token:bot");
    }

    #[test]
    fn a_token_ends_at_its_time_or_when_it_is_revoked_and_its_hash_is_not_said() {
        let mut token = token("a", Role::Operator, ActorKind::Human);
        assert_eq!(token.over(Timestamp::from_micros(9)), None);
        assert_eq!(token.over(Timestamp::from_micros(10)), Some("expired"));
        let text = serde_json::to_string(&token).unwrap();
        assert!(!text.contains(&token.secret_sha256.to_string()), "{text}");
        assert!(serde_json::from_str::<ApiToken>(&text).is_ok());
        token.revoked_at = Some(Timestamp::from_micros(2));
        assert_eq!(token.over(Timestamp::from_micros(1)), Some("revoked"));
    }
}
