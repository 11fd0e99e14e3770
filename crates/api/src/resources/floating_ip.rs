//! `/v2.0/floatingips`.

use super::{ForwardedPort, StandardCreate, StandardUpdate, StandardView};
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::resource::present;
use crate::{Attribute, Error, Resource};
use model::resource::FloatingIp;
use model::{FloatingIpId, Mac, NetworkId, PortId, RouterId, SubnetId};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

impl Resource for FloatingIp {
    type Id = FloatingIpId;
    type Create = FloatingIpCreate;
    type Update = FloatingIpUpdate;
    type View = FloatingIpView;

    const NAME: &'static str = "floatingip";
    const COLLECTION: &'static str = "floatingips";
    const LACKS: &'static [&'static str] = &["name"];
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("floating_network_id", check::uuid).required(),
        Attribute::fixed("floating_ip_address", check::ipv4_or_null),
        Attribute { filter: false, ..Attribute::fixed("subnet_id", check::uuid_or_null) },
        Attribute::writable("port_id", check::uuid_or_null),
        Attribute::writable("fixed_ip_address", check::ipv4_or_null),
        Attribute::read_only("router_id", check::uuid_or_null),
    ];

    const POLICY: &'static Policy = &table::FLOATING_IP;

    fn not_found(id: String) -> Error {
        Error::FloatingIPNotFound { id }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct FloatingIpCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    pub floating_network_id: NetworkId,
    pub floating_ip_address: Option<Ipv4Addr>,
    pub subnet_id: Option<SubnetId>,
    pub port_id: Option<PortId>,
    pub fixed_ip_address: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct FloatingIpUpdate {
    #[serde(flatten)]
    pub standard: StandardUpdate,
    /// Null disassociates; so does a body without any attribute.
    #[serde(default, deserialize_with = "present")]
    pub port_id: Option<Option<PortId>>,
    #[serde(default, deserialize_with = "present")]
    pub fixed_ip_address: Option<Option<Ipv4Addr>>,
}

/// Of the port a floating IP stands for.
#[derive(Clone, Debug, Serialize)]
pub struct PortDetails {
    pub name: String,
    pub network_id: NetworkId,
    pub mac_address: Mac,
    pub admin_state_up: bool,
    pub status: &'static str,
    pub device_id: String,
    pub device_owner: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct FloatingIpView {
    pub id: FloatingIpId,
    pub floating_network_id: NetworkId,
    pub floating_ip_address: Ipv4Addr,
    pub fixed_ip_address: Option<Ipv4Addr>,
    pub port_id: Option<PortId>,
    pub router_id: Option<RouterId>,
    pub status: &'static str,
    pub port_details: Option<PortDetails>,
    pub port_forwardings: Vec<ForwardedPort>,
    #[serde(flatten)]
    pub standard: StandardView,
}

impl FloatingIpView {
    pub fn new(floating_ip: &FloatingIp, port_details: Option<PortDetails>) -> Self {
        let association = floating_ip.association;
        Self {
            id: floating_ip.id,
            floating_network_id: floating_ip.network,
            floating_ip_address: floating_ip.address,
            fixed_ip_address: association.map(|association| association.fixed_address),
            port_id: association.map(|association| association.port),
            router_id: floating_ip.router(),
            status: if floating_ip.programmed && floating_ip.router().is_some() { "ACTIVE" } else { "DOWN" },
            port_details,
            port_forwardings: floating_ip.forwardings.iter().map(ForwardedPort::new).collect(),
            standard: StandardView::of(&floating_ip.standard),
        }
    }
}
