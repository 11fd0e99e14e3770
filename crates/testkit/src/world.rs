//! A cluster in memory: the model of a scenario, compiled for every host, and packets that walk through the
//! hosts' pipelines until they arrive somewhere.
//!
//! The scenario is `fvn` with a second VPC of equal addresses and a second network: hosts ahv01 and ahv02
//! have the provider network (VLAN 2207), ahv03 has none.

use crate::frames::{self, Ends, Read};
use compiler::{LinkFacts, LocalFacts, ServiceFacts, TunnelFacts, TunnelProtocol, UplinkFacts, compile};
use ipnet::Ipv4Net;
use model::slice::{
    self, Block, BlockId, Egress, Filtering, FloatingIp, Interface, PortForwarding, RouterGateway, Slice,
};
use model::{FloatingIpId, HostId, Mac, NetworkId, PortForwardingId, PortId, RouterId, SubnetId, Vni};
use packet::MacAddr;
use pipeline::host::{Frame, HostTables};
use pipeline::nat::{Mapping, MappingKey};
use pipeline::table_set::TableSet;
use pipeline::{Origin, TunnelKey, Verdict, Work};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use uuid::Uuid;

pub const UNDERLAY: u32 = 2;
pub const UPLINK: u32 = 3;
/// The link of the host's services.
pub const SERVICE: u32 = 4;
pub const VLAN: u16 = 2207;
pub const SNAT_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 27);
/// SNAT address of the second VPC.
pub const SNAT_GREEN: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 28);
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 1);
pub const GATEWAY_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 1]);
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
pub const BLOCK_SIZE: u16 = 1024;

/// A VM's place and addresses.
#[derive(Clone, Copy, Debug)]
pub struct Vm {
    pub host: usize,
    pub ifindex: u32,
    pub port: PortId,
    pub network: NetworkId,
    pub mac: MacAddr,
    pub address: Ipv4Addr,
    /// MAC of its router.
    pub router_mac: MacAddr,
}

impl Vm {
    /// Its address in worlds with IPv6.
    pub fn address6(&self) -> Ipv6Addr {
        let [.., last] = self.address.octets();
        let network = (1..=3).find(|number| network_id(*number) == self.network);
        crate::ipv6::address6(network.expect("a network of the scenario"), last)
    }
}

/// One host.
pub struct Host {
    pub id: HostId,
    pub facts: LocalFacts,
    pub tables: HostTables,
    /// What was programmed, by generation.
    pub programmed: Vec<TableSet>,
    work: Box<Work>,
}

/// Where a frame ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Out of an interface of a host: a VM's port.
    Port { host: usize, ifindex: u32, frame: Vec<u8> },
    /// On the provider network, from a host, with its VLAN tag.
    Uplink { host: usize, vlan: Option<u16>, frame: Vec<u8> },
    /// Consumed at a host.
    Nowhere { host: usize, verdict: Verdict },
}

/// One call of an entry point, for replaying against another implementation.
#[derive(Clone, Debug)]
pub struct Step {
    pub host: usize,
    pub entry: Entry,
    pub input: Frame,
    pub verdict: Verdict,
    pub output: Frame,
    /// How often the world had been programmed.
    pub generation: usize,
    /// Mappings that the call made: an implementation that draws other random numbers is given them.
    pub made: Vec<(MappingKey, Mapping)>,
}

/// An entry point of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Port {
        ifindex: u32,
    },
    Underlay,
    /// Of the kernel's tunnel device, which decapsulated it.
    Tunnel {
        vni: u32,
        vtep: Ipv4Addr,
    },
    Uplink {
        ifindex: u32,
    },
    /// The agent gives a packet back that it was handed whole.
    Agent {
        origin: Origin,
    },
}

/// What may differ between worlds.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub protocol: TunnelProtocol,
    pub egress: Egress,
    /// Of the external network.
    pub vlan: Option<u16>,
    pub filtering: Filtering,
    pub ports_per_vm_max: u32,
    /// Of a VM behind a router, 0: any number.
    pub mappings_per_second_max: u32,
    /// Of a VM on a host, 0: any number.
    pub sessions_per_vm_max: u32,
    /// Every block has one port, so that the choice of ports is no choice: for comparing with an
    /// implementation that draws other random numbers.
    pub single_port_blocks: bool,
}

