//! RFC 5508: ICMP.

use crate::scene::*;
use dataplane::State;
use packet::checksum::checksum;
use packet::ipv4::{PROTOCOL_ICMP, PROTOCOL_UDP};
use pipeline::{Punt, Reason, Stage, Verdict};
use std::net::Ipv4Addr;
use testkit::frames::{self, Ends};
use testkit::world::{INTERNET, Options, SNAT_ADDRESS, router_id};
use testkit::{Arrival, World};

/// Sends a datagram of `vm_c` and returns how it looks outside.
fn sent_outside(world: &mut World) -> Vec<u8> {
    let arrival = world.from_vm("vm_c", udp(&world.routed("vm_c", INTERNET, (4000, 53))));
    frame_of(&arrival)
}

/// An ICMP error from a hop to the SNAT address that quotes these bytes, an IPv4 packet.
fn error_quoting(world: &World, quoted: &[u8]) -> Vec<u8> {
    let ends = world.outside(0, (HOP, 0), (SNAT_ADDRESS, 0));
    let about = [&[0; 14], quoted].concat();
    let mut frame = frames::icmp_error(&ends, (11, 0), &about);
    // The quotation may be longer than what the builder takes over.
    frame.truncate(42);
    frame.extend_from_slice(quoted);
    let len = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    with_icmp_checksum(frames::with_header_checksum(frame))
}

fn with_icmp_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    frame[36..38].fill(0);
    let sum = checksum(&frame[34..]);
    frame[36..38].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// RFC 5508 REQ-1 (MUST): queries from inside and their answers pass.
#[test]
fn rfc5508_req1_a_query_is_answered() {
    play(options(), |world| {
        for vm in ["vm_a", "vm_c"] {
            let (_, id) = external(world, vm, ping, 7);
            for gateway in [0, 1] {
                let ends = world.outside(gateway, (INTERNET, id), (SNAT_ADDRESS, id));
                let arrival = world.from_outside(gateway, frames::echo(&ends, true));
                let read = world.at_vm(vm, &arrival);
                assert_eq!((read.src, read.src_port, read.icmp_type), (INTERNET, 7, 0));
            }
        }
    });
}

/// RFC 5508 REQ-1a (MUST): a query identifier has one mapping, whoever is asked.
#[test]
fn rfc5508_req1a_an_identifier_has_one_mapping_for_every_destination() {
    play(options(), |world| {
        let first = external(world, "vm_c", ping, 7);
        for to in [OTHER, STRANGER] {
            let read = out(world, "vm_c", ping, (to, 7), 7);
            assert_eq!((read.src, read.src_port), first, "{to}");
        }
        assert_ne!(external(world, "vm_c", ping, 8), first);
    });
}

/// RFC 5508 REQ-2 (MUST): a query is remembered for at least a minute.
#[test]
fn rfc5508_req2_a_query_is_remembered_for_a_minute() {
    assert_eq!(State::of(PROTOCOL_ICMP, 0x01), State::Icmp);
    assert!(idle_seconds(State::Icmp) >= 60);
}

/// RFC 5508 REQ-3 (SHOULD): an error with a wrong ICMP checksum is dropped.
#[test]
fn rfc5508_req3_an_error_with_a_wrong_checksum_is_dropped() {
    play(options(), |world| {
        let data = [7; 300];
        for (vm, bytes) in [("vm_a", 28), ("vm_a", 29), ("vm_a", 31), ("vm_c", 300)] {
            let ends = world.routed(vm, INTERNET, (4000, 53));
            let arrival = world.from_vm(vm, frames::udp(&ends, &data));
            let about = frame_of(&arrival);
            let ends = world.outside(0, (HOP, 0), (frames::read(&about).src, 0));
            let error = frames::icmp_error_quoting(&ends, (3, 1), &about, bytes);
            for at in [36, 38, error.len() - 1] {
                let mut wrong = error.clone();
                wrong[at] ^= 0x10;
                let arrival = world.from_outside(0, wrong);
                let refused = dropped(0, Stage::Classify, Reason::IcmpChecksum);
                assert_eq!(arrival, refused, "{bytes} bytes quoted, changed at {at}");
            }
            let arrival = world.from_outside(0, error);
            world.at_vm(vm, &arrival);
        }
    });
}

