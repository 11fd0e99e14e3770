//! SNAT through the own uplink and through a gateway, the return, floating IPs, hairpin, and what outsiders
//! may not do.

#[path = "north_south/forwarding.rs"]
mod forwarding;

use compiler::TunnelProtocol::Geneve;
use model::slice::Egress;
use pipeline::session::SessionKey;
use pipeline::{Punt, Reason, Stage, Verdict};
use std::net::Ipv4Addr;
use testkit::frames::{self, Ends, Segment};
use testkit::world::{
    BLOCK_SIZE, GATEWAY_ADDRESS, GATEWAY_MAC, INTERNET, SNAT_ADDRESS, SNAT_GREEN, floating_id, network_id,
    router_id,
};
use testkit::{Arrival, World};

const FLOATING_A: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 101);
const FLOATING_C: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 103);

fn world() -> World {
    World::new(Geneve, Egress::Direct)
}

fn dropped(host: usize, stage: Stage, reason: Reason) -> Arrival {
    Arrival::Nowhere { host, verdict: Verdict::Drop(stage, reason) }
}

/// Sends from a VM to the internet host and returns the external port it got and the host it left by.
fn out(world: &mut World, vm: &str, src_port: u16) -> (usize, u16) {
    let ends = world.routed(vm, INTERNET, (src_port, 53));
    let arrival = world.from_vm(vm, frames::udp(&ends, b"query"));
    let (host, read) = world.at_uplink(&arrival);
    assert_eq!((read.dst, read.dst_port, read.ttl), (INTERNET, 53, 63));
    assert_eq!((read.dst_mac, read.src_mac.0), (GATEWAY_MAC, world.hosts[host].facts.dvr_mac.0));
    (host, read.src_port)
}

#[test]
fn snat_by_the_own_uplink_and_back() {
    let mut world = world();
    let (host, port) = out(&mut world, "vm_a", 4000);
    assert_eq!(host, 0, "the VM's host has the physical network");
    assert!((BLOCK_SIZE..BLOCK_SIZE * 2).contains(&port), "from the host's own block: {port}");
    for gateway in [0, 1] {
        let ends = world.outside(gateway, (INTERNET, 53), (SNAT_ADDRESS, port));
        let arrival = world.from_outside(gateway, frames::udp(&ends, b"answer"));
        let read = world.at_vm("vm_a", &arrival);
        assert_eq!((read.src, read.src_port), (INTERNET, 53));
        assert_eq!((read.dst, read.dst_port), (world.vms["vm_a"].address, 4000));
        assert_eq!((read.ttl, read.src_mac), (63, world.vms["vm_a"].router_mac));
    }
    world.assert_conserved();
}

#[test]
fn snat_through_a_gateway_and_back_through_any() {
    let mut world = world();
    let (host, port) = out(&mut world, "vm_c", 4000);
    assert!(host < 2, "a gateway tags and forwards");
    assert!((BLOCK_SIZE * 3..BLOCK_SIZE * 4).contains(&port), "translated on the VM's host: {port}");
    assert!(world.hosts[host].tables.sessions.borrow().is_empty(), "the gateway keeps no state");
    for gateway in [0, 1] {
        let ends = world.outside(gateway, (INTERNET, 53), (SNAT_ADDRESS, port));
        let arrival = world.from_outside(gateway, frames::udp(&ends, b"answer"));
        let read = world.at_vm("vm_c", &arrival);
        assert_eq!((read.dst, read.dst_port, read.ttl), (world.vms["vm_c"].address, 4000, 63));
    }
    world.assert_conserved();
}

#[test]
fn with_gateway_egress_only_live_gateways_send() {
    let mut world = World::new(Geneve, Egress::Gateway);
    let second = world.hosts[1].id;
    let network = world.slice.external_networks.values_mut().next().expect("one");
    network.gateways = vec![second];
    world.program();
    let (host, _) = out(&mut world, "vm_a", 4000);
    assert_eq!(host, 1, "ahv01 has the uplink but is no live gateway");
}

#[test]
fn a_mapping_is_independent_of_the_destination() {
    let mut world = world();
    let (_, port) = out(&mut world, "vm_a", 4000);
    let other = Ipv4Addr::new(9, 9, 9, 9);
    let arrival = world.from_vm("vm_a", frames::udp(&world.routed("vm_a", other, (4000, 123)), b"x"));
    assert_eq!(world.at_uplink(&arrival).1.src_port, port);
    let (_, second) = out(&mut world, "vm_a", 4001);
    assert_ne!(second, port);
}

