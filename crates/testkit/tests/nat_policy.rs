//! What a router's NAT lets in and hands out: filtering, pools of addresses, and a VM's share of ports.

use compiler::TunnelProtocol::Geneve;
use model::slice::{Egress, Filtering};
use packet::ipv4::PROTOCOL_UDP;
use pipeline::{Punt, Reason, Stage, Verdict};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use testkit::frames::{self, Segment};
use testkit::world::{BLOCK_SIZE, INTERNET, Options, SNAT_ADDRESS, router_id};
use testkit::{Arrival, World};

const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 29);

fn options() -> Options {
    Options::new(Geneve, Egress::Direct)
}

/// The external address and port a VM's flow leaves with.
fn external(world: &mut World, vm: &str, src_port: u16) -> (Ipv4Addr, u16) {
    let arrival = world.from_vm(vm, frames::udp(&world.routed(vm, INTERNET, (src_port, 53)), b"x"));
    let (_, read) = world.at_uplink(&arrival);
    (read.src, read.src_port)
}

#[test]
fn with_independent_filtering_anyone_may_send_to_a_mapping_and_is_answered() {
    let mut world = World::with(Options { filtering: Filtering::EndpointIndependent, ..options() });
    for vm in ["vm_a", "vm_c"] {
        let (_, port) = external(&mut world, vm, 4000);
        for gateway in [0, 1] {
            let ends = world.outside(gateway, (STRANGER, 999), (SNAT_ADDRESS, port));
            let arrival = world.from_outside(gateway, frames::udp(&ends, b"hello"));
            let read = world.at_vm(vm, &arrival);
            assert_eq!((read.src, read.dst, read.dst_port), (STRANGER, world.vms[vm].address, 4000));
            let back = frames::udp(&world.routed(vm, STRANGER, (4000, 999)), b"you too");
            let arrival = world.from_vm(vm, back);
            let (_, read) = world.at_uplink(&arrival);
            assert_eq!((read.src, read.src_port, read.dst_port), (SNAT_ADDRESS, port, 999));
        }
        let unused = world.outside(0, (STRANGER, 999), (SNAT_ADDRESS, port ^ 1));
        let arrival = world.from_outside(0, frames::udp(&unused, b"?"));
        assert!(matches!(arrival, Arrival::Nowhere { .. }), "only mappings let in: {arrival:?}");
        let other_protocol = world.outside(0, (STRANGER, 999), (SNAT_ADDRESS, port));
        let arrival = world.from_outside(0, frames::tcp(&other_protocol, Segment::Syn, b""));
        assert!(matches!(arrival, Arrival::Nowhere { .. }), "a mapping has a protocol: {arrival:?}");
    }
    world.assert_conserved();
}

#[test]
fn going_back_to_dependent_filtering_ends_what_strangers_had() {
    let mut world = World::with(Options { filtering: Filtering::EndpointIndependent, ..options() });
    let (_, port) = external(&mut world, "vm_a", 4000);
    let ends = world.outside(0, (STRANGER, 999), (SNAT_ADDRESS, port));
    let arrival = world.from_outside(0, frames::udp(&ends, b"hello"));
    world.at_vm("vm_a", &arrival);
    let router = world.slice.routers.get_mut(&router_id(1)).expect("the router");
    router.gateway.as_mut().expect("a gateway").filtering = Filtering::AddressAndPortDependent;
    world.program();
    for reason in [(Stage::Classify, Reason::SessionEnded), (Stage::Dnat, Reason::Filtered)] {
        let arrival = world.from_outside(0, frames::udp(&ends, b"hello"));
        let verdict = Verdict::Drop(reason.0, reason.1);
        assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
    }
    assert_eq!(external(&mut world, "vm_a", 4000).1, port, "its own connection goes on");
}

#[test]
fn a_vm_keeps_to_one_address_of_a_pool() {
    let mut world = World::with(options());
    let router = world.slice.routers.get_mut(&router_id(1)).expect("the router");
    router.gateway.as_mut().expect("a gateway").addresses.push(SECOND_ADDRESS);
    for first_port in [BLOCK_SIZE, BLOCK_SIZE * 5, BLOCK_SIZE * 6] {
        world.add_block(1, SECOND_ADDRESS, 0, first_port);
    }
    world.program();
    let mut used = BTreeSet::new();
    for vm in ["vm_a", "vm_g", "vm_d"] {
        let addresses: BTreeSet<Ipv4Addr> =
            (0..40).map(|port| external(&mut world, vm, 5000 + port).0).collect();
        assert_eq!(addresses.len(), 1, "{vm} uses {addresses:?}");
        used.extend(addresses);
    }
    assert_eq!(used, BTreeSet::from([SNAT_ADDRESS, SECOND_ADDRESS]), "both addresses are used");
}

#[test]
fn a_vm_that_takes_too_many_ports_is_told_and_its_neighbour_is_not_hurt() {
    let mut world = World::with(Options { ports_per_vm_max: 100, ..options() });
    let mut ports = BTreeSet::new();
    for port in 0..100 {
        assert!(ports.insert(external(&mut world, "vm_a", 5000 + port).1), "no port twice");
    }
    let flow = |world: &World, port| frames::udp(&world.routed("vm_a", INTERNET, (port, 53)), b"x");
    let arrival = world.from_vm("vm_a", flow(&world, 6000));
    let verdict = Verdict::Drop(Stage::Snat, Reason::PortQuota);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
    let last = world.hosts[0].tables.events.borrow().last().map(|event| event.punt);
    assert_eq!(last, Some(Punt::Prohibited as u32), "the VM is told");
    let arrival = world.from_vm("vm_a", flow(&world, 5000));
    world.at_uplink(&arrival);
    assert!(!ports.contains(&external(&mut world, "vm_g", 5000).1));
    world.assert_conserved();
}

