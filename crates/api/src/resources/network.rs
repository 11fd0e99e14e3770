//! `/v2.0/networks`.

use super::{StandardCreate, StandardUpdate, StandardView, yes};
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::zone::ZONES;
use crate::{Attribute, Error, Resource};
use model::resource::Network;
use model::slice::Egress;
use model::{AddressScopeId, NetworkId, SubnetId};
use serde::{Deserialize, Serialize};

impl Resource for Network {
    type Id = NetworkId;
    type Create = NetworkCreate;
    type Update = NetworkUpdate;
    type View = NetworkView;

    const NAME: &'static str = "network";
    const COLLECTION: &'static str = "networks";
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::writable("admin_state_up", check::boolean),
        Attribute::writable("shared", check::boolean),
        Attribute::writable("mtu", check::mtu),
        Attribute::writable("router:external", check::boolean),
        Attribute::writable("is_default", check::boolean),
        Attribute::writable("port_security_enabled", check::boolean),
        Attribute::fixed("provider:network_type", check::network_type),
        Attribute::fixed("provider:physical_network", check::text_or_null),
        Attribute::fixed("provider:segmentation_id", check::integer_or_null),
        Attribute::writable("nanboku:egress", check::egress),
        Attribute::fixed("nanboku:block_size", check::block_size),
        Attribute::read_only("subnets", check::any).not_filterable(),
        Attribute::fixed("availability_zone_hints", check::texts).not_filterable(),
        Attribute::read_only("availability_zones", check::any).not_filterable(),
    ];

    const POLICY: &'static Policy = &table::NETWORK;

    fn not_found(id: String) -> Error {
        Error::NetworkNotFound { id }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkType {
    Flat,
    Vlan,
    Geneve,
    Vxlan,
}

#[derive(Clone, Debug, Deserialize)]
pub struct NetworkCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    #[serde(default)]
    pub shared: bool,
    /// 0 means the default, as in Neutron.
    #[serde(default)]
    pub mtu: u16,
    #[serde(default, rename = "router:external")]
    pub external: bool,
    #[serde(default)]
    pub is_default: bool,
    #[serde(default = "yes")]
    pub port_security_enabled: bool,
    #[serde(rename = "provider:network_type")]
    pub network_type: Option<NetworkType>,
    #[serde(rename = "provider:physical_network")]
    pub physical_network: Option<String>,
    #[serde(rename = "provider:segmentation_id")]
    pub segmentation_id: Option<i64>,
    #[serde(rename = "nanboku:egress")]
    pub egress: Option<Egress>,
    #[serde(rename = "nanboku:block_size")]
    pub block_size: Option<u16>,
    #[serde(default)]
    pub availability_zone_hints: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct NetworkUpdate {
    #[serde(flatten)]
    pub standard: StandardUpdate,
    pub admin_state_up: Option<bool>,
    pub shared: Option<bool>,
    pub mtu: Option<u16>,
    #[serde(rename = "router:external")]
    pub external: Option<bool>,
    pub is_default: Option<bool>,
    pub port_security_enabled: Option<bool>,
    #[serde(rename = "nanboku:egress")]
    pub egress: Option<Egress>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NetworkView {
    pub id: NetworkId,
    pub name: String,
    pub status: &'static str,
    pub admin_state_up: bool,
    pub mtu: u16,
    pub shared: bool,
    pub subnets: Vec<SubnetId>,
    #[serde(rename = "router:external")]
    pub external: bool,
    pub is_default: bool,
    pub port_security_enabled: bool,
    pub availability_zone_hints: Vec<String>,
    pub availability_zones: [&'static str; 1],
    pub ipv4_address_scope: Option<AddressScopeId>,
    pub ipv6_address_scope: Option<AddressScopeId>,
    pub l2_adjacency: bool,
    #[serde(rename = "provider:network_type")]
    pub network_type: NetworkType,
    #[serde(rename = "provider:physical_network")]
    pub physical_network: Option<String>,
    #[serde(rename = "provider:segmentation_id")]
    pub segmentation_id: Option<u32>,
    #[serde(rename = "nanboku:egress", skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    #[serde(rename = "nanboku:block_size", skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u16>,
    #[serde(flatten)]
    pub standard: StandardView,
}

impl NetworkView {
    /// `overlay` is the type of networks without a provider. Whether it is shared depends on who asks.
    pub fn new(network: &Network, subnets: Vec<SubnetId>, overlay: NetworkType) -> Self {
        let provider = network.provider.as_ref();
        let vlan = provider.map(|provider| provider.vlan);
        let (network_type, segmentation_id) = match vlan {
            None => (overlay, Some(network.vni.get())),
            Some(None) => (NetworkType::Flat, None),
            Some(Some(vlan)) => (NetworkType::Vlan, Some(u32::from(vlan))),
        };
        let external = provider.filter(|_| network.external);
        Self {
            id: network.id,
            name: network.standard.name.clone(),
            status: "ACTIVE",
            admin_state_up: network.admin_state_up,
            mtu: network.mtu,
            shared: false,
            subnets,
            external: network.external,
            is_default: network.is_default,
            port_security_enabled: network.port_security_enabled,
            availability_zone_hints: network.availability_zone_hints.clone(),
            availability_zones: ZONES,
            ipv4_address_scope: None,
            ipv6_address_scope: None,
            l2_adjacency: true,
            network_type,
            physical_network: provider.map(|provider| provider.physical_network.clone()),
            segmentation_id,
            egress: external.map(|provider| provider.egress),
            block_size: external.map(|provider| provider.block_size),
            standard: StandardView::of(&network.standard),
        }
    }
}
