//! `/v2.0/routers`.

use super::port::{FixedIpRequest, FixedIpView};
use super::{StandardCreate, StandardUpdate, StandardView, yes};
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::resource::present;
use crate::zone::ZONES;
use crate::{Attribute, Error, Resource};
use ipnet::{IpNet, Ipv4Net};
use model::resource::{Route, Router};
use model::slice::Filtering;
use model::{NetworkId, PortId, RouterId, SubnetId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

impl Resource for Router {
    type Id = RouterId;
    type Create = RouterCreate;
    type Update = RouterUpdate;
    type View = RouterView;

    const NAME: &'static str = "router";
    const COLLECTION: &'static str = "routers";
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::writable("admin_state_up", check::boolean),
        Attribute::writable("external_gateway_info", check::gateway_info).not_filterable(),
        Attribute { post: false, ..Attribute::writable("routes", check::routes).not_filterable() },
        Attribute::fixed("availability_zone_hints", check::texts).not_filterable(),
        Attribute::read_only("availability_zones", check::any).not_filterable(),
    ];

    const POLICY: &'static Policy = &table::ROUTER;

    fn not_found(id: String) -> Error {
        Error::RouterNotFound { id }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    pub destination: IpNet,
    pub nexthop: IpAddr,
}

impl From<&Route> for RouteView {
    fn from(route: &Route) -> Self {
        Self { destination: route.destination, nexthop: route.next_hop }
    }
}

impl From<RouteView> for Route {
    fn from(route: RouteView) -> Self {
        Self { destination: route.destination, next_hop: route.nexthop }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct GatewayRequest {
    pub network_id: NetworkId,
    /// Sending none turns it on again.
    #[serde(default = "yes")]
    pub enable_snat: bool,
    /// Absent: keep, or choose one.
    pub external_fixed_ips: Option<Vec<FixedIpRequest>>,
    /// Of these, what is absent stays as it is.
    #[serde(rename = "nanboku:filtering")]
    pub filtering: Option<Filtering>,
    #[serde(rename = "nanboku:ports_per_vm_max")]
    pub ports_per_vm_max: Option<u32>,
    #[serde(rename = "nanboku:mappings_per_second_max")]
    pub mappings_per_second_max: Option<u32>,
    #[serde(rename = "nanboku:port_control")]
    pub port_control: Option<bool>,
    #[serde(rename = "nanboku:untranslated_destinations")]
    pub untranslated_destinations: Option<Vec<Ipv4Net>>,
    #[serde(rename = "nanboku:snat_shared")]
    pub snat_shared: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RouterCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    pub external_gateway_info: Option<GatewayRequest>,
    #[serde(default)]
    pub availability_zone_hints: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RouterUpdate {
    #[serde(flatten)]
    pub standard: StandardUpdate,
    pub admin_state_up: Option<bool>,
    /// Null clears.
    #[serde(default, deserialize_with = "present")]
    pub external_gateway_info: Option<Option<GatewayRequest>>,
    pub routes: Option<Vec<RouteView>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct GatewayView {
    pub network_id: NetworkId,
    pub enable_snat: bool,
    pub external_fixed_ips: Vec<FixedIpView>,
    #[serde(rename = "nanboku:filtering")]
    pub filtering: Filtering,
    #[serde(rename = "nanboku:ports_per_vm_max")]
    pub ports_per_vm_max: u32,
    #[serde(rename = "nanboku:mappings_per_second_max")]
    pub mappings_per_second_max: u32,
    #[serde(rename = "nanboku:port_control")]
    pub port_control: bool,
    #[serde(rename = "nanboku:untranslated_destinations")]
    pub untranslated_destinations: Vec<Ipv4Net>,
    #[serde(rename = "nanboku:snat_shared")]
    pub snat_shared: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct RouterView {
    pub id: RouterId,
    pub name: String,
    pub status: &'static str,
    pub admin_state_up: bool,
    pub external_gateway_info: Option<GatewayView>,
    pub routes: Vec<RouteView>,
    pub availability_zone_hints: Vec<String>,
    pub availability_zones: [&'static str; 1],
    pub flavor_id: Option<String>,
    #[serde(flatten)]
    pub standard: StandardView,
}

impl RouterView {
    /// `addresses` are those of the gateway port.
    pub fn new(router: &Router, addresses: Vec<FixedIpView>) -> Self {
        Self {
            id: router.id,
            name: router.standard.name.clone(),
            status: "ACTIVE",
            admin_state_up: router.admin_state_up,
            external_gateway_info: router.gateway.as_ref().map(|gateway| GatewayView {
                network_id: gateway.network,
                enable_snat: gateway.enable_snat,
                external_fixed_ips: addresses,
                filtering: gateway.filtering,
                ports_per_vm_max: gateway.ports_per_vm_max,
                mappings_per_second_max: gateway.mappings_per_second_max,
                port_control: gateway.port_control,
                untranslated_destinations: gateway.untranslated_destinations.clone(),
                snat_shared: gateway.snat_shared,
            }),
            routes: router.routes.iter().map(RouteView::from).collect(),
            availability_zone_hints: router.availability_zone_hints.clone(),
            availability_zones: ZONES,
            flavor_id: None,
            standard: StandardView::of(&router.standard),
        }
    }
}

/// Body of `add_router_interface` and `remove_router_interface`: exactly one for adding.
#[derive(Clone, Copy, Debug, Default)]
pub struct InterfaceRequest {
    pub subnet: Option<SubnetId>,
    pub port: Option<PortId>,
}

/// Answer of both; no envelope.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceView {
    pub id: RouterId,
    pub project_id: String,
    pub port_id: PortId,
    pub network_id: NetworkId,
    pub subnet_id: SubnetId,
    pub subnet_ids: [SubnetId; 1],
}

/// Body of `add_extraroutes` and `remove_extraroutes`.
#[derive(Clone, Debug, Deserialize)]
pub struct RouteList {
    pub routes: Vec<RouteView>,
}
