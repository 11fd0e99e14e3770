//! Actions on address groups: `PUT /v2.0/address-groups/{id}/{action}`.

use crate::backend::AddressGroupActions;
use crate::handlers::{Answer, blocking, parse_id, received, view};
use crate::policy::{Facts, Judge, shown};
use crate::resources::AddressesChange;
use crate::{Caller, Error, attribute, body};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use ipnet::IpNet;
use model::security::AddressGroup;
use serde_json::json;
use std::sync::Arc;

pub(crate) async fn act<B: AddressGroupActions + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, action)): Path<(String, String)>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let id = parse_id::<AddressGroup>(id)?;
    let body = received(body)?;
    let change: fn(Vec<IpNet>) -> AddressesChange = match action.as_str() {
        "add_addresses" => AddressesChange::Add,
        "remove_addresses" => AddressesChange::Remove,
        _ => return Err(Error::HTTPNotFound {}),
    };
    {
        let group = shown::<AddressGroup, B>(&backend, &caller, id)?;
        Judge::new(&caller, &*backend).may_change::<AddressGroup>(&action, &id.to_string(), &group)?;
    }
    let change = change(addresses(&body)?);
    let group = blocking(move || backend.change_addresses(&caller, id, change)).await?;
    Ok(Json(json!({"address_group": view(&group)?})).into_response())
}

fn addresses(bytes: &[u8]) -> Result<Vec<IpNet>, Error> {
    let refuse =
        |reason: String| Error::bad_request(format!("Invalid input for addresses. Reason: {reason}."));
    let given = body::object(bytes)?;
    let list = given.get("addresses").ok_or_else(|| refuse("a list is required".to_owned()))?;
    let list = attribute::check::prefixes(list).map_err(refuse)?;
    serde_json::from_value(list).map_err(Error::internal)
}
