//! A scene for tests: host `ahv01` with the uplink `uplink0` (VLAN 2207), host `ahv02` without; router `vpc` between
//! `blue` and `green` and the outside; `vm_a` (blue) here, `vm_b` (blue) and `vm_c` (green) on `ahv02`.

use super::Scene;
use crate::neighbors::Known;
use crate::state::{Tunnel, TunnelSettings};
use compiler::{LinkFacts, LocalFacts, UplinkFacts};
use model::slice::*;
use model::{FloatingIpId, HostId, NetworkId, PortId, RouterId, SubnetId, Vni};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;
use uuid::Uuid;

pub(crate) const BLUE: u32 = 101;
pub(crate) const GREEN: u32 = 102;
pub(crate) const EXTERNAL: u32 = 201;
pub(crate) const ROUTER: u32 = 301;
pub(crate) const UPLINK: u32 = 3;
pub(crate) const TAP_A: u32 = 11;
pub(crate) const VM_A: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 11);
pub(crate) const VM_B: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 12);
pub(crate) const VM_C: Ipv4Addr = Ipv4Addr::new(192, 168, 20, 21);
pub(crate) const VTEP_1: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub(crate) const VTEP_2: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub(crate) const SNAT: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 27);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 1);

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn port_id(number: u128) -> PortId {
    PortId::from_uuid(id(number << 96 | number))
}

pub(crate) fn host_1() -> HostId {
    HostId::from_uuid(id(1))
}

pub(crate) fn host_2() -> HostId {
    HostId::from_uuid(id(2))
}

pub(crate) fn blue() -> NetworkId {
    NetworkId::from_uuid(id(11))
}

pub(crate) fn external() -> NetworkId {
    NetworkId::from_uuid(id(13))
}

pub(crate) fn router() -> RouterId {
    RouterId::from_uuid(id(21))
}

fn green() -> NetworkId {
    NetworkId::from_uuid(id(12))
}

pub(crate) fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

fn subnets(number: u128, cidr: &str, gateway: Ipv4Addr) -> BTreeMap<SubnetId, Subnet> {
    let subnet = Subnet::new(cidr.parse().unwrap(), Some(gateway.into()));
    BTreeMap::from([(SubnetId::from_uuid(id(number)), subnet)])
}

fn port(network: NetworkId, last: u8, address: Ipv4Addr, host: HostId) -> Port {
    Port {
        network,
        mac: model::Mac([0xfa, 0x16, 0x3e, 0, 0, last]),
        addresses: vec![address.into()],
        host: Some(host),
        admin_up: true,
        port_security: true,
        allowed_pairs: Vec::new(),
        security_groups: None,
        guest: None,
    }
}

pub(crate) fn slice() -> Slice {
    let mut slice = Slice { revision: 7, ..Slice::default() };
    for (host, name, vtep, physical) in
        [(host_1(), "ahv01", VTEP_1, &["physnet1"][..]), (host_2(), "ahv02", VTEP_2, &[][..])]
    {
        let dvr_mac = model::Mac([0xfa, 0x16, 0x3f, 0, 0, vtep.octets()[3]]);
        let physical_networks = physical.iter().map(|name| (*name).to_owned()).collect();
        let host_object = Host { name: name.to_owned(), vtep, dvr_mac, physical_networks, live: true };
        slice.hosts.insert(host, host_object);
    }
    let mut interfaces = Vec::new();
    for (number, network, name, vni_number, cidr, gateway) in [
        (31, blue(), "blue", BLUE, "192.168.10.0/24", Ipv4Addr::new(192, 168, 10, 1)),
        (32, green(), "green", GREEN, "192.168.20.0/24", Ipv4Addr::new(192, 168, 20, 1)),
    ] {
        let subnets = subnets(number, cidr, gateway);
        let object =
            Network { vni: vni(vni_number), name: name.to_owned(), mtu: 1450, admin_up: true, subnets };
        slice.networks.insert(network, object);
        interfaces.push(Interface {
            port: port_id(100 + number),
            network,
            subnet: SubnetId::from_uuid(id(number)),
            mac: model::Mac([0xfa, 0x16, 0x3e, 0, 1, number as u8]),
            address: gateway.into(),
        });
    }
    slice.external_networks.insert(external(), external_network());
    let gateway = RouterGateway {
        network: external(),
        enable_snat: true,
        addresses: vec![SNAT],
        ipv6_addresses: Vec::new(),
        filtering: Default::default(),
        ports_per_vm_max: 0,
        mappings_per_second_max: 0,
        port_control: false,
        untranslated_destinations: Vec::new(),
        meters: Vec::new(),
    };
    let object = Router {
        vni: vni(ROUTER),
        name: "vpc".to_owned(),
        admin_up: true,
        interfaces,
        gateway: Some(gateway),
        routes: Vec::new(),
    };
    slice.routers.insert(router(), object);
    slice.ports.insert(port_id(1), port(blue(), 1, VM_A, host_1()));
    slice.ports.insert(port_id(2), port(blue(), 2, VM_B, host_2()));
    slice.ports.insert(port_id(3), port(green(), 3, VM_C, host_2()));
    let floating_ip = FloatingIp {
        external_network: external(),
        address: Ipv4Addr::new(172, 22, 7, 100),
        router: router(),
        port: port_id(3),
        network: green(),
        fixed_address: VM_C,
        host: Some(host_2()),
    };
    slice.floating_ips.insert(FloatingIpId::from_uuid(id(41)), floating_ip);
    for (first_port, host) in [(1024, host_1()), (2048, host_2())] {
        let block = BlockId { external_network: external(), address: SNAT, first_port };
        slice.blocks.insert(block, Block { router: router(), host, retiring: false });
    }
    slice
}

