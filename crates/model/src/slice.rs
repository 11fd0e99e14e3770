//! A host's slice: the part of the model that its own ports touch, as the controller tells it and the agent
//! keeps it on disk.
//!
//! A slice is a set of objects by id. The controller sends a snapshot and then deltas (upserts and removals);
//! applying either twice changes nothing. The size follows the host's own VMs: networks, routers and peers
//! their ports can reach, their security groups with what these name, and, on hosts that have a physical network,
//! the addresses and port blocks of its external networks.

mod meter;
mod routed;
mod security;
mod virtual_address;

use crate::resource::Ipv6Mode;
use crate::security::Ethertype;
use crate::{
    FloatingIpId, HostId, Mac, NetworkId, PortForwardingId, PortId, RouterId, SecurityGroupId,
    SecurityGroupRuleId, SubnetId, Vni,
};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use meter::{Meter, MeterRule};
pub use routed::{RoutedAddress, RoutedPort};
pub use security::{Member, MemberId, MemberOf, NotAMemberId, SecurityGroup, SecurityGroupRule};
pub use virtual_address::{NotAVirtualAddressId, VirtualAddress, VirtualAddressId};

/// A host's slice at a revision of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    pub revision: u64,
    pub hosts: BTreeMap<HostId, Host>,
    pub networks: BTreeMap<NetworkId, Network>,
    pub external_networks: BTreeMap<NetworkId, ExternalNetwork>,
    pub routers: BTreeMap<RouterId, Router>,
    pub ports: BTreeMap<PortId, Port>,
    pub floating_ips: BTreeMap<FloatingIpId, FloatingIp>,
    pub blocks: BTreeMap<BlockId, Block>,
    #[serde(default)]
    pub port_forwardings: BTreeMap<PortForwardingId, PortForwarding>,
    /// Of the host's own ports.
    #[serde(default)]
    pub security_groups: BTreeMap<SecurityGroupId, SecurityGroup>,
    /// Of these groups.
    #[serde(default)]
    pub security_group_rules: BTreeMap<SecurityGroupRuleId, SecurityGroupRule>,
    /// Of the groups that these rules name as remote ends, one by one, so that one more is a small delta.
    #[serde(default)]
    pub members: BTreeMap<MemberId, Member>,
    /// Of the slice's networks.
    #[serde(default)]
    pub virtual_addresses: BTreeMap<VirtualAddressId, VirtualAddress>,
    #[serde(default)]
    pub routed_ports: BTreeMap<PortId, RoutedPort>,
}

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    /// Tunnel address on the underlay.
    pub vtep: Ipv4Addr,
    /// Source MAC of what the host routes onto tunnels and uplinks.
    pub dvr_mac: Mac,
    pub physical_networks: Vec<String>,
    /// Its agent is connected and has programmed its slice, and it was not drained.
    pub live: bool,
}

/// A tenant network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub vni: Vni,
    pub name: String,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    pub admin_up: bool,
    pub subnets: BTreeMap<SubnetId, Subnet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub cidr: IpNet,
    pub gateway: Option<IpAddr>,
    /// None: DHCP is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<SubnetDhcp>,
    /// Of an IPv6 subnet: how its router tells guests to get addresses. None: the router says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    /// Of an IPv6 subnet: how guests get addresses. None: by nothing that Nanboku does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address_mode: Option<Ipv6Mode>,
}

/// What DHCP says on a subnet beyond prefix and gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetDhcp {
    pub dns_nameservers: Vec<IpAddr>,
    pub host_routes: Vec<StaticRoute>,
}

/// A network to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalNetwork {
    /// Scopes table keys; never on the wire.
    pub vni: Vni,
    pub name: String,
    pub mtu: u16,
    pub physical_network: String,
    /// 802.1Q id 1-4094; none: untagged.
    pub vlan: Option<u16>,
    pub egress: Egress,
    /// Ports per block: a power of two, 64 to 4096.
    pub block_size: u16,
    pub subnets: BTreeMap<SubnetId, Subnet>,
    /// Hosts that have the physical network and are live, ascending.
    pub gateways: Vec<HostId>,
}

/// Who outside may send to a mapping (RFC 4787 REQ-8, RFC 5382 REQ-3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Only the addresses and ports it was used towards.
    #[default]
    AddressAndPortDependent,
    /// The addresses it was used towards, from any port.
    AddressDependent,
    /// Anyone.
    EndpointIndependent,
}

/// Which hosts send to an external network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Every host that has the physical network sends itself.
    #[default]
    Direct,
    /// Only live gateways send, for fabrics that pin a source MAC to a port.
    Gateway,
}

