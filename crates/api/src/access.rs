//! Before anything else: who is the caller, and is the path for callers of its rank.
//!
//! What a caller may do with single things is the policy's matter; here whole paths are closed. A path that is not
//! known here is for administrators, so that forgetting one opens nothing.

use crate::caller::{Authenticate, AuthenticationError, Caller, Rank};
use crate::{Error, policy};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Who may use a path at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// No token: clients look at versions, and where things are, before they log in.
    Nothing,
    Rank(Rank),
}

/// `path`: as the route was declared; `None` for one that does not exist.
fn need(method: &Method, path: Option<&str>) -> Need {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path {
        Some("/" | "/v2.0" | "/.well-known/host-meta") => Need::Nothing,
        // Everybody with a token learns that it is not there.
        None => Need::Rank(Rank::Nobody),
        Some(path) if path.starts_with("/v2.0/") && reads => Need::Rank(Rank::Reader),
        Some(path) if path.starts_with("/v2.0/") => Need::Rank(Rank::Member),
        // At its own ports; the policy sees to that.
        Some("/nanboku/v1/capture" | "/nanboku/v1/trace") => Need::Rank(Rank::Member),
        Some(_) => Need::Rank(Rank::Admin),
    }
}

/// Lets everybody in as the administrator: for listeners that only the operator reaches.
pub(crate) async fn trust(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::nobody());
    next.run(request).await
}

/// Lets in whoever has a valid token in `X-Auth-Token` and the rank that the path needs.
pub(crate) async fn authenticate<A: Authenticate>(
    State(authentication): State<Arc<A>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let Need::Rank(rank) = need(request.method(), path.as_deref()) else {
        return next.run(request).await;
    };
    let token = request.headers().get("x-auth-token").and_then(|token| token.to_str().ok());
    let caller = match token {
        Some(token) => authentication.authenticate(token).await,
        None => Err(AuthenticationError::Unauthorized),
    };
    match caller {
        Ok(caller) if caller.rank >= rank => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(_) => {
            let path = path.as_deref().unwrap_or_default();
            policy::forbidden(&request.method().as_str().to_ascii_lowercase(), path).into_response()
        }
        Err(AuthenticationError::Unauthorized) => Error::Unauthorized {}.into_response(),
        Err(AuthenticationError::Unavailable(cause)) => Error::IdentityUnavailable { cause }.into_response(),
    }
}
