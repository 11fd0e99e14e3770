//! Read-only lists that follow from the rest: addresses left per network, availability zones, service providers.

use crate::backend::{Backend, Handles, Hints};
use crate::handlers::Answer;
use crate::resources::{NetworkView, SubnetView};
use crate::zone::ZONE;
use crate::{Caller, Error, Resource};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use model::ip::number;
use model::resource::{Network, Port, Subnet};
use serde_json::{Value, json};
use std::sync::Arc;

type Filters = Query<Vec<(String, String)>>;

/// `/v2.0/network-ip-availabilities`: for administrators; others get none, as in Neutron.
pub(crate) async fn ip_availabilities<B: Backend>(
    State(backend): State<Arc<B>>,
    caller: Caller,
    Query(filters): Filters,
) -> Answer {
    const FILTERS: [&str; 5] = ["network_id", "network_name", "project_id", "tenant_id", "ip_version"];
    check(&filters, &FILTERS)?;
    let networks = match caller.is_admin() {
        true => Handles::<Network>::list(&*backend, &caller, &Hints::default()),
        false => Vec::new(),
    };
    let version = filters.iter().find(|(key, _)| key == "ip_version").map(|(_, value)| value.as_str());
    let views = networks.iter().map(|network| ip_availability(&*backend, &caller, network, version));
    let views: Vec<Value> = views.filter(|view| passes(view, &filters)).collect();
    Ok(Json(json!({"network_ip_availabilities": views})).into_response())
}

pub(crate) async fn ip_availability_of<B: Backend>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
) -> Answer {
    let parsed = id.parse().ok().filter(|_| caller.is_admin());
    let network = parsed.ok_or_else(|| Network::not_found(id))?;
    let network = Handles::<Network>::show(&*backend, &caller, network)?;
    let view = ip_availability(&*backend, &caller, &network, None);
    Ok(Json(json!({"network_ip_availability": view})).into_response())
}

/// `version`: only of subnets of that IP version.
fn ip_availability<B: Backend>(
    backend: &B,
    caller: &Caller,
    network: &NetworkView,
    version: Option<&str>,
) -> Value {
    let own =
        Hints { filters: vec![("network_id".to_owned(), vec![network.id.to_string()])], ..Hints::default() };
    let ports = Handles::<Port>::list(backend, caller, &own);
    let used = |subnet: &SubnetView| {
        let ips = ports.iter().flat_map(|port| &port.fixed_ips);
        ips.filter(|ip| ip.subnet_id == subnet.id).count() as u64
    };
    let total = |subnet: &SubnetView| -> u128 {
        let pools = subnet.allocation_pools.iter();
        pools.map(|pool| number(pool.end).saturating_sub(number(pool.start)) + 1).sum()
    };
    let (mut used_ips, mut total_ips) = (0, 0);
    let mut subnets = Vec::new();
    let is_asked = |subnet: &SubnetView| version.is_none_or(|text| text == subnet.ip_version.to_string());
    for subnet in Handles::<Subnet>::list(backend, caller, &own).into_iter().filter(is_asked) {
        let (used, total) = (used(&subnet), total(&subnet));
        used_ips += used;
        total_ips += total;
        subnets.push(json!({
            "subnet_id": subnet.id, "subnet_name": subnet.name, "cidr": subnet.cidr,
            "ip_version": subnet.ip_version, "total_ips": json_number(total), "used_ips": used,
        }));
    }
    json!({
        "network_id": network.id, "network_name": network.name, "project_id": network.standard.project_id,
        "tenant_id": network.standard.project_id, "total_ips": json_number(total_ips), "used_ips": used_ips,
        "subnet_ip_availability": subnets,
    })
}

/// IPv6 subnets have more addresses than fit into the integers of JSON libraries; as a float it is still a number.
fn json_number(count: u128) -> Value {
    u64::try_from(count).map_or_else(|_| json!(count as f64), |count| json!(count))
}

/// `/v2.0/availability_zones`.
pub(crate) async fn availability_zones(Query(filters): Filters) -> Answer {
    check(&filters, &["name", "resource", "state"])?;
    let zones =
        ["network", "router"].map(|kind| json!({"name": ZONE, "resource": kind, "state": "available"}));
    let zones: Vec<Value> = zones.into_iter().filter(|zone| passes(zone, &filters)).collect();
    Ok(Json(json!({"availability_zones": zones})).into_response())
}

/// `/v2.0/service-providers`.
pub(crate) async fn service_providers(Query(filters): Filters) -> Answer {
    check(&filters, &["service_type", "name", "default"])?;
    let provider = json!({"service_type": "L3_ROUTER_NAT", "name": "nanboku", "default": true});
    let providers: Vec<Value> = [provider].into_iter().filter(|view| passes(view, &filters)).collect();
    Ok(Json(json!({"service_providers": providers})).into_response())
}

fn check(filters: &[(String, String)], known: &[&str]) -> Result<(), Error> {
    let unknown = filters.iter().find(|(key, _)| key != "fields" && !known.contains(&key.as_str()));
    match unknown {
        Some((key, _)) => Err(Error::bad_request(format!("['{key}'] is invalid attribute for filtering"))),
        None => Ok(()),
    }
}

/// What a view does not have does not keep it out.
fn passes(view: &Value, filters: &[(String, String)]) -> bool {
    filters.iter().all(|(key, want)| match view.get(key) {
        Some(Value::String(text)) => text == want,
        Some(Value::Bool(value)) => value.to_string().eq_ignore_ascii_case(want),
        _ => true,
    })
}