/// The router of a VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// The transit network.
    pub vni: Vni,
    pub name: String,
    pub admin_up: bool,
    pub interfaces: Vec<Interface>,
    pub gateway: Option<RouterGateway>,
    /// Extra routes.
    pub routes: Vec<StaticRoute>,
}

/// A router's leg on a tenant network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub port: PortId,
    pub network: NetworkId,
    pub subnet: SubnetId,
    pub mac: Mac,
    pub address: IpAddr,
}

/// A router's external gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterGateway {
    pub network: NetworkId,
    pub enable_snat: bool,
    /// SNAT addresses, in the order of allocation.
    pub addresses: Vec<Ipv4Addr>,
    /// Its IPv6 addresses: nothing is translated to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<Ipv6Addr>,
    #[serde(default)]
    pub filtering: Filtering,
    /// Most mappings of one VM on a host at a time, 0: no limit.
    #[serde(default)]
    pub ports_per_vm_max: u32,
    /// New mappings of one VM on a host per second, 0: no limit. As many may come at once.
    #[serde(default)]
    pub mappings_per_second_max: u32,
    /// VMs may ask for mappings that anyone outside may send to, by PCP.
    #[serde(default)]
    pub port_control: bool,
    /// To and from these prefixes outside, VMs of the router have their own addresses (RFC 6888 REQ-6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untranslated_destinations: Vec<Ipv4Net>,
    /// Labels that count what crosses it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<Meter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    pub destination: IpNet,
    pub next_hop: IpAddr,
}

/// A port of a VM, on this host or another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub network: NetworkId,
    pub mac: Mac,
    pub addresses: Vec<IpAddr>,
    /// Where it is bound; none: nowhere yet.
    pub host: Option<HostId>,
    pub admin_up: bool,
    /// Anti-spoofing.
    pub port_security: bool,
    /// Further pairs the port may use; a missing MAC is the port's own.
    #[serde(default)]
    pub allowed_pairs: Vec<AllowedPair>,
    /// Whose rules filter it: told of the host's own ports only. None: everything passes.
    #[serde(default)]
    pub security_groups: Option<BTreeSet<SecurityGroupId>>,
    /// Of a port that is bound to the slice's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
}

/// What a VM's own host tells it, and of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    pub project_id: String,
    /// The VM's id, if a compute service made the port.
    pub device_id: String,
    /// DHCP options of the port itself; they win over the subnet's.
    pub dhcp_options: Vec<DhcpOption>,
    /// Likewise of DHCPv6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp6_options: Vec<DhcpOption>,
}

/// A DHCP option as Neutron's `extra_dhcp_opts` has it. What it is in bytes: [`crate::dhcp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOption {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedPair {
    pub mac: Option<Mac>,
    pub address: IpNet,
}

/// A floating IP that stands for a fixed address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloatingIp {
    pub external_network: NetworkId,
    pub address: Ipv4Addr,
    pub router: RouterId,
    pub port: PortId,
    /// Tenant network of the port.
    pub network: NetworkId,
    pub fixed_address: Ipv4Addr,
    /// Host of the port; none: not bound.
    pub host: Option<HostId>,
}

/// A port of a floating IP that stands for a port of a fixed address. The floating IP is what its forwardings say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortForwarding {
    pub external_network: NetworkId,
    /// The floating IP's.
    pub address: Ipv4Addr,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    pub external_port: u16,
    pub router: RouterId,
    pub port: PortId,
    /// Tenant network of the port.
    pub network: NetworkId,
    pub fixed_address: Ipv4Addr,
    pub internal_port: u16,
    /// Host of the port; none: not bound.
    pub host: Option<HostId>,
}

/// A port block's identity: address and first port on an external network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    pub external_network: NetworkId,
    pub address: Ipv4Addr,
    pub first_port: u16,
}

/// Who owns a port block. Its size is the external network's `block_size`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub router: RouterId,
    pub host: HostId,
    /// Its owner makes no new mappings in it; those there are go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retiring: bool,
}

/// One object of a slice with its id: the unit of deltas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "object", rename_all = "snake_case")]
pub enum Object {
    Host(HostId, Host),
    Network(NetworkId, Network),
    ExternalNetwork(NetworkId, ExternalNetwork),
    Router(RouterId, Router),
    Port(PortId, Port),
    FloatingIp(FloatingIpId, FloatingIp),
    Block(BlockId, Block),
    PortForwarding(PortForwardingId, PortForwarding),
    SecurityGroup(SecurityGroupId, SecurityGroup),
    SecurityGroupRule(SecurityGroupRuleId, SecurityGroupRule),
    Member(MemberId, Member),
    VirtualAddress(VirtualAddressId, VirtualAddress),
    RoutedPort(PortId, RoutedPort),
}