#[test]
fn tcp_and_echo_are_translated_with_right_checksums() {
    let mut world = world();
    let ends = world.routed("vm_c", INTERNET, (4000, 443));
    let arrival = world.from_vm("vm_c", frames::tcp(&ends, Segment::Syn, b""));
    let (_, read) = world.at_uplink(&arrival);
    assert_eq!((read.src, read.dst_port), (SNAT_ADDRESS, 443));
    let back = world.outside(0, (INTERNET, 443), (SNAT_ADDRESS, read.src_port));
    let arrival = world.from_outside(0, frames::tcp(&back, Segment::SynAck, b""));
    assert_eq!(world.at_vm("vm_c", &arrival).dst_port, 4000);

    let arrival = world.from_vm("vm_c", frames::echo(&world.routed("vm_c", INTERNET, (7, 7)), false));
    let (_, read) = world.at_uplink(&arrival);
    assert_eq!((read.src, read.icmp_type), (SNAT_ADDRESS, 8));
    let back = world.outside(1, (INTERNET, read.src_port), (SNAT_ADDRESS, read.src_port));
    let arrival = world.from_outside(1, frames::echo(&back, true));
    let read = world.at_vm("vm_c", &arrival);
    assert_eq!((read.src_port, read.icmp_type, read.dst), (7, 0, world.vms["vm_c"].address));
}

#[test]
fn unsolicited_inbound_to_a_snat_address_is_refused() {
    let mut world = world();
    let (_, port) = out(&mut world, "vm_a", 4000);
    let stranger = Ipv4Addr::new(203, 0, 113, 5);
    let ends = world.outside(0, (stranger, 53), (SNAT_ADDRESS, port));
    let arrival = world.from_outside(0, frames::udp(&ends, b"guess"));
    assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::Filtered));
    let ends = world.outside(1, (stranger, 9), (SNAT_ADDRESS, BLOCK_SIZE + 5));
    let arrival = world.from_outside(1, frames::tcp(&ends, Segment::Syn, b""));
    assert!(matches!(arrival, Arrival::Nowhere { host: 0, .. }), "steered to the owner: {arrival:?}");
    let ends = world.outside(1, (stranger, 9), (SNAT_ADDRESS, 60_000));
    let arrival = world.from_outside(1, frames::tcp(&ends, Segment::Syn, b""));
    assert_eq!(arrival, dropped(1, Stage::Dnat, Reason::NoMapping));
}

#[test]
fn the_snat_address_answers_ping_and_nothing_else() {
    let mut world = world();
    let ends = world.outside(0, (GATEWAY_ADDRESS, 5), (SNAT_ADDRESS, 5));
    let arrival = world.from_outside(0, frames::echo(&ends, false));
    let (host, read) = world.at_uplink(&arrival);
    assert_eq!((host, read.icmp_type), (0, 0));
    assert_eq!((read.src, read.dst, read.dst_mac), (SNAT_ADDRESS, GATEWAY_ADDRESS, GATEWAY_MAC));
}

/// The host of the sender knows nothing of the other VPC: the gateway answers, back through the tunnel.
#[test]
fn a_gateway_answers_the_ping_of_a_vm_to_another_vpcs_snat_address() {
    let mut world = world();
    // Compiled for a host that no VM of green is on.
    let ahv03 = &mut world.hosts[2];
    let mut slice = world.slice.clone();
    slice.ports.remove(&world.vms["vm_f"].port);
    slice.routers.remove(&router_id(2));
    slice.blocks.retain(|_, block| block.router != router_id(2));
    ahv03.tables.reconfigure(compiler::compile(&slice, &ahv03.facts).tables);
    let ends = world.routed("vm_c", SNAT_GREEN, (7, 7));
    let arrival = world.from_vm("vm_c", frames::echo(&ends, false));
    let read = world.at_vm("vm_c", &arrival);
    assert_eq!((read.src, read.dst, read.icmp_type), (SNAT_GREEN, world.vms["vm_c"].address, 0));
}

