//! ICMP errors reach the one whose packet caused them, with its own addresses inside and outside, and change
//! nothing about the connection.

use compiler::TunnelProtocol::Geneve;
use model::slice::Egress;
use packet::icmp::{CODE_FRAGMENTATION_NEEDED, CODE_PORT_UNREACHABLE, TYPE_TIME_EXCEEDED, TYPE_UNREACHABLE};
use pipeline::tables::ExternalAddressKey;
use pipeline::{Address, Punt, Reason, Stage, Verdict};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;
use testkit::frames::{self, Ends, Segment};
use testkit::world::{Entry, INTERNET, SNAT_ADDRESS, SNAT_GREEN};
use testkit::{Arrival, World};

/// A router on the way to the internet.
const HOP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const FLOATING_C: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 103);

fn world() -> World {
    World::new(Geneve, Egress::Direct)
}

fn frame_of(arrival: &Arrival) -> Vec<u8> {
    match arrival {
        Arrival::Port { frame, .. } | Arrival::Uplink { frame, .. } => frame.clone(),
        Arrival::Nowhere { .. } => panic!("{arrival:?}"),
    }
}

#[test]
fn an_error_from_outside_is_translated_inside_and_out_through_any_gateway() {
    let mut world = world();
    let vm = world.vms["vm_c"];
    let ends = world.routed("vm_c", INTERNET, (4000, 33434));
    let echo = Ends { src_port: 7, dst_port: 7, ..ends };
    let sent = [
        (frames::udp(&ends, b"probe"), (4000, 33434)),
        (frames::tcp(&ends, Segment::Syn, b""), (4000, 33434)),
        (frames::echo(&echo, false), (7, 7)),
    ];
    for (frame, (src_port, dst_port)) in sent {
        let arrival = world.from_vm("vm_c", frame);
        let outside = frame_of(&arrival);
        for (gateway, code) in
            [(0, (TYPE_TIME_EXCEEDED, 0)), (1, (TYPE_UNREACHABLE, CODE_FRAGMENTATION_NEEDED))]
        {
            let ends = world.outside(gateway, (HOP, 0), (SNAT_ADDRESS, 0));
            let arrival = world.from_outside(gateway, frames::icmp_error(&ends, code, &outside));
            let read = world.at_vm("vm_c", &arrival);
            assert_eq!((read.src, read.dst, read.icmp_type), (HOP, vm.address, code.0), "the hop is shown");
            let quotation = frames::quotation(&frame_of(&arrival));
            assert_eq!(quotation, ((vm.address, src_port), (INTERNET, dst_port)));
        }
    }
    let sessions = world.hosts[2].tables.sessions.borrow();
    for session in sessions.values() {
        assert_eq!(session.packets[1].load(Relaxed), 0, "an error does not count as a reply");
    }
}

#[test]
fn an_error_of_a_vm_behind_a_floating_ip_shows_the_floating_ip() {
    let mut world = world();
    world.add_floating(1, "vm_c", 1, FLOATING_C);
    world.program();
    let inbound = world.outside(0, (INTERNET, 999), (FLOATING_C, 5353));
    let arrival = world.from_outside(0, frames::udp(&inbound, b"hello"));
    let at_vm = frame_of(&arrival);
    let ends = world.routed("vm_c", INTERNET, (0, 0));
    let code = (TYPE_UNREACHABLE, CODE_PORT_UNREACHABLE);
    let arrival = world.from_vm("vm_c", frames::icmp_error(&ends, code, &at_vm));
    let (_, read) = world.at_uplink(&arrival);
    assert_eq!((read.src, read.dst), (FLOATING_C, INTERNET));
    assert_eq!(frames::quotation(&frame_of(&arrival)), ((INTERNET, 999), (FLOATING_C, 5353)));
}