impl Options {
    /// On the VLAN, with the defaults of a router.
    pub fn new(protocol: TunnelProtocol, egress: Egress) -> Self {
        Self {
            protocol,
            egress,
            vlan: Some(VLAN),
            filtering: Filtering::default(),
            ports_per_vm_max: 0,
            mappings_per_second_max: 0,
            sessions_per_vm_max: 0,
            single_port_blocks: false,
        }
    }
}

pub struct World {
    pub slice: Slice,
    pub hosts: Vec<Host>,
    pub vms: BTreeMap<&'static str, Vm>,
    pub steps: Vec<Step>,
    pub options: Options,
}

fn uuid(kind: u128, number: u128) -> Uuid {
    Uuid::from_u128((kind << 64) | number)
}

pub fn network_id(number: u128) -> NetworkId {
    NetworkId::from_uuid(uuid(1, number))
}

pub fn router_id(number: u128) -> RouterId {
    RouterId::from_uuid(uuid(2, number))
}

pub fn floating_id(number: u128) -> FloatingIpId {
    FloatingIpId::from_uuid(uuid(3, number))
}

pub fn forwarding_id(number: u128) -> PortForwardingId {
    PortForwardingId::from_uuid(uuid(8, number))
}

pub(crate) fn subnet_id(number: u128) -> SubnetId {
    SubnetId::from_uuid(uuid(4, number))
}

fn port_id(number: u128) -> PortId {
    PortId::from_uuid(uuid(5, number))
}

pub(crate) fn vni(number: u32) -> Vni {
    Vni::new(number).expect("a VNI of the scenario")
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a prefix of the scenario")
}

/// MAC of the interface of a router on a network.
pub(crate) fn router_mac(network: u128) -> MacAddr {
    MacAddr([0xfa, 0x16, 0x3e, 0xff, 0, network as u8])
}

pub(crate) const EXTERNAL: u128 = 9;

impl World {
    /// The scenario over a tunnel protocol, with one way of egress, on the VLAN.
    pub fn new(protocol: TunnelProtocol, egress: Egress) -> Self {
        Self::with(Options::new(protocol, egress))
    }

    pub fn with(options: Options) -> Self {
        let mut world = Self {
            slice: Slice::default(),
            hosts: Vec::new(),
            vms: BTreeMap::new(),
            steps: Vec::new(),
            options,
        };
        world.add_hosts(options.protocol);
        // VPC blue: 192.168.10.0/24 and 10.16.0.0/24; VPC green: 192.168.10.0/24 again.
        world.add_network(1, 101, "192.168.10.0/24");
        world.add_network(2, 102, "10.16.0.0/24");
        world.add_network(3, 103, "192.168.10.0/24");
        world.add_external();
        world.add_router(1, 1001, &[1, 2], SNAT_ADDRESS);
        world.add_router(2, 1002, &[3], SNAT_GREEN);
        for (number, name, host, network, last) in [
            (1, "vm_a", 0, 1, 11),
            (2, "vm_b", 1, 1, 12),
            (3, "vm_c", 2, 1, 13),
            (4, "vm_d", 0, 2, 11),
            (5, "vm_e", 0, 3, 11),
            (6, "vm_f", 2, 3, 13),
            (7, "vm_g", 0, 1, 14),
        ] {
            world.add_vm(number, name, (host, network, last));
        }
        for host in 0..3u16 {
            world.add_block(1, SNAT_ADDRESS, host as usize, BLOCK_SIZE * (host + 1));
            world.add_block(2, SNAT_GREEN, host as usize, BLOCK_SIZE * (host + 1));
        }
        world.program();
        world
    }

