//! `/v2.0/subnets`.

use super::router::RouteView;
use super::{StandardCreate, StandardUpdate, StandardView, yes};
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::resource::present;
use crate::{Attribute, Error, Resource};
use ipnet::IpNet;
use model::resource::{AddressRange, Ipv6Mode, Subnet};
use model::{IpVersion, NetworkId, SubnetId, SubnetPoolId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

impl Resource for Subnet {
    type Id = SubnetId;
    type Create = SubnetCreate;
    type Update = SubnetUpdate;
    type View = SubnetView;

    const NAME: &'static str = "subnet";
    const COLLECTION: &'static str = "subnets";
    const LACKS: &'static [&'static str] = &["status"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("network_id", check::uuid).required(),
        Attribute::fixed("ip_version", check::ip_version).required(),
        Attribute::fixed("cidr", check::cidr_or_null),
        Attribute::writable("gateway_ip", check::address_or_null),
        Attribute::writable("enable_dhcp", check::boolean),
        Attribute::writable("allocation_pools", check::pools).not_filterable(),
        Attribute::writable("dns_nameservers", check::addresses).not_filterable(),
        Attribute::writable("host_routes", check::routes).not_filterable(),
        Attribute::writable("service_types", check::texts).not_filterable(),
        Attribute::fixed("subnetpool_id", check::uuid_or_null),
        Attribute::fixed("prefixlen", check::prefix_len_or_null).not_filterable(),
        Attribute::fixed("use_default_subnetpool", check::boolean).not_filterable(),
        Attribute::fixed("ipv6_ra_mode", check::ipv6_mode_or_null),
        Attribute::fixed("ipv6_address_mode", check::ipv6_mode_or_null),
        Attribute::read_only("shared", check::boolean),
        Attribute::read_only("router:external", check::boolean),
    ];

    const POLICY: &'static Policy = &table::SUBNET;

    fn not_found(id: String) -> Error {
        Error::SubnetNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct SubnetCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    pub network_id: NetworkId,
    pub ip_version: IpVersion,
    pub cidr: Option<IpNet>,
    /// Absent: the first address; null: none.
    #[serde(default, deserialize_with = "present")]
    pub gateway_ip: Option<Option<IpAddr>>,
    #[serde(default = "yes")]
    pub enable_dhcp: bool,
    pub allocation_pools: Option<Vec<AddressRange>>,
    #[serde(default)]
    pub dns_nameservers: Vec<String>,
    #[serde(default)]
    pub host_routes: Vec<RouteView>,
    #[serde(default)]
    pub service_types: Vec<String>,
    pub subnetpool_id: Option<SubnetPoolId>,
    /// Of the prefix that the pool is to give.
    pub prefixlen: Option<u8>,
    /// From the default pool of its version.
    #[serde(default)]
    pub use_default_subnetpool: bool,
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    pub ipv6_address_mode: Option<Ipv6Mode>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SubnetUpdate {
    #[serde(flatten)]
    pub standard: StandardUpdate,
    #[serde(default, deserialize_with = "present")]
    pub gateway_ip: Option<Option<IpAddr>>,
    pub enable_dhcp: Option<bool>,
    pub allocation_pools: Option<Vec<AddressRange>>,
    pub dns_nameservers: Option<Vec<String>>,
    pub host_routes: Option<Vec<RouteView>>,
    pub service_types: Option<Vec<String>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SubnetView {
    pub id: SubnetId,
    pub name: String,
    pub network_id: NetworkId,
    pub ip_version: IpVersion,
    pub cidr: IpNet,
    pub gateway_ip: Option<IpAddr>,
    pub enable_dhcp: bool,
    pub allocation_pools: Vec<AddressRange>,
    pub dns_nameservers: Vec<String>,
    pub host_routes: Vec<RouteView>,
    pub service_types: Vec<String>,
    pub subnetpool_id: Option<SubnetPoolId>,
    pub segment_id: Option<String>,
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    pub ipv6_address_mode: Option<Ipv6Mode>,
    pub shared: bool,
    #[serde(rename = "router:external")]
    pub external: bool,
    #[serde(flatten)]
    pub standard: StandardView,
}

impl SubnetView {
    /// `shared` and `external` are the network's.
    pub fn new(subnet: &Subnet, shared: bool, external: bool) -> Self {
        Self {
            id: subnet.id,
            name: subnet.standard.name.clone(),
            network_id: subnet.network,
            ip_version: subnet.ip_version(),
            cidr: subnet.cidr,
            gateway_ip: subnet.gateway_ip,
            enable_dhcp: subnet.enable_dhcp,
            allocation_pools: subnet.allocation_pools.clone(),
            dns_nameservers: subnet.dns_nameservers.clone(),
            host_routes: subnet.host_routes.iter().map(RouteView::from).collect(),
            service_types: subnet.service_types.clone(),
            subnetpool_id: subnet.pool,
            segment_id: None,
            ipv6_ra_mode: subnet.ipv6_ra_mode,
            ipv6_address_mode: subnet.ipv6_address_mode,
            shared,
            external,
            standard: StandardView::of(&subnet.standard),
        }
    }
}
