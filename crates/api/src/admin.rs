//! Views for administrators under `/nanboku/v1`.

use crate::Error;
use crate::backend::Admin;
use crate::handlers::Answer;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;
use std::sync::Arc;

pub(crate) async fn hosts<B: Admin>(State(backend): State<Arc<B>>) -> Answer {
    Ok(Json(json!({"hosts": backend.hosts()})).into_response())
}

pub(crate) async fn host<B: Admin>(State(backend): State<Arc<B>>, Path(id_or_name): Path<String>) -> Answer {
    Ok(Json(json!({"host": backend.host(&id_or_name)?})).into_response())
}

pub(crate) async fn status<B: Admin>(State(backend): State<Arc<B>>) -> Answer {
    Ok(Json(json!({"status": backend.status()})).into_response())
}

pub(crate) async fn blocks<B: Admin>(State(backend): State<Arc<B>>) -> Answer {
    Ok(Json(json!({"blocks": backend.blocks()})).into_response())
}

/// `?address=IP&port=PORT&at=RFC_3339`.
pub(crate) async fn who<B: Admin>(
    State(backend): State<Arc<B>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer {
    let (mut address, mut port, mut at) = (None, None, None);
    for (key, value) in pairs {
        match key.as_str() {
            "address" => address = Some(value),
            "port" => port = Some(value),
            "at" => at = Some(value),
            _ => {
                return Err(Error::bad_request(format!("['{key}'] is invalid attribute for filtering")));
            }
        }
    }
    let address = parsed::<Ipv4Addr>("address", "an IPv4 address", address)?;
    let port = parsed::<u16>("port", "a port", port)?;
    let who = backend.who(SocketAddrV4::new(address, port), at.as_deref()).await?;
    Ok(Json(json!({"who": who})).into_response())
}

fn parsed<T: FromStr>(key: &str, kind: &str, text: Option<String>) -> Result<T, Error> {
    let text = text.ok_or_else(|| Error::bad_request(format!("{key} is required")))?;
    text.parse().map_err(|_| Error::bad_request(format!("{key} must be {kind} and not '{text}'")))
}
