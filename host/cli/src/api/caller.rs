//! Who asks, and what that takes: every route names its right, and refuses whoever has not got it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::MethodRouter;
use axum::{Extension, Router};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::token::{ApiToken, Right, Role};

use super::Refusal;
use crate::error::CliError;
use crate::host::HostState;

/// Who asks. Whoever lets a request in says it; none of its parts can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The actor of everything that comes of the request.
    pub(crate) actor: Actor,
    /// In which role.
    pub(crate) role: Role,
}

impl Caller {
    /// The user whose process this is: the only one who reaches the socket.
    pub(crate) fn owner() -> Self {
        let name = std::env::var("USER").ok().filter(|name| !name.is_empty());
        let id = name.unwrap_or_else(|| format!("uid:{}", rustix::process::geteuid().as_raw()));
        Self { actor: Actor { kind: ActorKind::Human, id }, role: Role::Owner }
    }

    /// The bearer of a token.
    pub(crate) fn bearer(token: &ApiToken) -> Self {
        Self { actor: token.actor(), role: token.role }
    }

    /// The role, where it is one that somebody came in with.
    pub(crate) fn token_role(&self) -> Option<Role> {
        Some(self.role).filter(|role| *role != Role::Owner)
    }

    /// Refuses whoever has not got a right.
    pub(crate) fn require(&self, right: Right) -> Result<(), CliError> {
        if right == Right::Decide && self.actor.kind == ActorKind::Agent {
            let error = CliError::denied("a program does not answer for people").code("forbidden");
            return Err(error.hint("a person answers, with a token that is not an agent's"));
        }
        if self.role.has(right) {
            return Ok(());
        }
        let (role, roles) = (self.role, roles_with(right));
        let hint = if roles.is_empty() {
            "this is for the owner of the data directory, at its own computer".to_owned()
        } else {
            format!("it takes the role {roles}; handshake token new makes a token")
        };
        Err(CliError::denied(format!("the role {role} may not do this")).code("forbidden").hint(hint))
    }
}

fn roles_with(right: Right) -> String {
    let roles = Role::ALL.iter().filter(|role| **role != Role::Owner && role.has(right));
    roles.map(|role| role.as_str()).collect::<Vec<_>>().join(" or ")
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Refusal(CliError::denied("nobody said who asks").code("unauthorized")))
    }
}

/// In the extensions of an answer: the caller has not got the right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forbidden;

/// Routes that each name their right.
pub(crate) struct Routes(Router<Arc<HostState>>);

impl Routes {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Router::new())
    }

    /// Adds one, for those who have the right.
    pub(crate) fn on(self, right: Right, path: &str, methods: MethodRouter<Arc<HostState>>) -> Self {
        let gate = from_fn(move |caller: Caller, request: Request, next: Next| async move {
            let mut response = match caller.require(right) {
                Ok(()) => next.run(request).await,
                Err(error) => (Extension(Forbidden), Refusal(error)).into_response(),
            };
            // A page of what went wrong still knows who looks at it.
            response.extensions_mut().insert(caller);
            response
        });
        Self(self.0.route(path, methods.route_layer(gate)))
    }

    /// Adds others.
    pub(crate) fn merge(self, others: Self) -> Self {
        Self(self.0.merge(others.0))
    }

    /// All of them as they are.
    pub(crate) fn at_root(self) -> Router<Arc<HostState>> {
        self.0
    }

    /// All of them below a path.
    pub(crate) fn below(self, path: &str) -> Router<Arc<HostState>> {
        Router::new().nest(path, self.0)
    }
}
