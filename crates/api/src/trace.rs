//! `POST /nanboku/v1/trace`: the way of a packet that the body describes.

use crate::Error;
use crate::backend::Backend;
use crate::caller::Caller;
use crate::handlers::{Answer, received};
use crate::policy::looking;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::IntoResponse;
use model::trace::Description;
use serde_json::json;
use std::sync::Arc;

pub(crate) async fn trace<B: Backend>(
    State(backend): State<Arc<B>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let description: Description = serde_json::from_slice(&received(body)?)
        .map_err(|error| Error::bad_request(format!("the description of the packet: {error}")))?;
    looking::may_trace(&caller, &*backend, &description)?;
    let trace = backend.trace(description).await?;
    let trace = if caller.is_admin() { trace } else { looking::told_to_member(trace) };
    Ok(Json(json!({"trace": trace})).into_response())
}
