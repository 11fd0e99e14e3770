//! RFC 6887 and RFC 6888 REQ-9a: VMs ask for mappings, as far as packets are concerned. What is asked and answered is
//! tested where it is said.

use crate::scene::*;
use pipeline::nat::{BindingKey, MappingKey, Opening};
use pipeline::{Punt, Reason, Stage, Verdict};
use std::net::Ipv4Addr;
use testkit::frames;
use testkit::world::{INTERNET, SNAT_ADDRESS, router_id};
use testkit::{Arrival, World};

/// Blue's router on its first network.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 1);
const ANYCAST: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 9);
const PCP: u16 = 5351;

fn allow(world: &mut World, allowed: bool) {
    let router = world.slice.routers.get_mut(&router_id(1)).expect("the router");
    router.gateway.as_mut().expect("a gateway").port_control = allowed;
    world.program();
}

/// The claim on the external endpoint that `vm_a`'s port 4000 has.
fn claim(world: &World, port: u16) -> (BindingKey, MappingKey) {
    let bindings = world.hosts[0].tables.bindings.borrow();
    let found = bindings.iter().find(|(binding, _)| binding.port == port && binding.protocol == 17);
    found.map(|(binding, internal)| (*binding, *internal)).expect("a claim")
}

fn open(world: &World, port: u16) {
    let (binding, _) = claim(world, port);
    let opening = Opening { nonce: [7; 12], ifindex: world.vms["vm_a"].ifindex, ends_ns: u64::MAX };
    world.hosts[0].tables.openings.borrow_mut().insert(binding, opening);
}

/// RFC 6887 §8.1, RFC 7723: what a VM asks its router, by its address or the anycast one, is the agent's to answer.
#[test]
fn rfc6887_s8_a_request_to_the_router_is_handed_over() {
    play(options(), |world| {
        let asked = |world: &mut World, dst, port| {
            let ends = world.routed("vm_a", dst, (4000, port));
            world.from_vm("vm_a", frames::udp(&ends, b"request"))
        };
        assert_eq!(asked(world, ROUTER, PCP), dropped(0, Stage::Route, Reason::NotForRouter), "it is off");
        allow(world, true);
        let handed = Arrival::Nowhere { host: 0, verdict: Verdict::Punt(Punt::PortControl) };
        assert_eq!(asked(world, ROUTER, PCP), handed);
        assert_eq!(asked(world, ANYCAST, PCP), handed);
        assert_eq!(asked(world, ROUTER, 53), dropped(0, Stage::Route, Reason::NotForRouter));
        assert!(matches!(asked(world, INTERNET, PCP), Arrival::Uplink { .. }), "another's server");
        let mut spoofed = world.routed("vm_a", ROUTER, (4000, PCP));
        spoofed.src = STRANGER;
        let spoofed = frames::udp(&spoofed, b"request");
        assert_eq!(world.from_vm("vm_a", spoofed), dropped(0, Stage::PortSecurity, Reason::SpoofedAddress));
    });
}

/// RFC 6888 REQ-9a (SHOULD): what a VM opened, anyone may send to, by every gateway; its other ports are as they were.
#[test]
fn rfc6888_req9a_anyone_may_send_to_what_a_vm_opened() {
    let mut world = World::with(options());
    let world = &mut world;
    allow(world, true);
    let (_, opened) = external(world, "vm_a", udp, 4000);
    let (_, other) = external(world, "vm_a", udp, 4001);
    open(world, opened);
    for gateway in [0, 1] {
        let from = (STRANGER, 1000 + gateway as u16);
        let arrival = inward(world, gateway, udp, from, opened);
        let read = world.at_vm("vm_a", &arrival);
        assert_eq!((read.src, read.src_port, read.dst_port), (from.0, from.1, 4000));
        assert_eq!(inward(world, 0, udp, from, other), dropped(0, Stage::Dnat, Reason::Filtered));
    }
    assert_eq!(external(world, "vm_a", udp, 4000), (SNAT_ADDRESS, opened), "the same mapping outward");
    let sibling = world.routed("vm_g", SNAT_ADDRESS, (6000, opened));
    let arrival = world.from_vm("vm_g", udp(&sibling));
    assert_eq!(world.at_vm("vm_a", &arrival).dst_port, 4000, "hairpin");
    world.assert_conserved();
}

/// What was let in ends when it is closed, or no longer allowed.
#[test]
fn rfc6888_req9a_what_is_closed_again_lets_nobody_in() {
    let mut world = World::with(options());
    let world = &mut world;
    allow(world, true);
    let (_, port) = external(world, "vm_a", udp, 4000);
    open(world, port);
    let arrival = inward(world, 0, udp, (STRANGER, 1000), port);
    world.at_vm("vm_a", &arrival);
    allow(world, false);
    let refused = inward(world, 0, udp, (STRANGER, 1000), port);
    assert!(matches!(refused, Arrival::Nowhere { verdict: Verdict::Drop(..), .. }), "{refused:?}");
    assert_eq!(inward(world, 0, udp, (OTHER, 1000), port), dropped(0, Stage::Dnat, Reason::Filtered));
    allow(world, true);
    let arrival = inward(world, 0, udp, (OTHER, 1000), port);
    world.at_vm("vm_a", &arrival);
    let (binding, _) = claim(world, port);
    world.hosts[0].tables.openings.borrow_mut().remove(&binding);
    assert_eq!(inward(world, 0, udp, (OTHER, 2000), port), dropped(0, Stage::Dnat, Reason::Filtered));
    world.assert_conserved();
}

/// Security groups decide about what an opening lets in.
#[test]
fn rfc6888_req9a_an_opening_is_no_rule() {
    let mut world = World::with(options());
    let world = &mut world;
    allow(world, true);
    let (_, port) = external(world, "vm_a", udp, 4000);
    open(world, port);
    world.add_group(1, true, &["egress any to any"]);
    world.set_groups("vm_a", &[1]);
    world.program();
    let arrival = inward(world, 0, udp, (STRANGER, 1000), port);
    assert_eq!(arrival, dropped(0, Stage::IngressAcl, Reason::NoRule));
}
