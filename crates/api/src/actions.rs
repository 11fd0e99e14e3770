//! Actions on routers: `PUT /v2.0/routers/{id}/{action}`.

use crate::backend::RouterActions;
use crate::handlers::{Answer, blocking, parse_id, received, view};
use crate::policy::{Facts, Judge, shown};
use crate::resources::{InterfaceRequest, InterfaceView, RouteList, RouterView};
use crate::{Caller, Error, body};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use model::RouterId;
use model::resource::Router;
use serde_json::{Map, Value, json};
use std::str::FromStr;
use std::sync::Arc;

pub(crate) async fn act<B: RouterActions + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, action)): Path<(String, String)>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let id = parse_id::<Router>(id)?;
    let body = received(body)?;
    if ACTIONS.contains(&action.as_str()) {
        let router = shown::<Router, B>(&backend, &caller, id)?;
        Judge::new(&caller, &*backend).may_change::<Router>(&action, &id.to_string(), &router)?;
    }
    match action.as_str() {
        "add_router_interface" => interface(backend, B::add_interface, caller, id, &body).await,
        "remove_router_interface" => interface(backend, B::remove_interface, caller, id, &body).await,
        "add_extraroutes" => routes(backend, B::add_routes, caller, id, &body).await,
        "remove_extraroutes" => routes(backend, B::remove_routes, caller, id, &body).await,
        _ => Err(Error::HTTPNotFound {}),
    }
}

const ACTIONS: [&str; 4] =
    ["add_router_interface", "remove_router_interface", "add_extraroutes", "remove_extraroutes"];

type Interface<B> = fn(&B, &Caller, RouterId, InterfaceRequest) -> Result<InterfaceView, Error>;
type Routes<B> = fn(&B, &Caller, RouterId, RouteList) -> Result<RouterView, Error>;

async fn interface<B: RouterActions + Facts>(
    backend: Arc<B>,
    action: Interface<B>,
    caller: Caller,
    id: RouterId,
    body: &[u8],
) -> Answer {
    let request = interface_request(&body::object(body)?)?;
    may_connect(&*backend, &caller, request)?;
    let answer = blocking(move || action(&backend, &caller, id, request)).await?;
    Ok(Json(view(&answer)?).into_response())
}

/// What is connected, or taken off, must be the caller's own.
fn may_connect<B: Facts>(backend: &B, caller: &Caller, request: InterfaceRequest) -> Result<(), Error> {
    let judge = Judge::new(caller, backend);
    if let Some(port) = request.port {
        judge.may_use_port(&port.to_string())?;
    }
    match request.subnet {
        Some(subnet) => judge.may_connect_subnet(&subnet.to_string()),
        None => Ok(()),
    }
}

async fn routes<B: RouterActions>(
    backend: Arc<B>,
    action: Routes<B>,
    caller: Caller,
    id: RouterId,
    body: &[u8],
) -> Answer {
    let given = body::envelope(body::object(body)?, "router")?;
    let refuse = |reason: String| Error::bad_request(format!("Invalid input for routes. Reason: {reason}."));
    let routes =
        given.get("routes").ok_or_else(|| refuse("Required attribute 'routes' not specified".into()))?;
    let routes = crate::attribute::check::routes(routes).map_err(refuse)?;
    let list: RouteList = serde_json::from_value(json!({"routes": routes})).map_err(Error::internal)?;
    let answer = blocking(move || action(&backend, &caller, id, list)).await?;
    Ok(Json(json!({"router": view(&answer)?})).into_response())
}

fn interface_request(given: &Map<String, Value>) -> Result<InterfaceRequest, Error> {
    let request = InterfaceRequest { subnet: id(given, "subnet_id")?, port: id(given, "port_id")? };
    if request.subnet.is_none() && request.port.is_none() {
        return Err(bad_router("Either subnet_id or port_id must be specified"));
    }
    Ok(request)
}

fn id<I: FromStr>(given: &Map<String, Value>, key: &'static str) -> Result<Option<I>, Error> {
    match given.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let parsed = value.as_str().and_then(|text| text.parse().ok());
            parsed.map(Some).ok_or_else(|| bad_router(&format!("Invalid {key} {value}: it is not a UUID")))
        }
    }
}

fn bad_router(reason: &str) -> Error {
    Error::BadRequest { resource: "router", reason: reason.to_owned() }
}
