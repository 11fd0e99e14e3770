//! Errors in RFC 8040's form (§7.1), also for what is refused before anybody here is asked.

use super::MEDIA_TYPE;
use super::target::{Segment, text};
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Of a body that is rewritten: error bodies are small.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    status: StatusCode,
    /// `error-tag` of RFC 6241, Appendix A.
    tag: &'static str,
    message: String,
}

impl Failure {
    /// There is no such data.
    pub(super) fn not_found(path: &[Segment]) -> Self {
        let message = format!("there is no data at /restconf/data/{}", text(path));
        Self { status: StatusCode::NOT_FOUND, tag: "invalid-value", message }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, tag: "invalid-value", message }
    }

    pub(super) fn unknown(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, tag: "unknown-element", message }
    }

    /// Entries of a list have their keys in the path (RFC 8040 §3.5.3).
    pub(super) fn without_key(list: &str, key: &str) -> Self {
        let message = format!("one {list} is named with its {key}, as in {list}=1");
        Self { status: StatusCode::BAD_REQUEST, tag: "missing-attribute", message }
    }

    pub(super) fn not_acceptable() -> Self {
        let message = format!("there is {MEDIA_TYPE} and nothing else");
        Self { status: StatusCode::NOT_ACCEPTABLE, tag: "invalid-value", message }
    }

    /// Hosts that know it did not answer.
    pub(super) fn silent(hosts: &[String]) -> Self {
        let message = format!("hosts did not answer: {}", hosts.join(", "));
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, tag: "operation-failed", message }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = json!({
            "error-type": if self.tag == "unknown-element" { "application" } else { "protocol" },
            "error-tag": self.tag,
            "error-message": self.message,
        });
        let body = json!({"ietf-restconf:errors": {"error": [error]}}).to_string();
        (self.status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
    }
}

/// Refusals that all paths have in common, told in this form below `/restconf`.
pub(crate) async fn in_restconf_form(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let ours = path == "/restconf" || path.starts_with("/restconf/");
    let response = next.run(request).await;
    let status = response.status();
    let told = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == MEDIA_TYPE);
    if !ours || told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body: Value = match to_bytes(body, BODY_BYTES_MAX).await {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Value::Null,
    };
    let message = body.pointer("/NeutronError/message").or_else(|| body.pointer("/error/message"));
    let message =
        message.and_then(Value::as_str).or(status.canonical_reason()).unwrap_or_default().to_owned();
    let answer = Failure { status, tag: tag(status), message }.into_response();
    let (head, body) = answer.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        parts.headers.insert(header::ALLOW, HeaderValue::from_static(super::ALLOWED));
    }
    parts.status = head.status;
    Response::from_parts(parts, body)
}

/// RFC 8040 §7, read backwards.
fn tag(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "access-denied",
        StatusCode::METHOD_NOT_ALLOWED => "operation-not-supported",
        StatusCode::PAYLOAD_TOO_LARGE => "too-big",
        status if status.is_client_error() => "invalid-value",
        _ => "operation-failed",
    }
}
