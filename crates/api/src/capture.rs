//! `GET /nanboku/v1/capture`: packets as they pass, in the form of [`crate::observe`], until the client leaves.
//!
//! `?host=&port_id=&router_id=&network_id=&physical_network=&edge=&edge=&filter=&snap_len=&per_second=&whole=true&here=true`.

use crate::backend::Backend;
use crate::caller::Caller;
use crate::handlers::Answer;
use crate::observe::{Pairs, parsed, streamed, unknown};
use crate::policy::looking;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use model::capture::CaptureRequest;
use model::question::Question;
use std::sync::Arc;

pub(crate) async fn capture<B: Backend>(
    State(backend): State<Arc<B>>,
    caller: Caller,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Answer {
    let (host, mut request) = request(pairs)?;
    looking::may_capture(&caller, &*backend, host.is_some(), &mut request)?;
    let nameless = request.own;
    let inquiry = backend.ask(Question::Capture(Box::new(request)), host.as_deref())?;
    Ok(streamed("capture", inquiry, &headers, nameless))
}

fn request(pairs: Vec<(String, String)>) -> Result<(Option<String>, CaptureRequest), crate::Error> {
    let mut host = None;
    let mut request = CaptureRequest::default();
    for (key, value) in pairs {
        match key.as_str() {
            "host" => host = Some(value),
            "port_id" => request.port = Some(parsed(&key, &value)?),
            "router_id" => request.router = Some(parsed(&key, &value)?),
            "network_id" => request.network = Some(parsed(&key, &value)?),
            "physical_network" => request.physical_network = Some(value),
            "edge" => request.edges.push(value),
            "filter" => request.filter = value,
            "snap_len" => request.snap_len = Some(parsed(&key, &value)?),
            "per_second" => request.per_second = Some(parsed(&key, &value)?),
            "here" => request.here = parsed(&key, &value)?,
            "whole" => request.whole = parsed(&key, &value)?,
            _ => return Err(unknown(&key)),
        }
    }
    Ok((host, request))
}