/// RFC 5508 REQ-3a (SHOULD): an error whose quoted IP header is damaged is dropped.
#[test]
fn rfc5508_req3a_a_damaged_quotation_is_dropped() {
    play(options(), |world| {
        let outside = sent_outside(world);
        let mut quoted = outside[14..42].to_vec();
        quoted[8] ^= 0x10;
        let frame = error_quoting(world, &quoted);
        let arrival = world.from_outside(0, frame);
        assert_eq!(arrival, dropped(0, Stage::Classify, Reason::IcmpErrorNotTranslated));
    });
}

/// RFC 5508 REQ-3b (MUST): IP options in the quotation are stepped over.
#[test]
fn rfc5508_req3b_options_in_the_quotation_are_stepped_over() {
    play(options(), |world| {
        let outside = sent_outside(world);
        let mut quoted = [&outside[14..34], &[1, 1, 1, 0], &outside[34..42]].concat();
        quoted[0] = 0x46;
        quoted[10..12].fill(0);
        let sum = checksum(&quoted[..24]);
        quoted[10..12].copy_from_slice(&sum.to_be_bytes());
        let frame = error_quoting(world, &quoted);
        let arrival = world.from_outside(0, frame);
        world.at_vm("vm_c", &arrival);
        let inside = frame_of(&arrival);
        assert_eq!(checksum(&inside[42..66]), 0, "the quoted header's checksum");
        assert_eq!(inside[54..58], world.vms["vm_c"].address.octets());
        assert_eq!(inside[66..68], 4000u16.to_be_bytes(), "the port behind the options");
    });
}

/// RFC 5508 REQ-3c (SHOULD): the quoted transport checksum is not looked at.
#[test]
fn rfc5508_req3c_a_wrong_transport_checksum_in_the_quotation_does_not_matter() {
    play(options(), |world| {
        let outside = sent_outside(world);
        let mut quoted = outside[14..42].to_vec();
        quoted[26] ^= 0xff;
        let frame = error_quoting(world, &quoted);
        let arrival = world.from_outside(0, frame);
        world.at_vm("vm_c", &arrival);
    });
}

/// RFC 5508 REQ-3d (MUST): extensions behind the quotation (RFC 4884) are no part of it.
#[test]
fn rfc5508_req3d_extensions_behind_the_quotation_pass_unchanged() {
    play(options(), |world| {
        let outside = sent_outside(world);
        let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 0xaa, 0xbb, 0xcc, 0xdd];
        let mut quoted = outside[14..].to_vec();
        quoted.resize(128, 0);
        quoted.extend_from_slice(&extension);
        let mut frame = error_quoting(world, &quoted);
        // The length of the quotation in words of 32 bits.
        frame[39] = 32;
        let arrival = world.from_outside(0, with_icmp_checksum(frame));
        let inside = frame_of(&arrival);
        assert_eq!(inside[30..34], world.vms["vm_c"].address.octets());
        assert_eq!(inside[54..58], world.vms["vm_c"].address.octets(), "the quotation is translated");
        assert_eq!(checksum(&inside[34..]), 0, "the checksum covers the extensions");
        assert!(inside.ends_with(&extension));
    });
}

/// RFC 5508 REQ-4 (SHOULD): an error from outside about no mapping is dropped silently.
#[test]
fn rfc5508_req4_an_error_from_outside_about_nothing_is_dropped() {
    play(options(), |world| {
        let never = Ends { dst: INTERNET, ..world.outside(0, (SNAT_ADDRESS, 1100), (INTERNET, 53)) };
        let ends = world.outside(0, (HOP, 0), (SNAT_ADDRESS, 0));
        let arrival = world.from_outside(0, frames::icmp_error(&ends, (3, 1), &udp(&never)));
        assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::NoMapping));
        assert!(world.hosts[0].tables.events.borrow().is_empty(), "silently");
    });
}

