//! The model of the benchmark: two hosts, one network with a VM on each, one router with an external network
//! behind both hosts, of which one at a time is in use.

use crate::topology::{OUTSIDE, OUTSIDE_MAC, VM_MTU, VM1_MAC, VM2_MAC, VTEP_A, VTEP_B};
use crate::variant::Way;
use anyhow::Context as _;
use compiler::{LinkFacts, LocalFacts, TunnelFacts, UplinkFacts};
use ipnet::Ipv4Net;
use model::security::{Direction, Ethertype, Remote};
use model::slice::{
    self, Block, BlockId, Egress, Interface, Member, MemberId, MemberOf, RouterGateway, Slice,
};
use model::{HostId, Mac, NetworkId, PortId, RouterId, SecurityGroupId, SecurityGroupRuleId, SubnetId, Vni};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

pub(crate) const SNAT_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const GATEWAY_MAC: Mac = Mac([0x02, 0x16, 0x3e, 0xff, 0, 1]);
const BLOCK_SIZE: u16 = 1024;
const PHYSICAL_NETWORK: &str = "physnet1";

const NETWORK: u128 = 1;
const EXTERNAL: u128 = 2;
const ROUTER: u128 = 3;
const GROUP: u128 = 4;
const EXTERNAL_VNI: u32 = 900;

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) const ALL: [Self; 2] = [Self::A, Self::B];

    pub(crate) const fn dvr_mac(self) -> Mac {
        Mac([0x02, 0x16, 0x3f, 0, 0, self.number()])
    }

    const fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    fn id(self) -> HostId {
        HostId::from_uuid(uuid(0x10 + u128::from(self.number())))
    }

    fn port(self) -> PortId {
        PortId::from_uuid(uuid(0x20 + u128::from(self.number())))
    }

    const fn vtep(self) -> Ipv4Addr {
        match self {
            Self::A => VTEP_A,
            Self::B => VTEP_B,
        }
    }

    /// Whether the host is the one that sends to the outside.
    const fn has_uplink(self, way: Way) -> bool {
        match way {
            Way::EastWest | Way::NorthSouth => matches!(self, Self::A),
            Way::NorthSouthRemote => matches!(self, Self::B),
        }
    }
}

/// Interfaces of a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interfaces {
    pub(crate) port: LinkFacts,
    pub(crate) underlay: u32,
    pub(crate) uplink: u32,
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn vni(number: u32) -> anyhow::Result<Vni> {
    Vni::new(number).context("a VNI out of range")
}

/// What the controller would tell either host.
pub(crate) fn slice(way: Way) -> anyhow::Result<Slice> {
    let mut slice = Slice::default();
    let network = NetworkId::from_uuid(uuid(NETWORK));
    for (side, mac, last) in [(Side::A, VM1_MAC, 10), (Side::B, VM2_MAC, 20)] {
        let physical = if side.has_uplink(way) { vec![PHYSICAL_NETWORK.to_owned()] } else { Vec::new() };
        let host = slice::Host {
            name: format!("host{}", side.number()),
            vtep: side.vtep(),
            dvr_mac: side.dvr_mac(),
            physical_networks: physical,
            live: true,
        };
        slice.hosts.insert(side.id(), host);
        let port = slice::Port {
            network,
            mac: Mac(mac),
            addresses: vec![Ipv4Addr::new(10, 1, 0, last).into()],
            host: Some(side.id()),
            admin_up: true,
            port_security: true,
            allowed_pairs: Vec::new(),
            security_groups: Some(BTreeSet::from([SecurityGroupId::from_uuid(uuid(GROUP))])),
            guest: None,
        };
        slice.ports.insert(side.port(), port);
    }
    add_group(&mut slice);
    add_networks(&mut slice, way)?;
    add_router(&mut slice)?;
    Ok(slice)
}

/// Neutron's default group: its ports may send everything, and be sent to by each other.
fn add_group(slice: &mut Slice) {
    let group = SecurityGroupId::from_uuid(uuid(GROUP));
    let rules = [(Direction::Egress, Remote::Any), (Direction::Ingress, Remote::Group(group))];
    let rules = [Ethertype::Ipv4, Ethertype::Ipv6]
        .into_iter()
        .flat_map(|ethertype| rules.map(|rule| (ethertype, rule)));
    for (number, (ethertype, (direction, remote))) in (0x40..).zip(rules) {
        let rule = slice::SecurityGroupRule {
            group,
            ethertype,
            direction,
            protocol: None,
            port_range_min: None,
            port_range_max: None,
            remote,
        };
        slice.security_group_rules.insert(SecurityGroupRuleId::from_uuid(uuid(number)), rule);
    }
    for (id, port) in &slice.ports {
        for address in &port.addresses {
            let member = MemberId { of: MemberOf::SecurityGroup(group), addresses: (*address).into() };
            slice.members.insert(member, Member { port: Some(*id) });
        }
    }
    let default = slice::SecurityGroup { name: "default".to_owned(), stateful: true };
    slice.security_groups.insert(group, default);
}