    fn add_hosts(&mut self, protocol: TunnelProtocol) {
        let names = ["ahv01", "ahv02", "ahv03"];
        for (index, name) in names.iter().enumerate() {
            let number = index as u8 + 1;
            let id = HostId::from_uuid(uuid(6, u128::from(number)));
            let physical = if index < 2 { vec!["physnet1".to_owned()] } else { Vec::new() };
            let dvr_mac = Mac([0xfa, 0x16, 0x3f, 0, 0, number]);
            let vtep = Ipv4Addr::new(10, 0, 0, number);
            let host = slice::Host {
                name: (*name).to_owned(),
                vtep,
                dvr_mac,
                physical_networks: physical.clone(),
                live: true,
            };
            self.slice.hosts.insert(id, host);
            let uplink = UplinkFacts { ifindex: UPLINK, up: true };
            let facts = LocalFacts {
                host: id,
                vtep,
                dvr_mac,
                underlay_net: Ipv4Net::new_assert(vtep, 24),
                underlay_ifindex: UNDERLAY,
                underlay_mtu: 1550,
                dead_hosts: Default::default(),
                standing: Default::default(),
                acl_sizes: Default::default(),
                sessions_per_vm_max: self.options.sessions_per_vm_max,
                service: Some(ServiceFacts { ifindex: SERVICE, mac: Mac(pipeline::SERVICE_MAC.0) }),
                tunnel: TunnelFacts {
                    protocol,
                    port: 6081,
                    lone_path: true,
                    geneve_as_vxlan: true,
                    liveness: true,
                },
                links: BTreeMap::new(),
                uplinks: physical.into_iter().map(|name| (name, uplink)).collect(),
                neighbors: BTreeMap::from([((vni(900), GATEWAY_ADDRESS.into()), Mac(GATEWAY_MAC.0))]),
            };
            let tables = HostTables::new(TableSet::default(), u64::from(number));
            let work = Box::new(Work::zeroed());
            self.hosts.push(Host { id, facts, tables, programmed: Vec::new(), work });
        }
    }

    fn add_network(&mut self, number: u128, id: u32, cidr: &str) {
        let cidr = net(cidr);
        let gateway = cidr.hosts().next();
        let subnets =
            BTreeMap::from([(subnet_id(number), slice::Subnet::new(cidr.into(), gateway.map(Into::into)))]);
        let name = format!("network{number}");
        let network = slice::Network { vni: vni(id), name, mtu: 1450, admin_up: true, subnets };
        self.slice.networks.insert(network_id(number), network);
    }

    fn add_external(&mut self) {
        let subnet = slice::Subnet::new(net("172.22.7.0/24").into(), Some(GATEWAY_ADDRESS.into()));
        let external = slice::ExternalNetwork {
            vni: vni(900),
            name: "external".to_owned(),
            mtu: 1500,
            physical_network: "physnet1".to_owned(),
            vlan: self.options.vlan,
            egress: self.options.egress,
            block_size: BLOCK_SIZE,
            subnets: BTreeMap::from([(subnet_id(EXTERNAL), subnet)]),
            gateways: self.hosts.iter().take(2).map(|host| host.id).collect(),
        };
        self.slice.external_networks.insert(network_id(EXTERNAL), external);
    }

    fn add_router(&mut self, number: u128, transit: u32, networks: &[u128], snat: Ipv4Addr) {
        let interface = |network: &u128| {
            let subnets = &self.slice.networks[&network_id(*network)].subnets;
            Interface {
                port: port_id(0x100 + network),
                network: network_id(*network),
                subnet: subnet_id(*network),
                mac: Mac(router_mac(*network).0),
                address: subnets[&subnet_id(*network)].gateway.expect("a gateway"),
            }
        };
        let gateway = RouterGateway {
            network: network_id(EXTERNAL),
            enable_snat: true,
            addresses: vec![snat],
            ipv6_addresses: Vec::new(),
            filtering: self.options.filtering,
            ports_per_vm_max: self.options.ports_per_vm_max,
            mappings_per_second_max: self.options.mappings_per_second_max,
            port_control: false,
            untranslated_destinations: Vec::new(),
            meters: Vec::new(),
        };
        let router = slice::Router {
            vni: vni(transit),
            name: format!("router{number}"),
            admin_up: true,
            interfaces: networks.iter().map(interface).collect(),
            gateway: Some(gateway),
            routes: Vec::new(),
        };
        self.slice.routers.insert(router_id(number), router);
    }

