//! `/v2.0/ports`.

use super::{StandardCreate, StandardUpdate, StandardView, yes};
use crate::attribute::check;
use crate::policy::{Policy, table};
use crate::{Attribute, Error, Resource};
use ipnet::IpNet;
use model::resource::{AddressPair, DhcpOption, Port};
use model::{IpVersion, Mac, NetworkId, PortId, SecurityGroupId, SubnetId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

impl Resource for Port {
    type Id = PortId;
    type Create = PortCreate;
    type Update = PortUpdate;
    type View = PortView;

    const NAME: &'static str = "port";
    const COLLECTION: &'static str = "ports";
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::fixed("network_id", check::uuid).required(),
        Attribute::writable("mac_address", check::mac),
        Attribute::writable("admin_state_up", check::boolean),
        Attribute::writable("device_id", check::text),
        Attribute::writable("device_owner", check::text),
        Attribute::writable("fixed_ips", check::fixed_ips).not_filterable(),
        Attribute::writable("security_groups", check::uuids).not_filterable(),
        Attribute::writable("allowed_address_pairs", check::address_pairs).not_filterable(),
        Attribute::writable("port_security_enabled", check::boolean),
        Attribute::writable("binding:host_id", check::text_or_null),
        Attribute::writable("binding:vnic_type", check::vnic_type),
        Attribute::writable("binding:profile", check::dictionary).not_filterable(),
        Attribute::read_only("binding:vif_type", check::text),
        Attribute::writable("extra_dhcp_opts", check::dhcp_options).not_filterable(),
        Attribute::read_only("ip_allocation", check::text).not_filterable(),
    ];

    const POLICY: &'static Policy = &table::PORT;

    fn not_found(id: String) -> Error {
        Error::PortNotFound { id }
    }
}