/// RFC 5508 REQ-4a (MUST): the quotation of an error from outside is put back to what the host sent.
#[test]
fn rfc5508_req4a_the_quotation_is_what_the_vm_sent() {
    play(options(), |world| {
        for (protocol, make) in PROTOCOLS {
            let arrival = world.from_vm("vm_c", make(&world.routed("vm_c", INTERNET, (4000, 4000))));
            let outside = frame_of(&arrival);
            let arrival = error_from(world, HOP, (3, 1), &outside);
            world.at_vm("vm_c", &arrival);
            let quoted = frames::quotation(&frame_of(&arrival));
            assert_eq!(quoted, ((world.vms["vm_c"].address, 4000), (INTERNET, 4000)), "{protocol}");
        }
    });
}

/// RFC 5508 REQ-4b (MUST): type and code of an error from outside stay.
#[test]
fn rfc5508_req4b_type_and_code_from_outside_stay() {
    play(options(), |world| {
        let outside = sent_outside(world);
        for code in (0..16).map(|code| (3, code)).chain([(11, 0), (11, 1), (12, 0)]) {
            let arrival = error_from(world, HOP, code, &outside);
            world.at_vm("vm_c", &arrival);
            assert_eq!(frame_of(&arrival)[34..36], [code.0, code.1]);
        }
    });
}

/// RFC 5508 REQ-4c (MUST): an error from outside is addressed to the host whose packet it quotes.
#[test]
fn rfc5508_req4c_the_error_is_addressed_to_the_vm() {
    play(options(), |world| {
        let outside = sent_outside(world);
        let arrival = error_from(world, HOP, (11, 0), &outside);
        let read = world.at_vm("vm_c", &arrival);
        assert_eq!((read.src, read.dst), (HOP, world.vms["vm_c"].address));
    });
}

/// A stranger's datagram that reached `vm_c` by its floating IP, as the VM got it.
fn got_inside(world: &mut World) -> Vec<u8> {
    add_floating_ips(world);
    let ends = world.outside(0, (STRANGER, 999), (FLOATING_C, 5353));
    let arrival = world.from_outside(0, udp(&ends));
    world.at_vm("vm_c", &arrival);
    frame_of(&arrival)
}

fn error_from_vm(world: &mut World, vm: &str, code: (u8, u8), about: &[u8]) -> Arrival {
    let ends = world.routed(vm, frames::read(about).src, (0, 0));
    world.from_vm(vm, frames::icmp_error(&ends, code, about))
}

/// RFC 5508 REQ-5 (SHOULD): an error from inside about no mapping is dropped silently.
#[test]
fn rfc5508_req5_an_error_from_inside_about_nothing_is_dropped() {
    play(options(), |world| {
        let vm = world.vms["vm_a"];
        let never = Ends { src: STRANGER, dst: vm.address, ..world.routed("vm_a", STRANGER, (999, 5353)) };
        let arrival = error_from_vm(world, "vm_a", (3, 3), &udp(&never));
        assert_eq!(arrival, dropped(0, Stage::Classify, Reason::IcmpErrorNotTranslated));
    });
}

/// RFC 5508 REQ-5a (MUST): the quotation of an error from inside shows the external endpoint.
#[test]
fn rfc5508_req5a_the_quotation_shows_the_external_endpoint() {
    play(options(), |world| {
        let inside = got_inside(world);
        let arrival = error_from_vm(world, "vm_c", (3, 3), &inside);
        world.at_uplink(&arrival);
        assert_eq!(frames::quotation(&frame_of(&arrival)), ((STRANGER, 999), (FLOATING_C, 5353)));
    });
}

