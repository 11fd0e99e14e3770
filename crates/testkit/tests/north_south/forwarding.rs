//! Ports of a floating IP that stand for ports of several VMs, on hosts with and without the physical network.

use super::{GATEWAY_ADDRESS, INTERNET, SNAT_ADDRESS, dropped, world};
use model::slice::Egress;
use packet::ipv4::{PROTOCOL_TCP, PROTOCOL_UDP};
use pipeline::{Reason, Stage, Verdict};
use std::net::Ipv4Addr;
use testkit::frames::{self, Segment};
use testkit::world::{GATEWAY_MAC, Options, forwarding_id};
use testkit::{Arrival, World};

const FORWARDED: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 104);

/// TCP 80 leads to vm_a, 81 to vm_c, whose host has no uplink; UDP 80 to vm_c.
fn forward(world: &mut World) {
    world.add_forwarding(1, PROTOCOL_TCP, (FORWARDED, 80), ("vm_a", 8080));
    world.add_forwarding(2, PROTOCOL_TCP, (FORWARDED, 81), ("vm_c", 8080));
    world.add_forwarding(3, PROTOCOL_UDP, (FORWARDED, 80), ("vm_c", 53));
    world.program();
}

/// A client outside opens a connection by way of each gateway, and the VM answers.
fn connects(world: &mut World, external_port: u16, vm: &str, client: (Ipv4Addr, u16)) {
    for gateway in [0, 1] {
        let ends = world.outside(gateway, client, (FORWARDED, external_port));
        let arrival = world.from_outside(gateway, frames::tcp(&ends, Segment::Syn, b""));
        let read = world.at_vm(vm, &arrival);
        assert_eq!((read.src, read.src_port), client, "the VM sees who it is");
        assert_eq!((read.dst, read.dst_port, read.ttl), (world.vms[vm].address, 8080, 63));
        let back = world.routed(vm, client.0, (8080, client.1));
        let arrival = world.from_vm(vm, frames::tcp(&back, Segment::SynAck, b""));
        let (_, read) = world.at_uplink(&arrival);
        assert_eq!((read.src, read.src_port), (FORWARDED, external_port));
        assert_eq!((read.dst, read.dst_port), client);
    }
}

#[test]
fn each_port_leads_to_its_vm_and_back_with_both_ways_of_egress() {
    for egress in [Egress::Direct, Egress::Gateway] {
        let mut world = World::with(Options::new(compiler::TunnelProtocol::Geneve, egress));
        forward(&mut world);
        connects(&mut world, 80, "vm_a", (INTERNET, 999));
        connects(&mut world, 81, "vm_c", (INTERNET, 999));
        let ends = world.outside(0, (INTERNET, 999), (FORWARDED, 80));
        let arrival = world.from_outside(0, frames::udp(&ends, b"query"));
        assert_eq!(world.at_vm("vm_c", &arrival).dst_port, 53, "protocols are apart");
        world.assert_conserved();
    }
}

/// Clients come from anywhere: what filters the mappings of a router's VMs does not concern a port that was opened
/// on purpose.
#[test]
fn strangers_are_let_in_and_the_vm_itself_leaves_by_snat() {
    let mut world = world();
    forward(&mut world);
    for last in 1..20 {
        connects(&mut world, 80, "vm_a", (Ipv4Addr::new(203, 0, 113, last), 7));
    }
    let arrival = world.from_vm("vm_a", frames::udp(&world.routed("vm_a", INTERNET, (4000, 53)), b"out"));
    assert_eq!(world.at_uplink(&arrival).1.src, SNAT_ADDRESS);
}

#[test]
fn a_port_that_nothing_forwards_is_closed_and_the_address_answers_ping() {
    let mut world = world();
    forward(&mut world);
    for frame in [
        frames::tcp(&world.outside(1, (INTERNET, 9), (FORWARDED, 82)), Segment::Syn, b""),
        frames::udp(&world.outside(1, (INTERNET, 9), (FORWARDED, 81)), b"x"),
    ] {
        assert_eq!(world.from_outside(1, frame), dropped(1, Stage::Dnat, Reason::NoMapping));
    }
    let ends = world.outside(1, (GATEWAY_ADDRESS, 5), (FORWARDED, 5));
    let arrival = world.from_outside(1, frames::echo(&ends, false));
    let (_, read) = world.at_uplink(&arrival);
    assert_eq!((read.icmp_type, read.src, read.dst), (0, FORWARDED, GATEWAY_ADDRESS));
}

