//! The two scenarios as slices, and tables as text.

use crate::{Compiled, LinkFacts, LocalFacts, ServiceFacts, TunnelFacts, TunnelProtocol, UplinkFacts};
use model::slice::*;
use model::{FloatingIpId, HostId, Mac, NetworkId, PortId, RouterId, SubnetId, Vni};
use pipeline::tables::ExternalAddressKey;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use uuid::Uuid;

/// ifindex of the first VM's link on every host.
pub(super) const TAP: u32 = 11;
const UNDERLAY: u32 = 2;
const UPLINK: u32 = 3;

/// A slice that every host of the scenario gets alike.
pub(super) struct Fixture {
    pub(super) slice: Slice,
    tunnel: TunnelFacts,
    neighbor: (Vni, Ipv4Addr, Mac),
}

/// Ids that can be read: the name's bytes.
fn uuid(kind: u8, name: &str) -> Uuid {
    let mut bytes = [0u8; 16];
    bytes[0] = kind;
    for (slot, byte) in bytes[1..].iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    Uuid::from_bytes(bytes)
}

pub(super) fn host_id(name: &str) -> HostId {
    HostId::from_uuid(uuid(1, name))
}

pub(super) fn port_id(name: &str) -> PortId {
    PortId::from_uuid(uuid(2, name))
}

/// Comes after every other port.
pub(super) fn last_port_id() -> PortId {
    PortId::from_uuid(Uuid::max())
}

fn network_id(name: &str) -> NetworkId {
    NetworkId::from_uuid(uuid(3, name))
}

fn subnet_id(name: &str) -> SubnetId {
    SubnetId::from_uuid(uuid(4, name))
}

fn router_id(name: &str) -> RouterId {
    RouterId::from_uuid(uuid(5, name))
}