/// RFC 5508 REQ-5b (MUST): type and code of an error from inside stay.
#[test]
fn rfc5508_req5b_type_and_code_from_inside_stay() {
    play(options(), |world| {
        let inside = got_inside(world);
        for code in [(3, 3), (3, 10), (3, 13), (11, 1), (12, 0)] {
            let arrival = error_from_vm(world, "vm_c", code, &inside);
            world.at_uplink(&arrival);
            assert_eq!(frame_of(&arrival)[34..36], [code.0, code.1]);
        }
    });
}

/// RFC 5508 REQ-5c (MUST): an error from inside comes from the external address, whoever inside sent it.
#[test]
fn rfc5508_req5c_the_error_comes_from_the_external_address() {
    play(options(), |world| {
        let inner_router = Ipv4Addr::new(192, 168, 99, 1);
        let vm = world.vms["vm_c"];
        let port = world.slice.ports.get_mut(&vm.port).expect("the port");
        port.port_security = false;
        let inside = got_inside(world);
        for sender in [vm.address, inner_router] {
            let ends = Ends { src: sender, ..world.routed("vm_c", STRANGER, (0, 0)) };
            let arrival = world.from_vm("vm_c", frames::icmp_error(&ends, (11, 0), &inside));
            let (_, read) = world.at_uplink(&arrival);
            assert_eq!((read.src, read.dst), (FLOATING_C, STRANGER), "sent by {sender}");
        }
    });
}

/// RFC 5508 REQ-6 (MUST): an error neither refreshes nor ends the session it is about.
#[test]
fn rfc5508_req6_an_error_leaves_the_life_of_the_session_alone() {
    play(options(), |world| {
        for (protocol, make) in [(PROTOCOL_ICMP, ping as Make), (PROTOCOL_UDP, udp)] {
            let arrival = world.from_vm("vm_a", make(&world.routed("vm_a", INTERNET, (4000, 4000))));
            let before = last_used(world, 0, protocol, 4000);
            wait(world, 0, 10);
            let arrival = error_from(world, HOP, (3, 1), &frame_of(&arrival));
            world.at_vm("vm_a", &arrival);
            assert_eq!(last_used(world, 0, protocol, 4000), before);
        }
    });
}

/// RFC 5508 REQ-7 (MUST): queries and errors between two hosts behind the NAT.
#[test]
fn rfc5508_req7_hairpinned_queries_are_answered() {
    play(options(), |world| {
        add_floating_ips(world);
        for (from, to, floating) in
            [("vm_a", "vm_c", FLOATING_C), ("vm_g", "vm_a", FLOATING_A), ("vm_b", "vm_a", FLOATING_A)]
        {
            let arrival = world.from_vm(from, ping(&world.routed(from, floating, (7, 7))));
            let read = world.at_vm(to, &arrival);
            let back = world.routed(to, read.src, (read.src_port, read.src_port));
            let arrival = world.from_vm(to, frames::echo(&back, true));
            let read = world.at_vm(from, &arrival);
            assert_eq!((read.src, read.src_port, read.icmp_type), (floating, 7, 0), "{from} to {to}");
        }
    });
}

/// RFC 5508 REQ-7a (MUST): a hairpinned error reaches the host whose packet it quotes.
#[test]
fn rfc5508_req7a_a_hairpinned_error_reaches_the_sender() {
    play(options(), |world| {
        add_floating_ips(world);
        for (from, to, floating) in [("vm_a", "vm_c", FLOATING_C), ("vm_g", "vm_a", FLOATING_A)] {
            let arrival = world.from_vm(from, udp(&world.routed(from, floating, (4100, 53))));
            world.at_vm(to, &arrival);
            let arrival = error_from_vm(world, to, (3, 3), &frame_of(&arrival));
            let read = world.at_vm(from, &arrival);
            assert_eq!((read.src, read.dst), (floating, world.vms[from].address));
            let quoted = frames::quotation(&frame_of(&arrival));
            assert_eq!(quoted, ((world.vms[from].address, 4100), (floating, 53)), "{from} to {to}");
        }
    });
}

