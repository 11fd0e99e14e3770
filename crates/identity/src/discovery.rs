//! Version documents: where every client begins.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::convert::Infallible;

/// Where the client found us: `http://HOST`, without the path. The scheme is that of the request's URI, which the
/// listener makes absolute when it speaks TLS.
pub(crate) struct Root(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Root {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let scheme = parts.uri.scheme_str().unwrap_or("http");
        Ok(Self(format!("{scheme}://{}", host.unwrap_or("localhost"))))
    }
}

/// `GET /`: every version there is, with status 300.
pub(crate) async fn versions(Root(root): Root) -> Response {
    let versions = json!({"versions": {"values": [document(&format!("{root}/identity/v3/"))]}});
    (StatusCode::MULTIPLE_CHOICES, Json(versions)).into_response()
}

/// `GET /v3`. `path` is where the client reached it.
pub(crate) fn version(root: &str, path: &str) -> Json<Value> {
    Json(json!({"version": document(&format!("{root}{path}/"))}))
}

fn document(href: &str) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": href}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}