#[test]
fn deleting_a_forwarding_ends_its_sessions_and_no_other() {
    let mut world = world();
    forward(&mut world);
    connects(&mut world, 80, "vm_a", (INTERNET, 999));
    connects(&mut world, 81, "vm_c", (INTERNET, 999));
    world.slice.port_forwardings.remove(&forwarding_id(1));
    world.program();
    let answer = frames::tcp(&world.routed("vm_a", INTERNET, (8080, 999)), Segment::Ack, b"more");
    let ended = dropped(0, Stage::Classify, Reason::SessionEnded);
    assert_eq!(world.from_vm("vm_a", answer), ended);
    let ends = world.outside(0, (INTERNET, 999), (FORWARDED, 80));
    let arrival = world.from_outside(0, frames::tcp(&ends, Segment::Ack, b""));
    assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::NoMapping));
    connects(&mut world, 81, "vm_c", (INTERNET, 999));
}

#[test]
fn siblings_reach_a_forwarded_port_from_any_host() {
    let mut world = world();
    forward(&mut world);
    // (from, port, to): another host each way, and the VM itself.
    for (from, port, to) in [("vm_a", 81, "vm_c"), ("vm_c", 80, "vm_a"), ("vm_a", 80, "vm_a")] {
        let ends = world.routed(from, FORWARDED, (4100, port));
        let arrival = world.from_vm(from, frames::tcp(&ends, Segment::Syn, b""));
        let read = world.at_vm(to, &arrival);
        assert_eq!((read.src, read.dst_port), (SNAT_ADDRESS, 8080), "{from} to {to}");
        let back = world.routed(to, SNAT_ADDRESS, (8080, read.src_port));
        let arrival = world.from_vm(to, frames::tcp(&back, Segment::SynAck, b""));
        let read = world.at_vm(from, &arrival);
        assert_eq!((read.src, read.src_port, read.dst_port), (FORWARDED, port, 4100), "{from} to {to}");
    }
    world.assert_conserved();
}

/// The other VPC's hosts find it as any address outside, also where they know nothing of it.
#[test]
fn another_vpc_reaches_a_forwarded_port() {
    let mut world = world();
    forward(&mut world);
    let ends = world.routed("vm_g", FORWARDED, (4100, 81));
    let arrival = world.from_vm("vm_g", frames::tcp(&ends, Segment::Syn, b""));
    assert_eq!(world.at_vm("vm_c", &arrival).dst_port, 8080);
}

#[test]
fn one_gateway_answers_for_the_address() {
    let mut world = world();
    forward(&mut world);
    let answers = |world: &mut World, host: usize| {
        let request = frames::arp_request((GATEWAY_MAC, GATEWAY_ADDRESS), FORWARDED);
        match world.from_outside(host, request) {
            Arrival::Uplink { .. } => true,
            Arrival::Nowhere { verdict: Verdict::Pass, .. } => false,
            other => panic!("{other:?}"),
        }
    };
    let answering = [0, 1].map(|host| answers(&mut world, host));
    assert_eq!(answering.iter().filter(|answers| **answers).count(), 1, "{answering:?}");
}

/// Path MTU discovery: what is told to the VM is about its own port, and what the VM's network tells the client about
/// the floating IP's.
#[test]
fn an_icmp_error_about_a_forwarded_connection_finds_the_vm() {
    let mut world = world();
    forward(&mut world);
    connects(&mut world, 81, "vm_c", (INTERNET, 999));
    let back = world.routed("vm_c", INTERNET, (8080, 999));
    let arrival = world.from_vm("vm_c", frames::tcp(&back, Segment::Ack, b"answer"));
    let Arrival::Uplink { frame, .. } = arrival else { panic!("{arrival:?}") };
    let about = world.outside(1, (INTERNET, 0), (FORWARDED, 0));
    let arrival = world.from_outside(1, frames::icmp_error(&about, (3, 4), &frame));
    let vm_c = world.vms["vm_c"];
    let Arrival::Port { host, ifindex, frame } = arrival else { panic!("{arrival:?}") };
    assert_eq!((host, ifindex), (vm_c.host, vm_c.ifindex));
    assert_eq!(frames::quotation(&frame), ((vm_c.address, 8080), (INTERNET, 999)));
}

/// A host may use the ports that lead to its own VMs, and no other.
#[test]
fn a_host_cannot_answer_for_a_port_that_leads_elsewhere() {
    let mut world = world();
    forward(&mut world);
    connects(&mut world, 81, "vm_c", (INTERNET, 999));
    let step = world.steps.iter().rfind(|step| step.host == 2).expect("the answer of vm_c").clone();
    let mut forged = step.output;
    let gateway = usize::from(forged.bytes[33]) - 1;
    // The source port inside: 80 leads to another host.
    forged.bytes[64 + 20..64 + 22].copy_from_slice(&80u16.to_be_bytes());
    let arrival = world.enter(gateway, testkit::world::Entry::Underlay, forged);
    assert_eq!(arrival, dropped(gateway, Stage::Dnat, Reason::SourceNotOwned));
}