/// RFC 5508 REQ-8 (SHOULD): who is refused a session is told "prohibited".
#[test]
fn rfc5508_req8_who_is_refused_is_told() {
    let told = |world: &World| world.hosts[0].tables.events.borrow().last().map(|event| event.punt);
    play(Options { ports_per_vm_max: 1, ..options() }, |world| {
        external(world, "vm_a", udp, 4000);
        // Three protocols, one share.
        for (_, make) in PROTOCOLS {
            let arrival = world.from_vm("vm_a", make(&world.routed("vm_a", INTERNET, (5000, 5000))));
            assert_eq!(arrival, dropped(0, Stage::Snat, Reason::PortQuota));
            assert_eq!(told(world), Some(Punt::Prohibited as u32));
        }
    });
    play(options(), |world| {
        let router = world.slice.routers.get_mut(&router_id(1)).expect("the router");
        router.gateway.as_mut().expect("a gateway").enable_snat = false;
        world.program();
        let arrival = world.from_vm("vm_a", syn(&world.routed("vm_a", INTERNET, (4000, 443))));
        assert_eq!(arrival, dropped(0, Stage::Snat, Reason::SnatDisabled));
        assert_eq!(told(world), Some(Punt::Prohibited as u32));
    });
}

/// RFC 5508 REQ-9 (MAY): how many messages a port can cause is limited.
#[test]
fn rfc5508_req9_one_port_causes_a_limited_number_of_messages() {
    let mut world = World::with(options());
    let ends = world.routed("vm_a", INTERNET, (4000, 53));
    let tell = |world: &mut World, vm: &str, ends: &Ends| world.from_vm(vm, frames::udp_ttl(ends, b"", 1));
    let punted = |arrival: &Arrival| matches!(arrival, Arrival::Nowhere { verdict: Verdict::Punt(_), .. });
    let told = (0..1000).filter(|_| punted(&tell(&mut world, "vm_a", &ends))).count();
    assert!(told > 0 && told < 100, "{told}");
    let neighbour = world.routed("vm_g", INTERNET, (4000, 53));
    assert!(punted(&tell(&mut world, "vm_g", &neighbour)), "its neighbour is still told");
}

/// RFC 5508 REQ-10 (MUST): unreachable, time exceeded, echo and echo reply are supported.
#[test]
fn rfc5508_req10_the_messages_that_must_be_supported() {
    play(options(), |world| {
        let inside = got_inside(world);
        for kind in [3, 11] {
            let arrival = error_from_vm(world, "vm_c", (kind, 1), &inside);
            assert_eq!(world.at_uplink(&arrival).1.icmp_type, kind);
        }
        let arrival = world.from_vm("vm_a", udp(&world.routed("vm_a", INTERNET, (4000, 53))));
        let outside = frame_of(&arrival);
        for kind in [3, 11] {
            let arrival = error_from(world, HOP, (kind, 0), &outside);
            assert_eq!(world.at_vm("vm_a", &arrival).icmp_type, kind);
        }
        let ends = world.outside(0, (STRANGER, 5), (FLOATING_A, 5));
        let arrival = world.from_outside(0, ping(&ends));
        assert_eq!(world.at_vm("vm_a", &arrival).icmp_type, 8);
        let arrival = world.from_vm("vm_a", frames::echo(&world.routed("vm_a", STRANGER, (5, 5)), true));
        assert_eq!(world.at_uplink(&arrival).1.icmp_type, 0);
    });
}

/// RFC 5508 REQ-11 (MAY): other messages are dropped and counted.
#[test]
fn rfc5508_req11_other_messages_are_dropped() {
    play(options(), |world| {
        for kind in [4, 5, 9, 13, 17] {
            let ends = world.routed("vm_a", INTERNET, (4000, 4000));
            let mut frame = ping(&ends);
            frame[34] = kind;
            let arrival = world.from_vm("vm_a", with_icmp_checksum(frame));
            assert_eq!(arrival, dropped(0, Stage::Snat, Reason::IcmpErrorNotTranslated), "type {kind}");
        }
    });
}
