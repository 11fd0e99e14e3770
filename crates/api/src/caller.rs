//! Who asks.

use crate::Error;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::future::Future;

/// What a caller may do with what belongs to its project. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Known, without a role that means anything here.
    Nobody,
    Reader,
    Member,
    /// Of everything, whatever project it belongs to.
    Admin,
}

impl Rank {
    /// The highest that one of the roles gives, by their names in the identity service.
    pub fn of<'a>(roles: impl IntoIterator<Item = &'a str>) -> Self {
        let rank = |role: &str| match role.to_ascii_lowercase().as_str() {
            "admin" => Self::Admin,
            "member" | "manager" => Self::Member,
            "reader" => Self::Reader,
            _ => Self::Nobody,
        };
        roles.into_iter().map(rank).max().unwrap_or(Self::Nobody)
    }
}

/// The caller of a request, as identified by the authentication in use.
///
/// A handler gets it by taking it; a request that no authentication has seen fails instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Owner of what the caller creates without naming a project; empty without a project.
    pub project_id: String,
    pub rank: Rank,
}

impl Caller {
    /// The project of an API without authentication. It stands for all, so it has no quota unless one is set.
    pub const PROJECT_OF_ALL: &str = "fake_project_id";

    /// The caller of an API without authentication: an administrator of [`Caller::PROJECT_OF_ALL`].
    pub fn nobody() -> Self {
        Self { project_id: Self::PROJECT_OF_ALL.to_owned(), rank: Rank::Admin }
    }

    pub fn is_admin(&self) -> bool {
        self.rank == Rank::Admin
    }

    /// It is of that project. Nobody is of the project without a name.
    pub fn owns(&self, project_id: &str) -> bool {
        !project_id.is_empty() && self.project_id == project_id
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Error::internal("no authentication has seen this request"))
    }
}

/// Why a token says nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("there is no token, or it is not valid")]
    Unauthorized,
    /// Whoever knows about tokens does not answer.
    #[error("the identity service cannot be asked")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Knows whose a token is.
pub trait Authenticate: Send + Sync + 'static {
    /// # Errors
    /// The token is not valid, or nobody knows.
    fn authenticate(&self, token: &str) -> impl Future<Output = Result<Caller, AuthenticationError>> + Send;
}