#[test]
fn a_neighbour_that_routes_tenant_prefixes_to_us_gets_nowhere() {
    let mut world = world();
    for vm in ["vm_a", "vm_c", "vm_d"] {
        let dst = world.vms[vm].address;
        let ends = world.outside(0, (GATEWAY_ADDRESS, 9), (dst, 22));
        let arrival = world.from_outside(0, frames::tcp(&ends, Segment::Syn, b""));
        assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::ExternalDestinationUnknown));
    }
}

#[test]
fn a_floating_ip_works_both_ways_on_hosts_with_and_without_the_uplink() {
    let mut world = world();
    world.add_floating(1, "vm_a", 1, FLOATING_A);
    world.add_floating(2, "vm_c", 1, FLOATING_C);
    world.program();
    for (vm, floating) in [("vm_a", FLOATING_A), ("vm_c", FLOATING_C)] {
        let arrival = world.from_vm(vm, frames::udp(&world.routed(vm, INTERNET, (4000, 53)), b"out"));
        let (_, read) = world.at_uplink(&arrival);
        assert_eq!((read.src, read.src_port), (floating, 4000), "floating IP beats SNAT, port kept");
        for gateway in [0, 1] {
            let ends = world.outside(gateway, (INTERNET, 999), (floating, 22));
            let arrival = world.from_outside(gateway, frames::tcp(&ends, Segment::Syn, b""));
            let read = world.at_vm(vm, &arrival);
            assert_eq!((read.dst, read.dst_port, read.ttl), (world.vms[vm].address, 22, 63));
            let back = world.routed(vm, INTERNET, (22, 999));
            let arrival = world.from_vm(vm, frames::tcp(&back, Segment::SynAck, b""));
            let (_, read) = world.at_uplink(&arrival);
            assert_eq!((read.src, read.src_port, read.dst_port), (floating, 22, 999));
        }
    }
    world.assert_conserved();
}

#[test]
fn attach_and_detach_end_exactly_the_sessions_concerned() {
    let mut world = world();
    let (_, port) = out(&mut world, "vm_a", 4000);
    let (_, other) = out(&mut world, "vm_c", 4000);
    world.add_floating(1, "vm_a", 1, FLOATING_A);
    world.program();
    let ends = world.routed("vm_a", INTERNET, (4000, 53));
    let first = world.from_vm("vm_a", frames::udp(&ends, b"x"));
    assert_eq!(first, dropped(0, Stage::Classify, Reason::SessionEnded));
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b"x"));
    assert_eq!(world.at_uplink(&arrival).1.src, FLOATING_A);
    assert_eq!(out(&mut world, "vm_c", 4000).1, other, "a mapping survives the new epoch");

    world.slice.floating_ips.remove(&floating_id(1));
    world.program();
    let inbound = world.outside(0, (INTERNET, 53), (FLOATING_A, 4000));
    let arrival = world.from_outside(0, frames::udp(&inbound, b"x"));
    assert_eq!(arrival, dropped(0, Stage::Classify, Reason::SessionEnded));
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b"x"));
    let (_, read) = world.at_uplink(&arrival);
    assert_eq!((read.src, read.src_port), (SNAT_ADDRESS, port), "back to SNAT, by the same mapping");
}

#[test]
fn a_session_that_ends_leaves_the_claims_of_others_alone() {
    let mut world = world();
    let vm_d = world.vms["vm_d"].address;
    let there = frames::tcp(&world.routed("vm_b", vm_d, (4000, 80)), Segment::Syn, b"");
    let arrival = world.from_vm("vm_b", there.clone());
    world.at_vm("vm_d", &arrival);
    // Another connection whose answers have the key that this one's would have.
    let tables = &world.hosts[1].tables;
    let answers = tables.sessions.borrow().values().next().expect("a session").reply;
    let other = SessionKey { src_port: 4001, ..answers };
    tables.replies.borrow_mut().insert(answers, other);

    let router = world.slice.routers.get_mut(&router_id(1)).expect("the router");
    router.interfaces.retain(|interface| interface.network != network_id(2));
    world.program();
    let ended = dropped(1, Stage::Classify, Reason::SessionEnded);
    assert_eq!(world.from_vm("vm_b", there), ended);
    assert_eq!(world.hosts[1].tables.replies.borrow().get(&answers), Some(&other));
}

