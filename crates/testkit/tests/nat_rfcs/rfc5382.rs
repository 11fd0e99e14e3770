//! RFC 5382: TCP.

use crate::scene::*;
use dataplane::State;
use packet::ipv4::PROTOCOL_TCP;
use pipeline::{Reason, Stage};
use std::collections::BTreeSet;
use testkit::World;
use testkit::frames::{self, Ends, Read, Segment};
use testkit::world::{INTERNET, SNAT_ADDRESS};

/// A connection from `vm_a` port 4000 to the internet's port 443.
struct Connection {
    external_port: u16,
}

impl Connection {
    fn ends(world: &World) -> Ends {
        world.routed("vm_a", INTERNET, (4000, 443))
    }

    /// The VM's SYN leaves.
    fn begin(world: &mut World) -> Self {
        Self { external_port: Self::send(world, Segment::Syn).src_port }
    }

    fn open(world: &mut World) -> Self {
        let connection = Self::begin(world);
        connection.receive(world, Segment::SynAck);
        Self::send(world, Segment::Ack);
        connection
    }

    fn send(world: &mut World, segment: Segment) -> Read {
        let frame = frames::tcp(&Self::ends(world), segment, b"");
        let arrival = world.from_vm("vm_a", frame);
        world.at_uplink(&arrival).1
    }

    fn receive(&self, world: &mut World, segment: Segment) {
        let ends = world.outside(1, (INTERNET, 443), (SNAT_ADDRESS, self.external_port));
        let arrival = world.from_outside(1, frames::tcp(&ends, segment, b""));
        let read = world.at_vm("vm_a", &arrival);
        assert_eq!((read.src, read.src_port, read.dst_port), (INTERNET, 443, 4000));
    }
}

fn state_now(world: &World) -> State {
    state(world, 0, PROTOCOL_TCP, 4000)
}

/// RFC 5382 REQ-1 (MUST): endpoint-independent mapping.
#[test]
fn rfc5382_req1_a_port_has_one_external_endpoint_for_every_destination() {
    play(options(), |world| {
        for vm in ["vm_a", "vm_c"] {
            let first = external(world, vm, syn, 4000);
            for to in [(INTERNET, 443), (OTHER, 80), (STRANGER, 22)] {
                let read = out(world, vm, syn, to, 4000);
                assert_eq!((read.src, read.src_port), first, "{vm} to {to:?}");
            }
        }
    });
}

/// RFC 5382 REQ-2 (MUST): every valid sequence, from the first SYN to the last FIN.
#[test]
fn rfc5382_req2_half_closed_connections_carry_data_until_both_sides_are_done() {
    play(options(), |world| {
        let connection = Connection::open(world);
        assert_eq!(state_now(world), State::TcpEstablished);
        Connection::send(world, Segment::Fin);
        assert_eq!(state_now(world), State::TcpTransitory);
        for _ in 0..3 {
            connection.receive(world, Segment::Ack);
            Connection::send(world, Segment::Ack);
        }
        assert_eq!(state_now(world), State::TcpTransitory, "half closed");
        connection.receive(world, Segment::Fin);
        Connection::send(world, Segment::Ack);
        assert_eq!(state_now(world), State::TcpClosed);
    });
}

/// RFC 5382 REQ-2 (MUST): connections from outside, where the NAT lets them in.
#[test]
fn rfc5382_req2_connections_from_outside_by_floating_ip() {
    play(options(), |world| {
        add_floating_ips(world);
        for (vm, floating) in [("vm_a", FLOATING_A), ("vm_c", FLOATING_C)] {
            let inbound = world.outside(1, (STRANGER, 999), (floating, 22));
            let outbound = world.routed(vm, STRANGER, (22, 999));
            for (segment, answer) in [(Segment::Syn, Segment::SynAck), (Segment::Ack, Segment::Ack)] {
                let arrival = world.from_outside(1, frames::tcp(&inbound, segment, b""));
                assert_eq!(world.at_vm(vm, &arrival).dst_port, 22);
                let arrival = world.from_vm(vm, frames::tcp(&outbound, answer, b""));
                assert_eq!(world.at_uplink(&arrival).1.src, floating);
            }
        }
    });
}