/// The router on a VM's host without the uplink turns a packet from outside away; what the agent says of it leaves by
/// the gateway, which knows whose address is quoted and lets nobody else speak of it.
#[test]
fn an_error_of_the_router_on_a_host_without_uplink_goes_out_by_the_gateway() {
    let mut world = world();
    world.add_floating(1, "vm_c", 1, FLOATING_C);
    world.program();
    let floating = ExternalAddressKey { external_vni: 900, address: FLOATING_C.octets().into() };
    let transit = world.hosts[0].tables.set.external_addresses[&floating].router_vni;
    let inbound = world.outside(0, (INTERNET, 999), (FLOATING_C, 5353));
    let probe = frames::udp_ttl(&inbound, b"hello", 1);
    let arrival = world.from_outside(0, probe.clone());
    assert_eq!(arrival, Arrival::Nowhere { host: 2, verdict: Verdict::Punt(Punt::TtlExceeded) });
    let event = world.hosts[2].tables.events.borrow()[0];
    assert_eq!((event.vni, event.vtep), (900, Address::v4([10, 0, 0, 1])), "what the agent goes by");

    for (from, host, arrives) in [(SNAT_ADDRESS, 2, true), (SNAT_GREEN, 1, false), (HOP, 2, false)] {
        let ends = Ends { src: from, dst: INTERNET, ..world.routed("vm_c", INTERNET, (0, 0)) };
        let error = frames::icmp_error(&ends, (TYPE_TIME_EXCEEDED, 0), &probe);
        let to_gateway = (transit, Address::v4([10, 0, 0, 1]));
        let packet = pipeline::host::encapsulate(&world.hosts[host].tables.set.config, to_gateway, error);
        let wire = [&[0; 12][..], &[8, 0], &packet.expect("an IPv4 packet")].concat();
        let arrival = world.enter(0, Entry::Underlay, pipeline::host::Frame::new(wire));
        if arrives {
            let (_, read) = world.at_uplink(&arrival);
            assert_eq!((read.src, read.dst), (from, INTERNET));
            assert_eq!(frames::quotation(&frame_of(&arrival)), ((INTERNET, 999), (FLOATING_C, 5353)));
        } else {
            let verdict = Verdict::Drop(Stage::Dnat, Reason::SourceNotOwned);
            assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict }, "{from} from host {host}");
        }
    }
    world.assert_conserved();
}

#[test]
fn an_error_between_vms_passes_unchanged() {
    let mut world = world();
    let there = frames::udp(&world.switched("vm_a", "vm_b", (4000, 53)), b"x");
    let arrival = world.from_vm("vm_a", there);
    let ends = world.switched("vm_b", "vm_a", (0, 0));
    let error = frames::icmp_error(&ends, (TYPE_UNREACHABLE, CODE_PORT_UNREACHABLE), &frame_of(&arrival));
    let arrival = world.from_vm("vm_b", error.clone());
    assert_eq!(frame_of(&arrival), error);
    world.at_vm("vm_a", &arrival);
}

#[test]
fn an_error_about_nothing_we_sent_is_dropped() {
    let mut world = world();
    let forged = Ends { dst: INTERNET, ..world.outside(0, (SNAT_ADDRESS, 1100), (INTERNET, 53)) };
    let about = frames::udp(&forged, b"never sent");
    let ends = world.outside(0, (HOP, 0), (SNAT_ADDRESS, 0));
    let arrival = world.from_outside(0, frames::icmp_error(&ends, (TYPE_UNREACHABLE, 1), &about));
    let verdict = Verdict::Drop(Stage::Dnat, Reason::NoMapping);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
}

#[test]
fn a_vm_cannot_send_an_error_in_the_name_of_another() {
    let mut world = world();
    let there = frames::udp(&world.switched("vm_a", "vm_g", (4000, 53)), b"x");
    let arrival = world.from_vm("vm_a", there);
    let honest = world.switched("vm_g", "vm_a", (0, 0));
    let forged = Ends { src: world.vms["vm_c"].address, ..honest };
    let error = frames::icmp_error(&forged, (TYPE_UNREACHABLE, 1), &frame_of(&arrival));
    let arrival = world.from_vm("vm_g", error);
    let verdict = Verdict::Drop(Stage::PortSecurity, Reason::SpoofedMac);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
}