#[test]
fn an_exhausted_block_refuses_and_never_takes_a_mapping_away() {
    let mut world = World::with(options());
    let mut first = Vec::new();
    let mut refused = 0;
    for port in 0..1200 {
        let frame = frames::udp(&world.routed("vm_a", INTERNET, (port + 2000, 53)), b"x");
        match world.from_vm("vm_a", frame) {
            Arrival::Uplink { .. } => first.push(port + 2000),
            Arrival::Nowhere { verdict, .. } => {
                assert_eq!(verdict, Verdict::Drop(Stage::Snat, Reason::PortsExhausted));
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(first.len() <= usize::from(BLOCK_SIZE) && refused >= 1200 - usize::from(BLOCK_SIZE));
    let mappings = world.hosts[0].tables.mappings.borrow().len();
    assert_eq!(mappings, first.len());
    let bindings: BTreeSet<u16> = world.hosts[0]
        .tables
        .bindings
        .borrow()
        .keys()
        .filter(|binding| binding.protocol == PROTOCOL_UDP)
        .map(|binding| binding.port)
        .collect();
    assert_eq!(bindings.len(), mappings, "no port overloaded");
    for port in first.iter().take(50) {
        external(&mut world, "vm_a", *port);
    }
    assert_eq!(world.hosts[0].tables.mappings.borrow().len(), mappings);
}

/// The second VPC behind the address of the first: vm_a and vm_e on ahv01, vm_f on ahv03.
fn sharing(filtering: Filtering) -> World {
    let mut world = World::with(Options { filtering, ..options() });
    let router = world.slice.routers.get_mut(&router_id(2)).expect("the router");
    router.gateway.as_mut().expect("a gateway").addresses = vec![SNAT_ADDRESS];
    world.slice.blocks.retain(|id, _| id.address == SNAT_ADDRESS);
    for host in 0..3u16 {
        world.add_block(2, SNAT_ADDRESS, usize::from(host), BLOCK_SIZE * (host + 11));
    }
    world.program();
    world
}

#[test]
fn vpcs_behind_one_address_are_told_apart_by_port_block() {
    let mut world = sharing(Filtering::default());
    let mut used = BTreeSet::new();
    for vm in ["vm_a", "vm_e", "vm_c", "vm_f"] {
        let (address, port) = external(&mut world, vm, 4000);
        assert_eq!(address, SNAT_ADDRESS);
        assert!(used.insert(port), "{vm} has a port of its own");
        let is_green = ["vm_e", "vm_f"].contains(&vm);
        assert_eq!(port >= BLOCK_SIZE * 11, is_green, "{vm} left by {port}");
        for gateway in [0, 1] {
            let ends = world.outside(gateway, (INTERNET, 53), (SNAT_ADDRESS, port));
            let arrival = world.from_outside(gateway, frames::udp(&ends, b"answer"));
            assert_eq!(world.at_vm(vm, &arrival).dst_port, 4000);
        }
    }
    // The address answers ping, and when one of its routers is gone the other one goes on.
    world.slice.routers.get_mut(&router_id(1)).expect("the router").gateway = None;
    world.slice.blocks.retain(|_, block| block.router == router_id(2));
    world.program();
    let (_, port) = external(&mut world, "vm_f", 4000);
    let ends = world.outside(1, (INTERNET, 53), (SNAT_ADDRESS, port));
    let arrival = world.from_outside(1, frames::udp(&ends, b"answer"));
    world.at_vm("vm_f", &arrival);
    let echo = world.outside(0, (INTERNET, 7), (SNAT_ADDRESS, 7));
    let arrival = world.from_outside(0, frames::echo(&echo, false));
    assert_eq!(world.at_uplink(&arrival).1.src, SNAT_ADDRESS);
    world.assert_conserved();
}

#[test]
fn a_vm_reaches_the_mappings_of_another_vpc_behind_its_own_address() {
    let mut world = sharing(Filtering::EndpointIndependent);
    let vms = ["vm_a", "vm_b", "vm_c", "vm_e", "vm_f"];
    for (from, to) in vms.iter().flat_map(|from| vms.iter().map(move |to| (*from, *to))) {
        let (address, port) = external(&mut world, to, 4000);
        let ends = world.routed(from, address, (4100, port));
        let arrival = world.from_vm(from, frames::udp(&ends, b"hello"));
        let read = world.at_vm(to, &arrival);
        assert_eq!((read.src, read.dst_port), (SNAT_ADDRESS, 4000), "{from} to {to}");
        let back = world.routed(to, read.src, (4000, read.src_port));
        let arrival = world.from_vm(to, frames::udp(&back, b"hello yourself"));
        let read = world.at_vm(from, &arrival);
        assert_eq!((read.src, read.src_port, read.dst_port), (address, port, 4100), "{to} to {from}");
    }
    world.assert_conserved();
}