/// RFC 5382 REQ-2a (MUST): the three-way handshake.
#[test]
fn rfc5382_req2a_the_three_way_handshake() {
    play(options(), |world| {
        let connection = Connection::begin(world);
        assert_eq!(state_now(world), State::TcpTransitory);
        connection.receive(world, Segment::SynAck);
        assert_eq!(state_now(world), State::TcpTransitory, "the VM has not acknowledged");
        Connection::send(world, Segment::Ack);
        assert_eq!(state_now(world), State::TcpEstablished);
    });
}

/// RFC 5382 REQ-2a (MUST): simultaneous open.
#[test]
fn rfc5382_req2a_simultaneous_open() {
    play(options(), |world| {
        let connection = Connection::begin(world);
        connection.receive(world, Segment::Syn);
        assert_eq!(state_now(world), State::TcpTransitory);
        Connection::send(world, Segment::SynAck);
        connection.receive(world, Segment::SynAck);
        assert_eq!(state_now(world), State::TcpEstablished);
    });
}

/// RFC 5382 REQ-3 (SHOULD): strict filtering by default, endpoint-independent by choice.
#[test]
fn rfc5382_req3_who_may_connect_to_a_mapping_is_a_choice() {
    for (options, from, open) in [
        (options(), (INTERNET, 999), false),
        (address_filter(), (INTERNET, 999), true),
        (address_filter(), (STRANGER, 999), false),
        (open_filter(), (STRANGER, 999), true),
    ] {
        play(options, |world| {
            let (_, port) = external(world, "vm_a", syn, 4000);
            let arrival = inward(world, 0, syn, from, port);
            if open {
                assert_eq!(world.at_vm("vm_a", &arrival).dst_port, 4000);
            } else {
                assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::Filtered));
            }
        });
    }
}

/// RFC 5382 REQ-4 (MUST): no answer to an unsolicited SYN, whose connection may be about to be opened from
/// inside.
#[test]
fn rfc5382_req4_an_unsolicited_syn_is_dropped_silently_and_its_connection_can_still_be_opened() {
    play(options(), |world| {
        let (_, port) = external(world, "vm_a", syn, 4000);
        let events = world.hosts[0].tables.events.borrow().len();
        let arrival = inward(world, 0, syn, (STRANGER, 999), port);
        assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::Filtered));
        assert_eq!(world.hosts[0].tables.events.borrow().len(), events, "nobody is told anything");
        out(world, "vm_a", syn, (STRANGER, 999), 4000);
        let arrival = inward(world, 0, syn, (STRANGER, 999), port);
        world.at_vm("vm_a", &arrival);
    });
}

/// RFC 5382 REQ-5 (MUST): an established connection may be idle for 2 hours and 4 minutes, any other for 4
/// minutes.
#[test]
fn rfc5382_req5_idle_connections_are_kept_as_long_as_they_must() {
    assert!(idle_seconds(State::TcpEstablished) >= 2 * 3600 + 4 * 60);
    assert!(idle_seconds(State::TcpTransitory) >= 4 * 60);
    assert!(idle_seconds(State::TcpClosed) >= 4 * 60);
}

/// RFC 5382 REQ-6 (SHOULD): no application gateways: payloads pass as they are.
#[test]
fn rfc5382_req6_addresses_in_payloads_are_left_alone() {
    play(options(), |world| {
        let payload = b"PORT 192,168,10,11,15,160\r\n";
        let ends = world.routed("vm_a", INTERNET, (4000, 21));
        let arrival = world.from_vm("vm_a", frames::tcp(&ends, Segment::Ack, payload));
        assert!(frame_of(&arrival).ends_with(payload));
    });
}

/// RFC 5382 REQ-7 (MUST): no port overloading.
#[test]
fn rfc5382_req7_no_external_port_has_two_internal_ones() {
    play(options(), |world| {
        let mut taken = BTreeSet::new();
        for vm in ["vm_a", "vm_g", "vm_d", "vm_b"] {
            for port in 0..25 {
                let to = (if port % 2 == 0 { INTERNET } else { OTHER }, 443);
                let read = out(world, vm, syn, to, 4000 + port);
                assert!(taken.insert((read.src, read.src_port)), "{vm}: {} twice", read.src_port);
            }
        }
    });
}