    fn add_vm(&mut self, number: u128, name: &'static str, (host, network, last): (usize, u128, u8)) {
        let cidr = self.slice.networks[&network_id(network)].subnets[&subnet_id(network)].cidr;
        let IpAddr::V4(first) = cidr.network() else { panic!("{cidr}: VMs are added to IPv4 subnets") };
        let [a, b, c, _] = first.octets();
        let vm = Vm {
            host,
            ifindex: 100 + number as u32,
            port: port_id(number),
            network: network_id(network),
            mac: MacAddr([0xfa, 0x16, 0x3e, 0, 0, number as u8]),
            address: Ipv4Addr::new(a, b, c, last),
            router_mac: router_mac(network),
        };
        let port = slice::Port {
            network: vm.network,
            mac: Mac(vm.mac.0),
            addresses: vec![vm.address.into()],
            host: Some(self.hosts[host].id),
            admin_up: true,
            port_security: true,
            allowed_pairs: Vec::new(),
            security_groups: None,
            guest: None,
        };
        self.slice.ports.insert(vm.port, port);
        self.hosts[host]
            .facts
            .links
            .insert(vm.port, LinkFacts { ifindex: vm.ifindex, veth_peer_elsewhere: false });
        self.vms.insert(name, vm);
    }

    pub fn add_block(&mut self, router: u128, address: Ipv4Addr, host: usize, first_port: u16) {
        let id = BlockId { external_network: network_id(EXTERNAL), address, first_port };
        let block = Block { router: router_id(router), host: self.hosts[host].id, retiring: false };
        self.slice.blocks.insert(id, block);
    }

    /// Attaches a floating IP to a VM; takes effect with the next [`Self::program`].
    pub fn add_floating(&mut self, number: u128, vm: &str, router: u128, address: Ipv4Addr) {
        let vm = self.vms[vm];
        let floating = FloatingIp {
            external_network: network_id(EXTERNAL),
            address,
            router: router_id(router),
            port: vm.port,
            network: vm.network,
            fixed_address: vm.address,
            host: Some(self.hosts[vm.host].id),
        };
        self.slice.floating_ips.insert(floating_id(number), floating);
    }

    /// Forwards a port of a floating IP to a VM's port; takes effect with the next [`Self::program`].
    pub fn add_forwarding(
        &mut self,
        number: u128,
        protocol: u8,
        (address, external_port): (Ipv4Addr, u16),
        (vm, internal_port): (&str, u16),
    ) {
        let vm = self.vms[vm];
        let forwarding = PortForwarding {
            external_network: network_id(EXTERNAL),
            address,
            protocol,
            external_port,
            router: router_id(1),
            port: vm.port,
            network: vm.network,
            fixed_address: vm.address,
            internal_port,
            host: Some(self.hosts[vm.host].id),
        };
        self.slice.port_forwardings.insert(forwarding_id(number), forwarding);
    }

    /// Compiles the slice for every host and programs it, in a new epoch.
    pub fn program(&mut self) {
        for host in &mut self.hosts {
            let compiled = compile(&told(&self.slice, host.id), &host.facts);
            assert!(compiled.problems.is_empty(), "{:?}", compiled.problems);
            let mut tables = compiled.tables;
            if self.options.single_port_blocks {
                tables.own_blocks.values_mut().for_each(|block| block.size = 1);
            }
            host.programmed.push(tables.clone());
            host.tables.reconfigure(tables);
        }
    }

    /// A VM sends a frame.
    pub fn from_vm(&mut self, name: &str, frame: Vec<u8>) -> Arrival {
        let vm = self.vms[name];
        self.enter(vm.host, Entry::Port { ifindex: vm.ifindex }, Frame::new(frame))
    }