fn add_networks(slice: &mut Slice, way: Way) -> anyhow::Result<()> {
    let subnet = |prefix: [u8; 4], gateway: IpAddr| -> anyhow::Result<_> {
        let cidr = Ipv4Net::new(prefix.into(), 24)?;
        Ok(BTreeMap::from([(subnet_id(cidr), slice::Subnet::new(cidr.into(), Some(gateway)))]))
    };
    let network = slice::Network {
        vni: vni(100)?,
        name: "inside".to_owned(),
        mtu: VM_MTU,
        admin_up: true,
        subnets: subnet([10, 1, 0, 0], GATEWAY.into())?,
    };
    slice.networks.insert(NetworkId::from_uuid(uuid(NETWORK)), network);
    let external = slice::ExternalNetwork {
        vni: vni(EXTERNAL_VNI)?,
        name: "outside".to_owned(),
        mtu: 1500,
        physical_network: PHYSICAL_NETWORK.to_owned(),
        vlan: None,
        egress: Egress::Direct,
        block_size: BLOCK_SIZE,
        subnets: subnet([203, 0, 113, 0], OUTSIDE.into())?,
        gateways: Side::ALL.into_iter().filter(|side| side.has_uplink(way)).map(Side::id).collect(),
    };
    slice.external_networks.insert(NetworkId::from_uuid(uuid(EXTERNAL)), external);
    Ok(())
}

fn subnet_id(cidr: Ipv4Net) -> SubnetId {
    SubnetId::from_uuid(uuid(u128::from(u32::from(cidr.network()))))
}

/// The router, and every port block of its SNAT address for host a: how many connections a benchmark opens in
/// a second is not to be bound by how many blocks it was granted.
fn add_router(slice: &mut Slice) -> anyhow::Result<()> {
    let id = RouterId::from_uuid(uuid(ROUTER));
    let (network, external_network) =
        (NetworkId::from_uuid(uuid(NETWORK)), NetworkId::from_uuid(uuid(EXTERNAL)));
    let interface = Interface {
        port: PortId::from_uuid(uuid(0x30)),
        network,
        subnet: subnet_id(Ipv4Net::new(GATEWAY, 24)?),
        mac: GATEWAY_MAC,
        address: GATEWAY.into(),
    };
    let gateway = RouterGateway {
        network: external_network,
        enable_snat: true,
        addresses: vec![SNAT_ADDRESS],
        ipv6_addresses: Vec::new(),
        filtering: slice::Filtering::default(),
        ports_per_vm_max: 0,
        mappings_per_second_max: 0,
        port_control: false,
        untranslated_destinations: Vec::new(),
        meters: Vec::new(),
    };
    let router = slice::Router {
        vni: vni(1000)?,
        name: "router".to_owned(),
        admin_up: true,
        interfaces: vec![interface],
        gateway: Some(gateway),
        routes: Vec::new(),
    };
    slice.routers.insert(id, router);
    for first_port in (BLOCK_SIZE..=u16::MAX).step_by(usize::from(BLOCK_SIZE)) {
        let block = BlockId { external_network, address: SNAT_ADDRESS, first_port };
        slice.blocks.insert(block, Block { router: id, host: Side::A.id(), retiring: false });
    }
    Ok(())
}

/// What a host knows itself.
pub(crate) fn facts(
    side: Side,
    way: Way,
    interfaces: Interfaces,
    tunnel: TunnelFacts,
) -> anyhow::Result<LocalFacts> {
    let uplink = UplinkFacts { ifindex: interfaces.uplink, up: true };
    let uplinks = side.has_uplink(way).then(|| (PHYSICAL_NETWORK.to_owned(), uplink));
    Ok(LocalFacts {
        host: side.id(),
        vtep: side.vtep(),
        dvr_mac: side.dvr_mac(),
        underlay_net: Ipv4Net::new(side.vtep(), 24)?,
        underlay_ifindex: interfaces.underlay,
        underlay_mtu: 1550,
        dead_hosts: Default::default(),
        standing: Default::default(),
        acl_sizes: Default::default(),
        sessions_per_vm_max: pipeline::bounds::SESSIONS_PER_PORT_MAX,
        service: None,
        tunnel,
        links: BTreeMap::from([(side.port(), interfaces.port)]),
        uplinks: uplinks.into_iter().collect(),
        neighbors: BTreeMap::from([((vni(EXTERNAL_VNI)?, OUTSIDE.into()), Mac(OUTSIDE_MAC))]),
    })
}