#[test]
fn hairpin_to_the_own_and_a_siblings_floating_ip() {
    let mut world = world();
    world.add_floating(1, "vm_a", 1, FLOATING_A);
    world.add_floating(2, "vm_c", 1, FLOATING_C);
    world.program();
    // (from, to, its floating IP, source that the target sees)
    for (from, to, floating, source) in [
        ("vm_a", "vm_c", FLOATING_C, FLOATING_A),
        ("vm_c", "vm_a", FLOATING_A, FLOATING_C),
        ("vm_g", "vm_a", FLOATING_A, SNAT_ADDRESS),
        ("vm_b", "vm_a", FLOATING_A, SNAT_ADDRESS),
        ("vm_a", "vm_a", FLOATING_A, FLOATING_A),
        ("vm_f", "vm_c", FLOATING_C, SNAT_GREEN),
        ("vm_e", "vm_c", FLOATING_C, SNAT_GREEN),
    ] {
        for _ in 0..2 {
            let ends = world.routed(from, floating, (4100, 80));
            let arrival = world.from_vm(from, frames::tcp(&ends, Segment::Syn, b""));
            let read = world.at_vm(to, &arrival);
            assert_eq!((read.src, read.dst, read.dst_port), (source, world.vms[to].address, 80), "{from}");
            let back = world.routed(to, read.src, (80, read.src_port));
            let arrival = world.from_vm(to, frames::tcp(&back, Segment::SynAck, b""));
            let read = world.at_vm(from, &arrival);
            assert_eq!((read.src, read.src_port, read.dst_port), (floating, 80, 4100), "{from}");
        }
    }
    world.assert_conserved();
}

#[test]
fn disabled_snat_and_a_missing_block_are_counted_drops() {
    let mut world = world();
    let router = world.slice.routers.get_mut(&router_id(1)).expect("the router");
    router.gateway.as_mut().expect("a gateway").enable_snat = false;
    world.program();
    let ends = world.routed("vm_a", INTERNET, (4000, 53));
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b"x"));
    assert_eq!(arrival, dropped(0, Stage::Snat, Reason::SnatDisabled));

    let mut world = self::world();
    world.slice.blocks.clear();
    world.program();
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b"x"));
    assert_eq!(arrival, dropped(0, Stage::Snat, Reason::NoPortBlock));
    let events = world.hosts[0].tables.events.borrow();
    assert_eq!(events[0].punt, Punt::PortBlockLow as u32);
}

#[test]
fn an_unknown_next_hop_is_asked_for() {
    let mut world = world();
    let on_link = Ipv4Addr::new(172, 22, 7, 200);
    let ends = world.routed("vm_a", on_link, (4000, 53));
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b"x"));
    let verdict = Verdict::Punt(Punt::ResolveNeighbor);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
    let events = world.hosts[0].tables.events.borrow();
    assert_eq!((events[0].vni, events[0].address), (900, on_link.into()));
}

