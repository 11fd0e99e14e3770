//! `POST /nanboku/v1/trace`: the way of a packet that the body describes.

use crate::Error;
use crate::backend::Admin;
use crate::handlers::{Answer, received};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::IntoResponse;
use model::trace::Description;
use serde_json::json;
use std::sync::Arc;

pub(crate) async fn trace<B: Admin>(
    State(backend): State<Arc<B>>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let description: Description = serde_json::from_slice(&received(body)?)
        .map_err(|error| Error::bad_request(format!("the description of the packet: {error}")))?;
    Ok(Json(json!({"trace": backend.trace(description).await?})).into_response())
}