    /// A frame arrives on the provider NIC of a host, tagged as the external network is.
    pub fn from_outside(&mut self, host: usize, frame: Vec<u8>) -> Arrival {
        let frame = Frame { bytes: frame, vlan: self.options.vlan, gso_size: 0 };
        self.enter(host, Entry::Uplink { ifindex: UPLINK }, frame)
    }

    /// Runs an entry point and follows the tunnel to other hosts.
    pub fn enter(&mut self, host: usize, entry: Entry, frame: Frame) -> Arrival {
        let (mut host, mut entry, mut frame) = (host, entry, frame);
        // Source host, gateway, owner: a packet never needs more hosts than that, plus one for hairpin.
        for _ in 0..4 {
            let from_host = matches!(self.steps.last(), Some(step) if matches!(step.verdict, Verdict::Tunnel { .. }))
                && entry == Entry::Underlay;
            let (mut verdict, mut output) = self.step(host, entry, frame);
            if from_host && verdict == Verdict::Pass {
                let (vni, vtep) = decapsulate(&mut output.bytes);
                (verdict, output) = self.step(host, Entry::Tunnel { vni, vtep }, output);
            }
            match verdict {
                Verdict::Port { ifindex } => {
                    return Arrival::Port { host, ifindex, frame: output.bytes };
                }
                Verdict::Uplink { .. } => {
                    return Arrival::Uplink { host, vlan: output.vlan, frame: output.bytes };
                }
                Verdict::Tunnel { ifindex } => {
                    assert_eq!(ifindex, UNDERLAY);
                    let vtep = Ipv4Addr::from(<[u8; 4]>::try_from(&output.bytes[30..34]).expect("IPv4"));
                    host = self.host_at(vtep);
                    (entry, frame) = (Entry::Underlay, output);
                }
                Verdict::Pass | Verdict::Drop(..) | Verdict::Punt(_) => {
                    return Arrival::Nowhere { host, verdict };
                }
            }
        }
        panic!("the packet goes round in circles");
    }

    fn host_at(&self, vtep: Ipv4Addr) -> usize {
        self.hosts.iter().position(|host| host.facts.vtep == vtep).expect("a host of the scenario")
    }

    fn step(&mut self, host: usize, entry: Entry, input: Frame) -> (Verdict, Frame) {
        let Host { tables, work, programmed, .. } = &mut self.hosts[host];
        let generation = programmed.len();
        let mut frame = input.clone();
        let before = tables.mappings.borrow().clone();
        let verdict = match entry {
            Entry::Port { ifindex } => pipeline::from_port(&mut frame, tables, work, ifindex),
            Entry::Underlay => pipeline::from_underlay(&mut frame, tables, work),
            Entry::Tunnel { vni, vtep } => {
                let key = TunnelKey { vni, vtep: vtep.into(), lone: false };
                pipeline::from_tunnel(&mut frame, tables, work, key)
            }
            Entry::Uplink { ifindex } => pipeline::from_uplink(&mut frame, tables, work, ifindex),
            Entry::Agent { origin } => pipeline::from_agent(&mut frame, tables, work, &origin),
        };
        let after = tables.mappings.borrow();
        let made = after.iter().filter(|(key, mapping)| before.get(key) != Some(mapping));
        let made = made.map(|(key, mapping)| (*key, *mapping)).collect();
        self.steps.push(Step { host, entry, input, verdict, output: frame.clone(), generation, made });
        (verdict, frame)
    }
}

/// What the kernel's tunnel device does: the frame inside, its VNI and the host it came from.
fn decapsulate(frame: &mut Vec<u8>) -> (u32, Ipv4Addr) {
    let inner = frame.split_off(50);
    let outer = std::mem::replace(frame, inner);
    let field = |at: usize| <[u8; 4]>::try_from(&outer[at..at + 4]).expect("four bytes");
    (u32::from_be_bytes(field(46)) >> 8, field(26).into())
}