/// Names an object of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum ObjectId {
    Host(HostId),
    Network(NetworkId),
    ExternalNetwork(NetworkId),
    Router(RouterId),
    Port(PortId),
    FloatingIp(FloatingIpId),
    Block(BlockId),
    PortForwarding(PortForwardingId),
    SecurityGroup(SecurityGroupId),
    SecurityGroupRule(SecurityGroupRuleId),
    Member(MemberId),
    VirtualAddress(VirtualAddressId),
    RoutedPort(PortId),
}

/// What turns one slice into the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Revision after applying it.
    pub revision: u64,
    pub upserts: Vec<Object>,
    pub removals: Vec<ObjectId>,
}

impl Subnet {
    /// Without DHCP and router advertisements.
    pub fn new(cidr: IpNet, gateway: Option<IpAddr>) -> Self {
        Self { cidr, gateway, dhcp: None, ipv6_ra_mode: None, ipv6_address_mode: None }
    }
}

impl RouterGateway {
    /// Its addresses outside, of both versions.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv6 = self.ipv6_addresses.iter().copied().map(IpAddr::from);
        self.addresses.iter().copied().map(IpAddr::from).chain(ipv6)
    }
}

impl BlockId {
    /// The block's last port. `size`: the external network's block size, a power of two. The block that holds
    /// port 1024 may begin late, inside its place; it ends like every other.
    pub fn last_port(&self, size: u16) -> u16 {
        self.first_port | size.saturating_sub(1)
    }
}

impl std::fmt::Display for BlockId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}:{}", self.external_network, self.address, self.first_port)
    }
}

/// Text that is not `<network id>/<address>:<first port>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a port block of the form <network id>/<address>:<first port>")]
pub struct NotABlockId(String);

impl std::str::FromStr for BlockId {
    type Err = NotABlockId;

    fn from_str(text: &str) -> Result<Self, NotABlockId> {
        let parse = || {
            let (network, rest) = text.split_once('/')?;
            let (address, port) = rest.split_once(':')?;
            Some(Self {
                external_network: network.parse().ok()?,
                address: address.parse().ok()?,
                first_port: port.parse().ok()?,
            })
        };
        parse().ok_or_else(|| NotABlockId(text.to_owned()))
    }
}

impl Serialize for BlockId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Slice {
    /// Applies a delta. Idempotent.
    pub fn apply(&mut self, delta: Delta) {
        for object in delta.upserts {
            self.upsert(object);
        }
        for id in delta.removals {
            self.remove(id);
        }
        self.revision = delta.revision;
    }

    pub fn upsert(&mut self, object: Object) {
        match object {
            Object::Host(id, host) => drop(self.hosts.insert(id, host)),
            Object::Network(id, network) => drop(self.networks.insert(id, network)),
            Object::ExternalNetwork(id, network) => drop(self.external_networks.insert(id, network)),
            Object::Router(id, router) => drop(self.routers.insert(id, router)),
            Object::Port(id, port) => drop(self.ports.insert(id, port)),
            Object::FloatingIp(id, floating_ip) => drop(self.floating_ips.insert(id, floating_ip)),
            Object::Block(id, block) => drop(self.blocks.insert(id, block)),
            Object::PortForwarding(id, forwarding) => drop(self.port_forwardings.insert(id, forwarding)),
            Object::SecurityGroup(id, group) => drop(self.security_groups.insert(id, group)),
            Object::SecurityGroupRule(id, rule) => drop(self.security_group_rules.insert(id, rule)),
            Object::Member(id, member) => drop(self.members.insert(id, member)),
            Object::VirtualAddress(id, holder) => drop(self.virtual_addresses.insert(id, holder)),
            Object::RoutedPort(id, port) => drop(self.routed_ports.insert(id, port)),
        }
    }

    pub fn remove(&mut self, id: ObjectId) {
        match id {
            ObjectId::Host(id) => drop(self.hosts.remove(&id)),
            ObjectId::Network(id) => drop(self.networks.remove(&id)),
            ObjectId::ExternalNetwork(id) => drop(self.external_networks.remove(&id)),
            ObjectId::Router(id) => drop(self.routers.remove(&id)),
            ObjectId::Port(id) => drop(self.ports.remove(&id)),
            ObjectId::FloatingIp(id) => drop(self.floating_ips.remove(&id)),
            ObjectId::Block(id) => drop(self.blocks.remove(&id)),
            ObjectId::PortForwarding(id) => drop(self.port_forwardings.remove(&id)),
            ObjectId::SecurityGroup(id) => drop(self.security_groups.remove(&id)),
            ObjectId::SecurityGroupRule(id) => drop(self.security_group_rules.remove(&id)),
            ObjectId::Member(id) => drop(self.members.remove(&id)),
            ObjectId::VirtualAddress(id) => drop(self.virtual_addresses.remove(&id)),
            ObjectId::RoutedPort(id) => drop(self.routed_ports.remove(&id)),
        }
    }

