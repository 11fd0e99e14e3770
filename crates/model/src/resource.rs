//! The resources as they are stored: Neutron's, with typed ids. What a client sees of them is made in the
//! `api` crate; what a host sees, in `controller`'s slices.

use crate::slice::{AllowedPair, Egress, Filtering, StaticRoute};
use crate::{
    FloatingIpId, HostId, IpVersion, Mac, NetworkId, PortForwardingId, PortId, RouterId, SecurityGroupId,
    SubnetId, SubnetPoolId, Vni,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What every resource has (Neutron's standard attributes).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standard {
    pub name: String,
    pub description: String,
    /// Free text as the identity service gives it; empty for ports that belong to nobody.
    pub project_id: String,
    pub tags: Vec<String>,
    /// Seconds since 1970, UTC.
    pub created_at: i64,
    pub updated_at: i64,
    /// Grows with every change.
    pub revision_number: u64,
}

/// A network, tenant or external.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    pub standard: Standard,
    pub admin_state_up: bool,
    /// Told by versions in which networks themselves knew whether they are shared. Policies do
    /// ([`crate::rbac::RbacPolicy`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    pub mtu: u16,
    /// Allocated at creation, unique over networks and routers.
    pub vni: Vni,
    /// Where its frames are outside the overlay; set for external networks.
    pub provider: Option<Provider>,
    /// `router:external`.
    pub external: bool,
    pub is_default: bool,
    pub port_security_enabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub availability_zone_hints: Vec<String>,
}

/// `provider:*` of a network of type flat or vlan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    pub physical_network: String,
    /// None: flat (untagged).
    pub vlan: Option<u16>,
    pub egress: Egress,
    /// Ports per block: a power of two, 64 to 4096.
    pub block_size: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub id: SubnetId,
    pub standard: Standard,
    pub network: NetworkId,
    /// In its network form.
    pub cidr: IpNet,
    pub gateway_ip: Option<IpAddr>,
    pub enable_dhcp: bool,
    pub allocation_pools: Vec<AddressRange>,
    pub dns_nameservers: Vec<String>,
    pub host_routes: Vec<Route>,
    pub service_types: Vec<String>,
    /// Where its prefix is from.
    #[serde(default)]
    pub pool: Option<SubnetPoolId>,
    /// Of an IPv6 subnet: how guests get addresses, as its routers say and as Nanboku does.
    #[serde(default)]
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    #[serde(default)]
    pub ipv6_address_mode: Option<Ipv6Mode>,
}

impl Subnet {
    pub fn ip_version(&self) -> IpVersion {
        IpVersion::of_net(self.cidr)
    }

    pub fn ipv4_gateway(&self) -> Option<Ipv4Addr> {
        match self.gateway_ip {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        }
    }

    /// Guests make their addresses from the prefix and their MAC address.
    pub fn has_auto_addresses(&self) -> bool {
        let auto = |mode| matches!(mode, Some(Ipv6Mode::Slaac | Ipv6Mode::Stateless));
        auto(self.ipv6_ra_mode) || auto(self.ipv6_address_mode)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipv6Mode {
    #[serde(rename = "slaac")]
    Slaac,
    #[serde(rename = "dhcpv6-stateless")]
    Stateless,
    #[serde(rename = "dhcpv6-stateful")]
    Stateful,
}

/// Of a router, or told to guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpNet,
    pub next_hop: IpAddr,
}

impl From<Route> for StaticRoute {
    fn from(Route { destination, next_hop }: Route) -> Self {
        Self { destination, next_hop }
    }
}

/// First and last address, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    pub start: IpAddr,
    pub end: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub id: PortId,
    pub standard: Standard,
    pub network: NetworkId,
    pub mac: Mac,
    pub fixed_ips: Vec<FixedIp>,
    pub admin_state_up: bool,
    pub device_id: String,
    /// `compute:…`, `network:router_interface`, `network:router_gateway`, `network:floatingip` or "".
    pub device_owner: String,
    /// `binding:host_id`: the name asked for, possibly of a host that is not known.
    pub binding_host: String,
    /// `binding:profile`, kept for whoever wrote it.
    #[serde(default)]
    pub binding_profile: serde_json::Map<String, serde_json::Value>,
    pub vnic_type: String,
    pub port_security_enabled: bool,
    pub allowed_address_pairs: Vec<AddressPair>,
    #[serde(default)]
    pub extra_dhcp_options: Vec<DhcpOption>,
    /// Ascending. None: the port was made by a version without security groups, and everything passes until
    /// somebody names its groups.
    #[serde(default)]
    pub security_groups: Option<Vec<SecurityGroupId>>,
    /// The host that reported the port programmed, and at which revision.
    pub programmed_on: Option<HostId>,
}

/// Further addresses a port may use; a missing MAC is the port's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPair {
    pub mac: Option<Mac>,
    pub address: IpNet,
}

/// An address of allowed address pairs, and the port that announced it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualAddress {
    pub network: NetworkId,
    pub address: IpAddr,
    pub port: PortId,
    /// The port's own, or the pair's.
    pub mac: Mac,
}

impl From<AddressPair> for AllowedPair {
    fn from(AddressPair { mac, address }: AddressPair) -> Self {
        Self { mac, address }
    }
}

/// `extra_dhcp_opts`: a DHCP option of a port, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOption {
    /// Of the DHCP client tools, such as `bootfile-name`, or the option's number.
    pub name: String,
    pub value: String,
    pub ip_version: IpVersion,
}