fn floating_id(name: &str) -> FloatingIpId {
    FloatingIpId::from_uuid(uuid(6, name))
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

pub(super) fn route(destination: &str, next_hop: &str) -> StaticRoute {
    StaticRoute { destination: destination.parse().unwrap(), next_hop: ip(next_hop).into() }
}

fn subnets(name: &str, cidr: &str, gateway: &str) -> BTreeMap<SubnetId, Subnet> {
    let subnet = Subnet::new(cidr.parse().unwrap(), Some(ip(gateway).into()));
    BTreeMap::from([(subnet_id(name), subnet)])
}

fn network(slice: &mut Slice, name: &str, number: u32, cidr: &str, gateway: &str) {
    let subnets = subnets(name, cidr, gateway);
    let network = Network { vni: vni(number), name: name.to_owned(), mtu: 1450, admin_up: true, subnets };
    slice.upsert(Object::Network(network_id(name), network));
}

fn interface(name: &str, last: u8, address: &str) -> Interface {
    Interface {
        port: port_id(&format!("if-{name}")),
        network: network_id(name),
        subnet: subnet_id(name),
        mac: Mac([0xfa, 0x16, 0x3e, 0, 1, last]),
        address: ip(address).into(),
    }
}

fn hosts(slice: &mut Slice, names: &[(&str, bool)]) {
    for (number, (name, uplink)) in (1u8..).zip(names) {
        let host = Host {
            name: (*name).to_owned(),
            vtep: Ipv4Addr::new(10, 1, 0, number),
            dvr_mac: Mac([0xfa, 0x16, 0x3f, 0, 0, number]),
            physical_networks: if *uplink { vec!["physnet1".to_owned()] } else { Vec::new() },
            live: true,
        };
        slice.upsert(Object::Host(host_id(name), host));
    }
}

fn vm(slice: &mut Slice, name: &str, host: &str, last: u8, address: &str, on: &str) {
    let port = Port {
        network: network_id(on),
        mac: Mac([0xfa, 0x16, 0x3e, 0, 0, last]),
        addresses: vec![ip(address).into()],
        host: Some(host_id(host)),
        admin_up: true,
        port_security: true,
        allowed_pairs: Vec::new(),
        security_groups: None,
        guest: None,
    };
    slice.upsert(Object::Port(port_id(name), port));
}

fn block(slice: &mut Slice, external: &str, address: &str, first_port: u16, router: &str, host: &str) {
    let id = BlockId { external_network: network_id(external), address: ip(address), first_port };
    let block = Block { router: router_id(router), host: host_id(host), retiring: false };
    slice.upsert(Object::Block(id, block));
}

fn gateways(slice: &Slice) -> Vec<HostId> {
    let with = slice.hosts.iter().filter(|(_, host)| !host.physical_networks.is_empty());
    with.map(|(id, _)| *id).collect()
}

/// Scenario A: SNAT through two gateways, VLAN 2207.
pub(super) fn fvn() -> Fixture {
    let mut slice = Slice { revision: 1, ..Slice::default() };
    hosts(&mut slice, &[("ahv01", true), ("ahv02", true), ("ahv03", false)]);
    network(&mut slice, "blue", 101, "192.168.10.0/24", "192.168.10.1");
    let external = ExternalNetwork {
        vni: vni(201),
        name: "provider".to_owned(),
        mtu: 1500,
        physical_network: "physnet1".to_owned(),
        vlan: Some(2207),
        egress: Egress::Direct,
        block_size: 1024,
        subnets: subnets("provider", "172.22.7.0/24", "172.22.7.1"),
        gateways: gateways(&slice),
    };
    slice.upsert(Object::ExternalNetwork(network_id("provider"), external));
    let router = Router {
        vni: vni(301),
        name: "blue".to_owned(),
        admin_up: true,
        interfaces: vec![interface("blue", 1, "192.168.10.1")],
        gateway: Some(RouterGateway {
            network: network_id("provider"),
            enable_snat: true,
            addresses: vec![ip("172.22.7.27")],
            ipv6_addresses: Vec::new(),
            filtering: Default::default(),
            ports_per_vm_max: 0,
            mappings_per_second_max: 0,
            port_control: false,
            untranslated_destinations: Vec::new(),
            meters: Vec::new(),
        }),
        routes: Vec::new(),
    };
    slice.upsert(Object::Router(router_id("blue"), router));
    for (number, (name, host)) in (1u8..).zip([("vm_a", "ahv01"), ("vm_b", "ahv02"), ("vm_c", "ahv03")]) {
        vm(&mut slice, name, host, number, &format!("192.168.10.1{number}"), "blue");
        block(&mut slice, "provider", "172.22.7.27", 1024 * u16::from(number), "blue", host);
    }
    let tunnel = TunnelFacts {
        protocol: TunnelProtocol::Geneve,
        port: 6081,
        lone_path: true,
        geneve_as_vxlan: true,
        liveness: true,
    };
    Fixture { slice, tunnel, neighbor: (vni(201), ip("172.22.7.1"), Mac([2, 0, 0, 0, 7, 1])) }
}

/// Scenario B: a router with two networks, a floating IP on a compute host, untagged.
pub(super) fn dvr() -> Fixture {
    let mut slice = Slice { revision: 1, ..Slice::default() };
    hosts(&mut slice, &[("controller01", true), ("compute01", true), ("compute02", false)]);
    network(&mut slice, "private", 102, "192.168.111.0/24", "192.168.111.1");
    network(&mut slice, "second", 103, "10.16.0.0/24", "10.16.0.1");
    let external = ExternalNetwork {
        vni: vni(202),
        name: "public".to_owned(),
        mtu: 1500,
        physical_network: "physnet1".to_owned(),
        vlan: None,
        egress: Egress::Direct,
        block_size: 512,
        subnets: subnets("public", "192.168.74.0/24", "192.168.74.1"),
        gateways: gateways(&slice),
    };
    slice.upsert(Object::ExternalNetwork(network_id("public"), external));
    let router = Router {
        vni: vni(302),
        name: "router1".to_owned(),
        admin_up: true,
        interfaces: vec![interface("private", 1, "192.168.111.1"), interface("second", 2, "10.16.0.1")],
        gateway: Some(RouterGateway {
            network: network_id("public"),
            enable_snat: true,
            addresses: vec![ip("192.168.74.20")],
            ipv6_addresses: Vec::new(),
            filtering: Default::default(),
            ports_per_vm_max: 0,
            mappings_per_second_max: 0,
            port_control: false,
            untranslated_destinations: Vec::new(),
            meters: Vec::new(),
        }),
        routes: vec![route("10.50.0.0/16", "10.16.0.50"), route("10.51.0.0/16", "192.168.111.51")],
    };
    slice.upsert(Object::Router(router_id("router1"), router));
    vm(&mut slice, "vm_a", "compute01", 1, "192.168.111.11", "private");
    vm(&mut slice, "vm_b", "compute02", 2, "192.168.111.12", "private");
    vm(&mut slice, "vm_c", "compute02", 3, "10.16.0.13", "second");
    block(&mut slice, "public", "192.168.74.20", 1024, "router1", "compute01");
    block(&mut slice, "public", "192.168.74.20", 1536, "router1", "compute02");
    let floating_ip = FloatingIp {
        external_network: network_id("public"),
        address: ip("192.168.74.104"),
        router: router_id("router1"),
        port: port_id("vm_a"),
        network: network_id("private"),
        fixed_address: ip("192.168.111.11"),
        host: Some(host_id("compute01")),
    };
    slice.upsert(Object::FloatingIp(floating_id("fip"), floating_ip));
    let tunnel = TunnelFacts {
        protocol: TunnelProtocol::Vxlan,
        port: 4789,
        lone_path: true,
        geneve_as_vxlan: false,
        liveness: true,
    };
    Fixture { slice, tunnel, neighbor: (vni(202), ip("192.168.74.1"), Mac([2, 0, 0, 0, 74, 1])) }
}

impl Fixture {
    pub(super) fn host_names(&self) -> Vec<String> {
        self.slice.hosts.values().map(|host| host.name.clone()).collect()
    }

    pub(super) fn port(&self, name: &str) -> (PortId, Port) {
        (port_id(name), self.slice.ports[&port_id(name)].clone())
    }

    pub(super) fn floating_key(&self) -> ExternalAddressKey {
        ExternalAddressKey { external_vni: self.neighbor.0.get(), address: ip("192.168.74.104").into() }
    }

    /// What the host sees: its ports' links from [`TAP`] on, the uplink if it has one.
    pub(super) fn facts(&self, name: &str) -> LocalFacts {
        let host = &self.slice.hosts[&host_id(name)];
        let here = self.slice.ports.iter().filter(|(_, port)| port.host == Some(host_id(name)));
        let uplink =
            (!host.physical_networks.is_empty()).then_some(UplinkFacts { ifindex: UPLINK, up: true });
        let (vni, address, mac) = self.neighbor;
        LocalFacts {
            host: host_id(name),
            vtep: host.vtep,
            dvr_mac: host.dvr_mac,
            underlay_net: ipnet::Ipv4Net::new_assert(host.vtep, 24),
            underlay_ifindex: UNDERLAY,
            underlay_mtu: 1550,
            dead_hosts: Default::default(),
            standing: Default::default(),
            acl_sizes: Default::default(),
            sessions_per_vm_max: 0,
            service: Some(ServiceFacts { ifindex: 99, mac: Mac([2, 0, 0, 0, 0, 99]) }),
            tunnel: self.tunnel,
            links: here
                .zip(TAP..)
                .map(|((id, _), ifindex)| (*id, LinkFacts { ifindex, veth_peer_elsewhere: false }))
                .collect(),
            neighbors: uplink.iter().map(|_| ((vni, address.into()), mac)).collect(),
            uplinks: uplink.into_iter().map(|uplink| ("physnet1".to_owned(), uplink)).collect(),
        }
    }
}

/// One line per entry: table, key, value, and who made it.
pub(super) fn render(compiled: &Compiled) -> String {
    let mut out = format!("{:?}\n", compiled.tables.config);
    let tables = &compiled.tables;
    macro_rules! lines {
        ($($field:ident)*) => {$(
            for (key, value) in &tables.$field {
                let name = crate::EntryName {
                    table: stringify!($field),
                    key: crate::output::KeyBytes::key_bytes(key),
                };
                let why = compiled.provenance.get(&name).map_or("nobody", |provenance| provenance.why);
                writeln!(out, "{} {key:?} = {value:?}  # {why}", name.table).unwrap();
            }
        )*};
    }
    lines!(ports port_addresses networks stations neighbors routes externals uplinks gateways
        external_addresses forwardings floating_by_fixed snat own_blocks block_owners vteps services);
    for problem in &compiled.problems {
        writeln!(out, "problem {problem:?}").unwrap();
    }
    out
}