#[test]
fn exactly_one_host_answers_arp_for_an_external_address() {
    let mut world = world();
    world.add_floating(1, "vm_a", 1, FLOATING_A);
    world.add_floating(2, "vm_c", 1, FLOATING_C);
    world.program();
    for target in [SNAT_ADDRESS, SNAT_GREEN, FLOATING_A, FLOATING_C] {
        let answers: Vec<usize> = (0..2)
            .filter(|host| {
                let request = frames::arp_request((GATEWAY_MAC, GATEWAY_ADDRESS), target);
                match world.from_outside(*host, request) {
                    Arrival::Uplink { frame, .. } => {
                        assert_eq!(frame[6..12], world.hosts[*host].facts.dvr_mac.0);
                        true
                    }
                    Arrival::Nowhere { verdict: Verdict::Pass, .. } => false,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(answers.len(), 1, "{target} is answered by {answers:?}");
        if target == FLOATING_A {
            assert_eq!(answers, [0], "the VM's host has the uplink");
        }
    }
}

/// A and B, the gateways, do not hear each other; C hears both. What needs the way between A and B is lost, and nothing
/// else: whichever of the two the outside believes, C's VMs are served, and each gateway serves its own.
#[test]
fn of_two_gateways_that_do_not_hear_each_other_each_serves_its_own_vms_and_all_others() {
    let mut world = world();
    let gateways = [world.hosts[0].id, world.hosts[1].id];
    for (host, silent) in [(0, gateways[1]), (1, gateways[0])] {
        world.hosts[host].facts.dead_hosts.insert(silent);
    }
    world.program();
    for (vm, served_by) in [("vm_a", vec![0]), ("vm_b", vec![1]), ("vm_c", vec![0, 1])] {
        let (left_by, port) = out(&mut world, vm, 4000);
        assert!(served_by.contains(&left_by), "{vm} leaves by {left_by}");
        for gateway in [0, 1] {
            let ends = world.outside(gateway, (INTERNET, 53), (SNAT_ADDRESS, port));
            let start = world.steps.len();
            let arrival = world.from_outside(gateway, frames::udp(&ends, b"answer"));
            world.at_vm(vm, &arrival);
            let between = world.steps[start..].iter().map(|step| step.host).collect::<Vec<_>>();
            let broken = between.windows(2).any(|way| way == [0, 1] || way == [1, 0]);
            assert_eq!(broken, !served_by.contains(&gateway), "{vm} by {gateway}: {between:?}");
        }
    }
    world.assert_conserved();
}

#[test]
fn a_host_cannot_use_an_external_address_or_port_of_another() {
    let mut world = world();
    let (_, _) = out(&mut world, "vm_c", 4000);
    // What vm_c's host puts on the wire, with a source port of another host's block.
    let step = world.steps.iter().find(|step| step.host == 2).expect("a step").clone();
    let mut forged = step.output;
    forged.bytes[64 + 20] = (BLOCK_SIZE >> 8) as u8;
    let gateway = usize::from(forged.bytes[33]) - 1;
    let arrival = world.enter(gateway, testkit::world::Entry::Underlay, forged);
    assert_eq!(arrival, dropped(gateway, Stage::Dnat, Reason::SourceNotOwned));
}

#[test]
fn a_tunnel_packet_of_a_stranger_is_refused() {
    let mut world = world();
    let ends = world.switched("vm_a", "vm_b", (1, 2));
    world.from_vm("vm_a", frames::udp(&ends, b"x"));
    let mut forged = world.steps[0].output.clone();
    forged.bytes[26..30].copy_from_slice(&[10, 0, 0, 99]);
    let arrival = world.enter(1, testkit::world::Entry::Underlay, forged);
    assert_eq!(arrival, dropped(1, Stage::Classify, Reason::UnknownVtep));
}

#[test]
fn spoofed_sources_go_nowhere() {
    let mut world = world();
    let honest = world.routed("vm_a", INTERNET, (4000, 53));
    out(&mut world, "vm_a", 4000);
    let mac = Ends { src_mac: world.vms["vm_g"].mac, ..honest };
    let arrival = world.from_vm("vm_a", frames::udp(&mac, b"x"));
    assert_eq!(arrival, dropped(0, Stage::PortSecurity, Reason::SpoofedMac));
    let address = Ends { src: world.vms["vm_g"].address, ..honest };
    let arrival = world.from_vm("vm_a", frames::udp(&address, b"x"));
    assert_eq!(arrival, dropped(0, Stage::PortSecurity, Reason::SpoofedAddress));
    // vm_g on the same host and network rides on vm_a's live session.
    let ride = Ends { src_mac: world.vms["vm_g"].mac, ..honest };
    let arrival = world.from_vm("vm_g", frames::udp(&ride, b"x"));
    assert_eq!(arrival, dropped(0, Stage::PortSecurity, Reason::SpoofedAddress));
    let vm = world.vms["vm_a"];
    let arp = frames::arp_request((vm.mac, world.vms["vm_g"].address), world.vms["vm_c"].address);
    let arrival = world.from_vm("vm_a", arp);
    assert_eq!(arrival, dropped(0, Stage::PortSecurity, Reason::SpoofedArp));
}

#[test]
fn a_port_that_is_down_forwards_nothing_in_either_direction() {
    let mut world = world();
    let port = world.vms["vm_b"].port;
    world.slice.ports.get_mut(&port).expect("the port").admin_up = false;
    world.program();
    let arrival = world.from_vm("vm_b", frames::udp(&world.switched("vm_b", "vm_a", (1, 2)), b"x"));
    assert!(matches!(arrival, Arrival::Nowhere { host: 1, .. }), "{arrival:?}");
    let arrival = world.from_vm("vm_a", frames::udp(&world.switched("vm_a", "vm_b", (1, 2)), b"x"));
    assert!(matches!(arrival, Arrival::Nowhere { .. }), "{arrival:?}");
}
