//! Version documents: where every client begins.

use api::Root;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

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
