//! Who asks, and what that takes: every route names its right, and refuses whoever has not got it.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Request};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::token::{ApiToken, Right, Role};
use schemars::SchemaGenerator;

use super::Refusal;
use super::describe::{Described, Documented, Operation};
use crate::error::CliError;
use crate::host::HostState;

/// Who asks. Whoever lets a request in says it; none of its parts can.
#[derive(Debug, Clone)]
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

/// The roles that have a right, in words; empty when only the owner has it.
pub(super) fn roles_with(right: Right) -> String {
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
pub(crate) struct Routes {
    router: Router<Arc<HostState>>,
    described: Vec<Described>,
}

impl Routes {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), described: Vec::new() }
    }

    /// Adds a resource that is read, for those who have the right.
    pub(crate) fn get<H, T: 'static, D>(self, right: Right, path: &str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<HostState>> + Documented<D>,
    {
        self.described("get", right, path, summary, H::describe).on(right, path, get(handler))
    }

    /// Adds something that is done, for those who have the right.
    pub(crate) fn post<H, T: 'static, D>(self, right: Right, path: &str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<HostState>> + Documented<D>,
    {
        self.described("post", right, path, summary, H::describe).on(right, path, post(handler))
    }

    /// The same, with a request of at most so many bytes.
    pub(crate) fn post_of_size<H, T: 'static, D>(
        self,
        right: Right,
        path: &str,
        summary: &'static str,
        most: usize,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<HostState>> + Documented<D>,
    {
        let methods = post(handler).layer(DefaultBodyLimit::max(most));
        self.described("post", right, path, summary, H::describe).on(right, path, methods)
    }

    fn described(
        mut self,
        method: &'static str,
        right: Right,
        path: &str,
        summary: &'static str,
        describe: fn(&mut SchemaGenerator, &mut Operation),
    ) -> Self {
        self.described.push(Described { method, path: path.to_owned(), right, summary, describe });
        self
    }

    /// Adds one that is no part of the API's description, for those who have the right.
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
        Self { router: self.router.route(path, methods.route_layer(gate)), ..self }
    }

    /// Adds others.
    pub(crate) fn merge(mut self, others: Self) -> Self {
        self.described.extend(others.described);
        Self { router: self.router.merge(others.router), ..self }
    }

    /// What is described.
    pub(super) fn operations(&self) -> &[Described] {
        &self.described
    }

    /// All of them as they are.
    pub(crate) fn at_root(self) -> Router<Arc<HostState>> {
        self.router
    }

    /// All of them below a path.
    pub(crate) fn below(self, path: &str) -> Router<Arc<HostState>> {
        Router::new().nest(path, self.router)
    }
}