fn external_network() -> ExternalNetwork {
    ExternalNetwork {
        vni: vni(EXTERNAL),
        name: "provider".to_owned(),
        mtu: 1500,
        physical_network: "physnet1".to_owned(),
        vlan: Some(2207),
        egress: Egress::Direct,
        block_size: 1024,
        subnets: subnets(33, "172.22.7.0/24", GATEWAY),
        gateways: vec![host_1()],
    }
}

pub(crate) fn gateway_mac() -> model::Mac {
    model::Mac([2, 0, 0, 0, 7, 1])
}

pub(crate) fn facts() -> LocalFacts {
    LocalFacts {
        host: host_1(),
        vtep: VTEP_1,
        dvr_mac: model::Mac([0xfa, 0x16, 0x3f, 0, 0, 1]),
        underlay_ifindex: 2,
        underlay_net: "10.1.0.1/24".parse().unwrap(),
        underlay_mtu: 1500,
        tunnel: Tunnel { geneve: true, port: 6081 }
            .facts(TunnelSettings { lone_path: true, liveness: false }, false),
        links: BTreeMap::from([(port_id(1), LinkFacts { ifindex: TAP_A, veth_peer_elsewhere: false })]),
        uplinks: BTreeMap::from([("physnet1".to_owned(), UplinkFacts { ifindex: UPLINK, up: true })]),
        neighbors: BTreeMap::from([((vni(EXTERNAL), GATEWAY.into()), gateway_mac())]),
        dead_hosts: BTreeSet::new(),
        standing: Default::default(),
        acl_sizes: Default::default(),
        sessions_per_vm_max: 0,
        service: None,
    }
}

/// `now`: the gateway was heard of two seconds before.
pub(crate) fn scene(now: Instant) -> Scene {
    let slice = slice();
    let compiled = compiler::compile(&slice, &facts());
    assert_eq!(compiled.problems, []);
    let known = Known {
        target: (vni(EXTERNAL), GATEWAY.into()),
        mac: Some(gateway_mac()),
        gateway: true,
        confirmed: now.checked_sub(std::time::Duration::from_secs(2)),
        unanswered: 0,
    };
    let asked = Known {
        target: (vni(EXTERNAL), Ipv4Addr::new(172, 22, 7, 9).into()),
        mac: None,
        gateway: false,
        confirmed: None,
        unanswered: 2,
    };
    let links = [(UPLINK, "uplink0".to_owned()), (TAP_A, port_id(1).link_name())];
    Scene::new(
        "ahv01".to_owned(),
        Some(host_1()),
        slice,
        Some(compiled),
        links.into(),
        vec![known, asked],
        dataplane::Timeouts::default(),
    )
}