/// Both may be given; one must.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct FixedIpRequest {
    pub subnet_id: Option<SubnetId>,
    pub ip_address: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FixedIpView {
    pub subnet_id: SubnetId,
    pub ip_address: IpAddr,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct AddressPairRequest {
    pub ip_address: IpNet,
    pub mac_address: Option<Mac>,
}

impl From<AddressPairRequest> for AddressPair {
    fn from(pair: AddressPairRequest) -> Self {
        Self { mac: pair.mac_address, address: pair.ip_address }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct PortCreate {
    #[serde(flatten)]
    pub standard: StandardCreate,
    pub network_id: NetworkId,
    pub mac_address: Option<Mac>,
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    #[serde(default)]
    pub device_id: String,
    #[serde(default)]
    pub device_owner: String,
    /// Absent: one address of a subnet of the network; empty: none.
    pub fixed_ips: Option<Vec<FixedIpRequest>>,
    /// Absent: the project's default group; empty: none.
    pub security_groups: Option<Vec<SecurityGroupId>>,
    #[serde(default)]
    pub allowed_address_pairs: Vec<AddressPairRequest>,
    /// Absent: as the network.
    pub port_security_enabled: Option<bool>,
    #[serde(rename = "binding:host_id")]
    pub host: Option<String>,
    #[serde(rename = "binding:profile", default)]
    pub profile: Map<String, Value>,
    #[serde(default)]
    pub extra_dhcp_opts: Vec<DhcpOptionChange>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PortUpdate {
    #[serde(flatten)]
    pub standard: StandardUpdate,
    pub mac_address: Option<Mac>,
    pub admin_state_up: Option<bool>,
    pub device_id: Option<String>,
    pub device_owner: Option<String>,
    pub fixed_ips: Option<Vec<FixedIpRequest>>,
    pub security_groups: Option<Vec<SecurityGroupId>>,
    pub allowed_address_pairs: Option<Vec<AddressPairRequest>>,
    pub port_security_enabled: Option<bool>,
    /// Null unbinds, as the empty name does.
    #[serde(rename = "binding:host_id", default, deserialize_with = "crate::resource::present")]
    pub host: Option<Option<String>>,
    #[serde(rename = "binding:profile")]
    pub profile: Option<Map<String, Value>>,
    /// Names that are not told stay.
    #[serde(default)]
    pub extra_dhcp_opts: Vec<DhcpOptionChange>,
}

/// One option set, or (without a value) taken away.
#[derive(Clone, Debug, Deserialize)]
pub struct DhcpOptionChange {
    pub opt_name: String,
    pub opt_value: Option<String>,
    #[serde(default = "version_4")]
    pub ip_version: IpVersion,
}

const fn version_4() -> IpVersion {
    IpVersion::V4
}

#[derive(Clone, Debug, Serialize)]
pub struct DhcpOptionView {
    opt_name: String,
    opt_value: String,
    ip_version: IpVersion,
}

impl From<&DhcpOption> for DhcpOptionView {
    fn from(option: &DhcpOption) -> Self {
        let DhcpOption { name, value, ip_version } = option.clone();
        Self { opt_name: name, opt_value: value, ip_version }
    }
}

#[derive(Clone, Debug, Serialize)]
struct AddressPairView {
    ip_address: String,
    mac_address: Mac,
}

#[derive(Clone, Debug, Serialize)]
pub struct PortView {
    pub id: PortId,
    pub name: String,
    pub network_id: NetworkId,
    pub mac_address: Mac,
    pub admin_state_up: bool,
    pub status: &'static str,
    pub device_id: String,
    pub device_owner: String,
    pub fixed_ips: Vec<FixedIpView>,
    pub security_groups: Vec<SecurityGroupId>,
    allowed_address_pairs: Vec<AddressPairView>,
    pub extra_dhcp_opts: Vec<DhcpOptionView>,
    /// `immediate`, `none`: addresses are chosen when the port is made.
    pub ip_allocation: &'static str,
    pub port_security_enabled: bool,
    #[serde(rename = "binding:vnic_type")]
    pub vnic_type: String,
    #[serde(rename = "binding:host_id")]
    pub host: String,
    #[serde(rename = "binding:profile")]
    pub profile: Map<String, Value>,
    #[serde(rename = "binding:vif_type")]
    pub vif_type: &'static str,
    #[serde(rename = "binding:vif_details")]
    pub vif_details: Map<String, Value>,
    #[serde(flatten)]
    pub standard: StandardView,
}

/// What a port's view needs to know beyond the port.
#[derive(Clone, Copy, Debug)]
pub struct PortFacts {
    /// Of the host of its binding: known and its agent connected. `None`: no such host.
    pub host_live: Option<bool>,
    /// The host of its binding has it in its tables.
    pub programmed: bool,
}

impl PortView {
    pub fn new(port: &Port, facts: PortFacts) -> Self {
        let pairs = port.allowed_address_pairs.iter().map(|pair| AddressPairView {
            ip_address: if pair.address.prefix_len() == pair.address.max_prefix_len() {
                pair.address.addr().to_string()
            } else {
                pair.address.to_string()
            },
            mac_address: pair.mac.unwrap_or(port.mac),
        });
        Self {
            id: port.id,
            name: port.standard.name.clone(),
            network_id: port.network,
            mac_address: port.mac,
            admin_state_up: port.admin_state_up,
            status: status(port, facts.programmed),
            device_id: port.device_id.clone(),
            device_owner: port.device_owner.clone(),
            fixed_ips: port
                .fixed_ips
                .iter()
                .map(|ip| FixedIpView { subnet_id: ip.subnet, ip_address: ip.address })
                .collect(),
            security_groups: port.security_groups.clone().unwrap_or_default(),
            allowed_address_pairs: pairs.collect(),
            extra_dhcp_opts: port.extra_dhcp_options.iter().map(DhcpOptionView::from).collect(),
            ip_allocation: if port.fixed_ips.is_empty() { "none" } else { "immediate" },
            port_security_enabled: port.port_security_enabled,
            vnic_type: port.vnic_type.clone(),
            host: port.binding_host.clone(),
            profile: port.binding_profile.clone(),
            vif_type: vif_type(port, facts.host_live),
            vif_details: Map::new(),
            standard: StandardView::of(&port.standard),
        }
    }
}

fn status(port: &Port, programmed: bool) -> &'static str {
    match port.device_owner.as_str() {
        "network:floatingip" => "N/A",
        // Routers are on every host that needs them: there is nothing to wait for.
        "network:router_interface" | "network:router_gateway" => "ACTIVE",
        _ if programmed && port.admin_state_up => "ACTIVE",
        _ => "DOWN",
    }
}

fn vif_type(port: &Port, host_live: Option<bool>) -> &'static str {
    match (port.binding_host.is_empty(), host_live, port.programmed_on) {
        (true, ..) => "unbound",
        (false, None, _) | (false, Some(false), None) => "binding_failed",
        (false, Some(_), _) => "ovs",
    }
}