/// What a host is told of the port blocks: all of them where it has the physical network, else its own.
fn told(slice: &Slice, host: HostId) -> Slice {
    let mut told = slice.clone();
    let may_be_gateway = slice.hosts.get(&host).is_some_and(|host| !host.physical_networks.is_empty());
    if !may_be_gateway {
        told.blocks.retain(|_, block| block.host == host);
    }
    told
}

/// Short ways to say what most tests send and expect.
impl World {
    /// A frame from one VM to an address, through its router.
    pub fn routed(&self, from: &str, dst: Ipv4Addr, (src_port, dst_port): (u16, u16)) -> Ends {
        let vm = self.vms[from];
        Ends { src_mac: vm.mac, dst_mac: vm.router_mac, src: vm.address, dst, src_port, dst_port }
    }

    /// A frame from one VM to another on the same network.
    pub fn switched(&self, from: &str, to: &str, (src_port, dst_port): (u16, u16)) -> Ends {
        let (from, to) = (self.vms[from], self.vms[to]);
        Ends { src_mac: from.mac, dst_mac: to.mac, src: from.address, dst: to.address, src_port, dst_port }
    }

    /// A frame from the outside router to an address, on a host's provider NIC.
    pub fn outside(
        &self,
        host: usize,
        (src, src_port): (Ipv4Addr, u16),
        (dst, dst_port): (Ipv4Addr, u16),
    ) -> Ends {
        let dst_mac = MacAddr(self.hosts[host].facts.dvr_mac.0);
        Ends { src_mac: GATEWAY_MAC, dst_mac, src, dst, src_port, dst_port }
    }

    /// The frame that reached a VM, read and verified.
    ///
    /// # Panics
    /// If the packet arrived anywhere else.
    pub fn at_vm(&self, name: &str, arrival: &Arrival) -> Read {
        frames::read(self.frame_at_vm(name, arrival))
    }

    /// Likewise, as it lies there.
    ///
    /// # Panics
    /// Likewise.
    pub fn frame_at_vm<'a>(&self, name: &str, arrival: &'a Arrival) -> &'a [u8] {
        let vm = self.vms[name];
        match arrival {
            Arrival::Port { host, ifindex, frame } if (*host, *ifindex) == (vm.host, vm.ifindex) => frame,
            other => panic!("expected at {name}, got {other:?}\n{}", self.last_steps()),
        }
    }

    /// The frame that left by a provider NIC, which host it was, read and verified.
    ///
    /// # Panics
    /// If the packet arrived anywhere else or without the VLAN tag.
    pub fn at_uplink(&self, arrival: &Arrival) -> (usize, Read) {
        let (host, frame) = self.frame_at_uplink(arrival);
        (host, frames::read(frame))
    }

    pub(crate) fn frame_at_uplink<'a>(&self, arrival: &'a Arrival) -> (usize, &'a [u8]) {
        match arrival {
            Arrival::Uplink { host, vlan, frame } if *vlan == self.options.vlan => (*host, frame),
            other => panic!("expected on the uplink, got {other:?}\n{}", self.last_steps()),
        }
    }

    /// The verdicts of the latest steps, for failure messages.
    fn last_steps(&self) -> String {
        let recent = self.steps.iter().rev().take(4).rev();
        recent.map(|step| format!("host {} {:?} -> {:?}\n", step.host, step.entry, step.verdict)).collect()
    }

    /// in = out + dropped + punted on every host.
    ///
    /// # Panics
    /// If a packet is missing or was counted twice.
    pub fn assert_conserved(&self) {
        use pipeline::Total;
        for (index, host) in self.hosts.iter().enumerate() {
            let sum = |totals: &[Total]| totals.iter().map(|total| host.tables.total(*total)).sum::<u64>();
            let entered = sum(&[
                Total::InPort,
                Total::InTunnelLone,
                Total::InTunnelDevice,
                Total::InUplink,
                Total::InService,
            ]);
            let left = sum(&[
                Total::OutPort,
                Total::OutTunnel,
                Total::OutUplink,
                Total::OutHost,
                Total::Punted,
                Total::Dropped,
            ]);
            assert_eq!(entered, left, "host {index}");
        }
    }
}