/// RFC 5382 REQ-8 (MUST): hairpinning.
#[test]
fn rfc5382_req8_a_vm_connects_to_anothers_external_endpoint() {
    play(open_filter(), |world| {
        add_floating_ips(world);
        for (from, to) in [("vm_g", "vm_b"), ("vm_g", "vm_a"), ("vm_b", "vm_c"), ("vm_a", "vm_c")] {
            let (address, port) = external(world, to, syn, 4000);
            let there = world.routed(from, address, (4100, port));
            let arrival = world.from_vm(from, syn(&there));
            let read = world.at_vm(to, &arrival);
            let back = world.routed(to, read.src, (4000, read.src_port));
            let arrival = world.from_vm(to, frames::tcp(&back, Segment::SynAck, b""));
            let read = world.at_vm(from, &arrival);
            assert_eq!((read.src, read.src_port, read.dst_port), (address, port, 4100), "{to} to {from}");
        }
    });
}

/// RFC 5382 REQ-8 (MUST), REQ-2a: simultaneous open through the hairpin, with the default filtering.
#[test]
fn rfc5382_req8_two_vms_open_simultaneously() {
    for (a, b) in [("vm_a", "vm_g"), ("vm_a", "vm_e"), ("vm_a", "vm_b")] {
        play(options(), |world| {
            let (address_a, port_a) = external(world, a, syn, 4000);
            let (address_b, port_b) = external(world, b, syn, 4100);
            let there = world.routed(a, address_b, (4000, port_b));
            let back = world.routed(b, address_a, (4100, port_a));
            let arrival = world.from_vm(a, syn(&there));
            assert_eq!(arrival, dropped(world.vms[b].host, Stage::Dnat, Reason::Filtered));
            let arrival = world.from_vm(b, syn(&back));
            assert_eq!(world.at_vm(a, &arrival).src, address_b);
            for (from, ends, to) in [(a, &there, b), (b, &back, a)] {
                let arrival = world.from_vm(from, frames::tcp(ends, Segment::SynAck, b""));
                world.at_vm(to, &arrival);
            }
            for (from, ends, to) in [(a, &there, b), (b, &back, a)] {
                let arrival = world.from_vm(from, frames::tcp(ends, Segment::Ack, b"data"));
                world.at_vm(to, &arrival);
            }
        });
    }
}

/// RFC 5382 REQ-8a (MUST): the receiver sees the sender's external address and port.
#[test]
fn rfc5382_req8a_a_hairpinned_connection_comes_from_the_external_endpoint() {
    play(options(), |world| {
        add_floating_ips(world);
        for (from, to, floating) in [("vm_g", "vm_a", FLOATING_A), ("vm_a", "vm_c", FLOATING_C)] {
            let known = external(world, from, syn, 4100);
            let arrival = world.from_vm(from, syn(&world.routed(from, floating, (4100, 22))));
            let read = world.at_vm(to, &arrival);
            assert_eq!((read.src, read.src_port), known, "{from} to {to}");
        }
    });
}

/// RFC 5382 REQ-9 (SHOULD): "destination unreachable" is translated.
#[test]
fn rfc5382_req9_unreachable_reaches_the_vm() {
    play(options(), |world| {
        let arrival = world.from_vm("vm_c", syn(&world.routed("vm_c", INTERNET, (4000, 443))));
        let outside = frame_of(&arrival);
        for code in [0, 1, 3, 4, 13] {
            let arrival = error_from(world, HOP, (3, code), &outside);
            assert_eq!(world.at_vm("vm_c", &arrival).src, HOP);
            let frame = frame_of(&arrival);
            assert_eq!(frame[34..36], [3, code]);
            assert_eq!(frames::quotation(&frame), ((world.vms["vm_c"].address, 4000), (INTERNET, 443)));
        }
    });
}

/// RFC 5382 REQ-10 (MUST): no ICMP message ends a mapping or a connection.
#[test]
fn rfc5382_req10_no_icmp_message_ends_a_connection() {
    play(options(), |world| {
        let connection = Connection::open(world);
        let frame = frames::tcp(&Connection::ends(world), Segment::Ack, b"data");
        let arrival = world.from_vm("vm_a", frame);
        let outside = frame_of(&arrival);
        for code in (0..16).map(|code| (3, code)).chain([(4, 0), (5, 1), (11, 0), (11, 1), (12, 0)]) {
            error_from(world, HOP, code, &outside);
        }
        assert_eq!(state_now(world), State::TcpEstablished);
        connection.receive(world, Segment::Ack);
        assert_eq!(Connection::send(world, Segment::Ack).src_port, connection.external_port);
    });
}