/// The values of `device_owner` that mark ports Nanboku makes for itself.
pub mod device_owner {
    pub const ROUTER_INTERFACE: &str = "network:router_interface";
    pub const ROUTER_GATEWAY: &str = "network:router_gateway";
    pub const FLOATING_IP: &str = "network:floatingip";
}

impl Port {
    /// Belongs to the network itself (a router's leg, a floating IP's holder), not to a VM: never bound to a
    /// host.
    pub fn is_infrastructure(&self) -> bool {
        self.device_owner.starts_with("network:")
    }

    /// One of its pairs names the address with this MAC.
    pub fn may_announce(&self, address: IpAddr, mac: Mac) -> bool {
        let names =
            |pair: &AddressPair| pair.address.contains(&address) && pair.mac.unwrap_or(self.mac) == mac;
        self.allowed_address_pairs.iter().any(names)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedIp {
    pub subnet: SubnetId,
    pub address: IpAddr,
}

impl FixedIp {
    pub const fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    pub const fn ipv6(&self) -> Option<Ipv6Addr> {
        match self.address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    pub id: RouterId,
    pub standard: Standard,
    pub admin_state_up: bool,
    /// Of its transit network.
    pub vni: Vni,
    pub gateway: Option<GatewayInfo>,
    pub routes: Vec<Route>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub availability_zone_hints: Vec<String>,
}

/// `external_gateway_info`. Its addresses are the fixed IPs of the gateway port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayInfo {
    pub network: NetworkId,
    pub enable_snat: bool,
    pub port: PortId,
    #[serde(default)]
    pub filtering: Filtering,
    /// Most mappings of one VM on a host at a time, 0: no limit.
    #[serde(default)]
    pub ports_per_vm_max: u32,
    /// New mappings of one VM on a host per second, 0: no limit.
    #[serde(default)]
    pub mappings_per_second_max: u32,
    /// VMs may ask for mappings that anyone outside may send to, by PCP (RFC 6888 REQ-9).
    #[serde(default)]
    pub port_control: bool,
    /// To and from these prefixes outside, VMs of the router have their own addresses (RFC 6888 REQ-6).
    #[serde(default)]
    pub untranslated_destinations: Vec<ipnet::Ipv4Net>,
    /// Other routers that say so too may have the same SNAT addresses.
    #[serde(default)]
    pub snat_shared: bool,
}

impl GatewayInfo {
    /// A quarter of an address's ports: enough for 15,000 connections opened in a second, and a VM that takes
    /// all it can leaves its neighbours the rest (RFC 6888 REQ-4).
    pub const PORTS_PER_VM_MAX_DEFAULT: u32 = 16_384;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloatingIp {
    pub id: FloatingIpId,
    pub standard: Standard,
    pub network: NetworkId,
    pub address: Ipv4Addr,
    /// The `network:floatingip` port that holds the address.
    pub holder: PortId,
    pub association: Option<Association>,
    /// Instead of one association: its ports one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwardings: Vec<PortForwarding>,
    /// The hosts of the ports have it in their tables.
    pub programmed: bool,
}

impl FloatingIp {
    /// Its way in and out.
    pub fn router(&self) -> Option<RouterId> {
        let forwarded = self.forwardings.first().map(|forwarding| forwarding.router);
        self.association.map(|association| association.router).or(forwarded)
    }
}

/// What a floating IP stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Association {
    pub port: PortId,
    pub fixed_address: Ipv4Addr,
    pub router: RouterId,
}

/// A port of a floating IP that leads to a port of a fixed address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortForwarding {
    pub id: PortForwardingId,
    pub description: String,
    /// The same for all forwardings of a floating IP.
    pub router: RouterId,
    pub protocol: ForwardedProtocol,
    pub external_port: u16,
    pub port: PortId,
    /// One of the port's.
    pub internal_address: Ipv4Addr,
    pub internal_port: u16,
}

/// What can be forwarded: protocols whose ports the data path translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardedProtocol {
    Tcp,
    Udp,
}

impl ForwardedProtocol {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Of IP.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// A machine with an agent, made at the agent's first connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub id: HostId,
    pub name: String,
    pub vtep: Ipv4Addr,
    pub dvr_mac: Mac,
    pub physical_networks: Vec<String>,
    pub version: String,
    pub created_at: i64,
    pub started_at: i64,
    /// Set by an operator: takes no part as a gateway.
    pub drained: bool,
    /// An operator's words.
    #[serde(default)]
    pub description: String,
    /// Its agent is connected, or was a moment ago, and has programmed its slice. Kept in the store so that
    /// a restart of the controller changes no slice.
    #[serde(default)]
    pub live: bool,
}

/// A port block and its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBlock {
    pub external_network: NetworkId,
    pub address: Ipv4Addr,
    pub first_port: u16,
    pub router: RouterId,
    pub host: HostId,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub granted_at_ms: i64,
    /// Since when its owner makes no new mappings in it; it goes back once the last one has ended. Milliseconds
    /// since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring_since_ms: Option<i64>,
}

/// A port block that was given up: until it has rested, only its former owner may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestingBlock {
    pub external_network: NetworkId,
    pub address: Ipv4Addr,
    pub first_port: u16,
    /// The former owner.
    pub host: HostId,
    /// Milliseconds since 1970.
    pub since_ms: i64,
}
