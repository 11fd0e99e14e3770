//! Actions on subnet pools: `PUT /v2.0/subnetpools/{id}/{action}`.

use crate::backend::SubnetPoolActions;
use crate::handlers::{Answer, blocking, parse_id, received};
use crate::policy::{Facts, Judge, shown};
use crate::resources::SubnetPoolAction;
use crate::{Caller, Error, attribute, body};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use ipnet::IpNet;
use model::subnet_pool::SubnetPool;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) async fn act<B: SubnetPoolActions + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, name)): Path<(String, String)>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let id = parse_id::<SubnetPool>(id)?;
    let body = received(body)?;
    let parse: fn(&Map<String, Value>) -> Result<SubnetPoolAction, Error> = match name.as_str() {
        "onboard_network_subnets" => |given| network(given).map(SubnetPoolAction::Onboard),
        "add_prefixes" => |given| prefixes(given).map(SubnetPoolAction::AddPrefixes),
        "remove_prefixes" => |given| prefixes(given).map(SubnetPoolAction::RemovePrefixes),
        _ => return Err(Error::HTTPNotFound {}),
    };
    let action = {
        let judge = Judge::new(&caller, &*backend);
        let pool = shown::<SubnetPool, B>(&backend, &caller, id)?;
        judge.may_change::<SubnetPool>(&name, &id.to_string(), &pool)?;
        let action = parse(&body::object(&body)?)?;
        if let SubnetPoolAction::Onboard(network) = &action {
            judge.may_own_network(&network.to_string())?;
        }
        action
    };
    let pool = blocking(move || backend.act(&caller, id, action)).await?;
    Ok(Json(json!({"prefixes": pool.prefixes})).into_response())
}

fn network(given: &Map<String, Value>) -> Result<model::NetworkId, Error> {
    let id = given.get("network_id").and_then(Value::as_str);
    let id = id.ok_or_else(|| Error::bad_request("Required attribute 'network_id' not specified"))?;
    id.parse().map_err(|_| Error::NetworkNotFound { id: id.to_owned() })
}

fn prefixes(given: &Map<String, Value>) -> Result<Vec<IpNet>, Error> {
    let refuse =
        |reason: String| Error::bad_request(format!("Invalid input for prefixes. Reason: {reason}."));
    let list = given.get("prefixes").ok_or_else(|| refuse("a list is required".to_owned()))?;
    let list = attribute::check::cidrs(list).map_err(refuse)?;
    serde_json::from_value(list).map_err(Error::internal)
}
