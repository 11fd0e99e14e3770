//! The handlers of what belongs to a floating IP: `/v2.0/floatingips/{id}/port_forwardings`. Who may do what with them
//! follows from the floating IP; the ports they lead to must be the caller's to use.

use crate::backend::PortForwardings;
use crate::body::{self, Bulk};
use crate::handlers::{Answer, Body, Root, blocking, parse_id, received, seen, view};
use crate::list;
use crate::policy::{Facts, Judge, forbidden, shown};
use crate::query::Query;
use crate::{Caller, Error};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use model::resource::{FloatingIp, PortForwarding};
use model::{FloatingIpId, PortForwardingId};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) async fn list<B: PortForwardings + Facts>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
    Root(root): Root,
    uri: Uri,
) -> Answer {
    let query = Query::parse::<PortForwarding>(&uri)?;
    seen::<FloatingIp, B>(&backend, &caller, id.clone())?;
    let views = backend.forwardings(parse_id::<FloatingIp>(id)?)?;
    let base = format!("{root}{}", uri.path());
    let body = list::body::<PortForwarding>(&views, |of| view(of).map(Some), &query, &base)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

pub(crate) async fn show<B: PortForwardings + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, forwarding)): Path<(String, String)>,
    caller: Caller,
    uri: Uri,
) -> Answer {
    let fields = Query::parse_fields(&uri)?;
    seen::<FloatingIp, B>(&backend, &caller, id.clone())?;
    let forwarding = parse_id::<PortForwarding>(forwarding)?;
    let all = backend.forwardings(parse_id::<FloatingIp>(id)?)?;
    let found = all.iter().find(|of| of.id == forwarding);
    let found = found.ok_or(Error::PortForwardingNotFound { id: forwarding.to_string() })?;
    Ok(Json(json!({"port_forwarding": list::trim(view(found)?, &fields)})).into_response())
}

pub(crate) async fn create<B: PortForwardings + Facts>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
    body: Body,
) -> Answer {
    let body = received(body)?;
    let parsed =
        body::create::<PortForwarding>(&body, |given| may(&*backend, &caller, "create", &id, given))?;
    let (requests, many) = match parsed {
        Bulk::One(request) => (vec![request], false),
        Bulk::Many(requests) => (requests, true),
    };
    let id = parse_id::<FloatingIp>(id)?;
    let made = blocking(move || backend.forward(id, requests)).await?;
    let mut views = made.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let answer =
        if many { json!({"port_forwardings": views}) } else { json!({"port_forwarding": views.pop()}) };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

pub(crate) async fn update<B: PortForwardings + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, forwarding)): Path<(String, String)>,
    caller: Caller,
    body: Body,
) -> Answer {
    let body = received(body)?;
    let change =
        body::update::<PortForwarding>(&body, |given| may(&*backend, &caller, "update", &id, given))?;
    let (id, forwarding) = ids(id, forwarding)?;
    let changed = blocking(move || backend.change_forwarding(id, forwarding, change)).await?;
    Ok(Json(json!({"port_forwarding": view(&changed)?})).into_response())
}

pub(crate) async fn delete<B: PortForwardings + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, forwarding)): Path<(String, String)>,
    caller: Caller,
) -> Answer {
    may(&*backend, &caller, "delete", &id, &Map::new())?;
    let (id, forwarding) = ids(id, forwarding)?;
    blocking(move || backend.remove_forwarding(id, forwarding)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn ids(id: String, forwarding: String) -> Result<(FloatingIpId, PortForwardingId), Error> {
    Ok((parse_id::<FloatingIp>(id)?, parse_id::<PortForwarding>(forwarding)?))
}

/// Asks for the floating IP, and for the port that a body names.
fn may<B: PortForwardings + Facts>(
    backend: &B,
    caller: &Caller,
    action: &str,
    id: &str,
    given: &Map<String, Value>,
) -> Result<(), Error> {
    let judge = Judge::new(caller, backend);
    let floating_ip = shown::<FloatingIp, B>(backend, caller, parse_id::<FloatingIp>(id.to_owned())?)?;
    judge.may_change::<FloatingIp>(action, id, &floating_ip).map_err(|error| match error {
        Error::PolicyNotAuthorized { .. } => forbidden(action, "floatingip_port_forwarding"),
        other => other,
    })?;
    match given.get("internal_port_id").and_then(Value::as_str) {
        Some(port) => judge.may_use_port(port),
        None => Ok(()),
    }
}