    /// Takes out everything of IPv6, for a host that cannot read it.
    pub fn retain_ipv4(&mut self) {
        let external = self.external_networks.values_mut().map(|network| &mut network.subnets);
        for subnets in self.networks.values_mut().map(|network| &mut network.subnets).chain(external) {
            subnets.retain(|_, subnet| matches!(subnet.cidr, IpNet::V4(_)));
            for dhcp in subnets.values_mut().filter_map(|subnet| subnet.dhcp.as_mut()) {
                dhcp.dns_nameservers.retain(IpAddr::is_ipv4);
            }
        }
        for router in self.routers.values_mut() {
            router.interfaces.retain(|interface| interface.address.is_ipv4());
            router.routes.retain(|route| route.next_hop.is_ipv4());
            router.gateway.iter_mut().for_each(|gateway| gateway.ipv6_addresses.clear());
        }
        for port in self.ports.values_mut() {
            port.addresses.retain(IpAddr::is_ipv4);
            port.allowed_pairs.retain(|pair| matches!(pair.address, IpNet::V4(_)));
        }
        self.security_group_rules.retain(|_, rule| rule.ethertype == Ethertype::Ipv4);
        self.members.retain(|id, _| matches!(id.addresses, IpNet::V4(_)));
        self.virtual_addresses.retain(|id, _| id.address.is_ipv4());
        for port in self.routed_ports.values_mut() {
            port.addresses.retain(|routed| routed.address.is_ipv4());
        }
        self.routed_ports.retain(|_, port| !port.addresses.is_empty());
    }

    /// The delta that turns `self` into `target`.
    pub fn diff(&self, target: &Self) -> Delta {
        let mut delta = Delta { revision: target.revision, ..Delta::default() };
        diff_map(&self.hosts, &target.hosts, (Object::Host, ObjectId::Host), &mut delta);
        diff_map(&self.networks, &target.networks, (Object::Network, ObjectId::Network), &mut delta);
        diff_map(
            &self.external_networks,
            &target.external_networks,
            (Object::ExternalNetwork, ObjectId::ExternalNetwork),
            &mut delta,
        );
        diff_map(&self.routers, &target.routers, (Object::Router, ObjectId::Router), &mut delta);
        diff_map(&self.ports, &target.ports, (Object::Port, ObjectId::Port), &mut delta);
        diff_map(
            &self.floating_ips,
            &target.floating_ips,
            (Object::FloatingIp, ObjectId::FloatingIp),
            &mut delta,
        );
        diff_map(&self.blocks, &target.blocks, (Object::Block, ObjectId::Block), &mut delta);
        diff_map(
            &self.port_forwardings,
            &target.port_forwardings,
            (Object::PortForwarding, ObjectId::PortForwarding),
            &mut delta,
        );
        diff_map(
            &self.security_groups,
            &target.security_groups,
            (Object::SecurityGroup, ObjectId::SecurityGroup),
            &mut delta,
        );
        diff_map(
            &self.security_group_rules,
            &target.security_group_rules,
            (Object::SecurityGroupRule, ObjectId::SecurityGroupRule),
            &mut delta,
        );
        diff_map(&self.members, &target.members, (Object::Member, ObjectId::Member), &mut delta);
        diff_map(
            &self.virtual_addresses,
            &target.virtual_addresses,
            (Object::VirtualAddress, ObjectId::VirtualAddress),
            &mut delta,
        );
        diff_map(
            &self.routed_ports,
            &target.routed_ports,
            (Object::RoutedPort, ObjectId::RoutedPort),
            &mut delta,
        );
        delta
    }
}

/// How to make an object, and the name of one, from a map's entry.
type Constructors<K, V> = (fn(K, V) -> Object, fn(K) -> ObjectId);

fn diff_map<K: Copy + Ord, V: Clone + PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    (object, object_id): Constructors<K, V>,
    delta: &mut Delta,
) {
    for (id, value) in new {
        if old.get(id) != Some(value) {
            delta.upserts.push(object(*id, value.clone()));
        }
    }
    delta.removals.extend(old.keys().filter(|id| !new.contains_key(id)).map(|id| object_id(*id)));
}
