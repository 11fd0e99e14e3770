//! RFC 7857: updates to the three others. It numbers no requirements: the numbers are those of its sections.

use crate::scene::*;
use dataplane::State;
use packet::ipv4::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
use pipeline::session::seen;
use pipeline::{Reason, Stage};
use std::collections::BTreeSet;
use testkit::World;
use testkit::frames::{self, Segment};
use testkit::world::{BLOCK_SIZE, INTERNET, SNAT_ADDRESS};

fn send(world: &mut World, segment: Segment) -> u16 {
    let frame = frames::tcp(&world.routed("vm_a", INTERNET, (4000, 443)), segment, b"");
    let arrival = world.from_vm("vm_a", frame);
    world.at_uplink(&arrival).1.src_port
}

fn receive(world: &mut World, port: u16, segment: Segment) {
    let ends = world.outside(0, (INTERNET, 443), (SNAT_ADDRESS, port));
    let arrival = world.from_outside(0, frames::tcp(&ends, segment, b""));
    assert_eq!(world.at_vm("vm_a", &arrival).dst_port, 4000, "{segment:?}");
}

fn open(world: &mut World) -> u16 {
    let port = send(world, Segment::Syn);
    receive(world, port, Segment::SynAck);
    send(world, Segment::Ack);
    port
}

fn state_now(world: &World) -> State {
    state(world, 0, PROTOCOL_TCP, 4000)
}

/// RFC 7857 §2 (SHOULD): TCP sessions are followed by a state machine, from either side.
#[test]
fn rfc7857_s2_the_state_follows_both_sides() {
    let both = |bits: u32| bits | bits << seen::REPLY_SHIFT;
    let table = [
        (seen::SYN, State::TcpTransitory),
        (both(seen::SYN), State::TcpTransitory),
        (seen::SYN | (seen::SYN | seen::ACK) << seen::REPLY_SHIFT, State::TcpTransitory),
        (both(seen::SYN | seen::ACK), State::TcpEstablished),
        (both(seen::ACK), State::TcpEstablished),
        (both(seen::ACK) | seen::FIN, State::TcpTransitory),
        (both(seen::ACK) | seen::FIN << seen::REPLY_SHIFT, State::TcpTransitory),
        (both(seen::ACK | seen::FIN), State::TcpClosed),
        (both(seen::ACK) | seen::RST, State::TcpClosed),
    ];
    for (bits, state) in table {
        assert_eq!(State::of(PROTOCOL_TCP, bits), state, "{bits:#06x}");
    }
}

/// RFC 7857 §2 (SHOULD): a new connection by the ports of an ended one is a new one.
#[test]
fn rfc7857_s2_a_syn_after_the_end_begins_anew() {
    play(options(), |world| {
        let port = open(world);
        send(world, Segment::Fin);
        receive(world, port, Segment::Fin);
        assert_eq!(state_now(world), State::TcpClosed);
        assert_eq!(open(world), port);
        assert_eq!(state_now(world), State::TcpEstablished);
    });
}

/// RFC 7857 §2 (SHOULD): a connection that was under way before the NAT knew it is adopted.
#[test]
fn rfc7857_s2_a_connection_is_adopted_in_the_middle() {
    play(options(), |world| {
        let port = send(world, Segment::Ack);
        assert_eq!(state_now(world), State::TcpTransitory);
        receive(world, port, Segment::Ack);
        assert_eq!(state_now(world), State::TcpEstablished);
    });
}

/// RFC 7857 §2.1 (SHOULD): half-open and closing connections each have their four minutes.
#[test]
fn rfc7857_s2_1_opening_and_closing_have_four_minutes() {
    for state in [State::TcpTransitory, State::TcpClosed] {
        assert!(idle_seconds(state) >= 240, "{state:?}");
    }
}

/// RFC 7857 §2.2 (MUST): a reset is translated.
#[test]
fn rfc7857_s2_2_a_reset_is_translated_both_ways() {
    play(options(), |world| {
        let port = open(world);
        receive(world, port, Segment::Rst);
        assert_eq!(send(world, Segment::Rst), port);
        assert_eq!(state_now(world), State::TcpClosed);
        receive(world, port, Segment::Rst);
    });
}

/// RFC 7857 §2.2 (SHOULD): a reset ends nothing for four minutes, nor at all if the connection goes on.
#[test]
fn rfc7857_s2_2_a_reset_that_is_not_believed_ends_nothing() {
    play(options(), |world| {
        let port = open(world);
        receive(world, port, Segment::Rst);
        assert!(idle_seconds(state_now(world)) >= 240);
        send(world, Segment::Ack);
        assert_eq!(state_now(world), State::TcpEstablished);
    });
}

/// RFC 7857 §3 (MAY, not used): ports do not overlap where mappings are endpoint-independent.
#[test]
fn rfc7857_s3_different_destinations_do_not_share_a_port() {
    play(options(), |world| {
        let mut taken = BTreeSet::new();
        for (vm, to) in [("vm_a", INTERNET), ("vm_g", OTHER), ("vm_d", STRANGER)] {
            for port in 0..20 {
                let read = out(world, vm, syn, (to, 443), 4000 + port);
                assert!(taken.insert(read.src_port), "{vm}: {} twice", read.src_port);
            }
        }
    });
}

/// RFC 7857 §4 (SHOULD): one external address per host for all protocols.
#[test]
fn rfc7857_s4_all_protocols_of_a_host_share_its_address() {
    play(options(), |world| {
        add_second_address(world);
        for vm in ["vm_a", "vm_g", "vm_d"] {
            let of = |world: &mut World, make: Make| external(world, vm, make, 4000).0;
            let addresses: BTreeSet<_> = PROTOCOLS.iter().map(|(_, make)| of(world, *make)).collect();
            assert_eq!(addresses.len(), 1, "{vm}: {addresses:?}");
        }
    });
}

/// RFC 7857 §5 (SHOULD): the mappings of one protocol say nothing about another's.
#[test]
fn rfc7857_s5_mappings_are_made_per_protocol() {
    play(options(), |world| {
        for (count, (_, make)) in PROTOCOLS.iter().enumerate() {
            external(world, "vm_a", *make, 4000);
            assert_eq!(world.hosts[0].tables.mappings.borrow().len(), count + 1);
        }
        let claims = world.hosts[0].tables.bindings.borrow();
        let protocols: BTreeSet<u8> = claims.keys().map(|claim| claim.protocol).collect();
        assert_eq!(protocols, BTreeSet::from([PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP]));
    });
}

/// RFC 7857 §6 (SHOULD): a mapping lets in its own protocol only.
#[test]
fn rfc7857_s6_filtering_is_per_protocol() {
    play(open_filter(), |world| {
        let (_, port) = external(world, "vm_a", udp, 4000);
        let arrival = inward(world, 0, syn, (STRANGER, 999), port);
        assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::NoMapping));
        let arrival = inward(world, 0, udp, (STRANGER, 999), port);
        world.at_vm("vm_a", &arrival);
    });
}

/// RFC 7857 §7 (SHOULD): what strangers send keeps no mapping alive.
#[test]
fn rfc7857_s7_a_stranger_does_not_refresh_and_an_answer_does() {
    play(open_filter(), |world| {
        let (_, port) = external(world, "vm_a", udp, 4000);
        let arrival = inward(world, 0, udp, (STRANGER, 999), port);
        world.at_vm("vm_a", &arrival);
        let before = last_used(world, 0, PROTOCOL_UDP, 999);
        wait(world, 0, 10);
        inward(world, 0, udp, (STRANGER, 999), port);
        assert_eq!(last_used(world, 0, PROTOCOL_UDP, 999), before);
        out(world, "vm_a", udp, (STRANGER, 999), 4000);
        assert_eq!(last_used(world, 0, PROTOCOL_UDP, 999), before + 10_000_000_000);
    });
}

/// RFC 7857 §7.1 (SHOULD): errors and resets that a host answers strangers with keep no mapping alive.
#[test]
fn rfc7857_s7_1_errors_and_resets_to_strangers_do_not_refresh() {
    play(open_filter(), |world| {
        let (_, port) = external(world, "vm_a", syn, 4000);
        let arrival = inward(world, 0, syn, (STRANGER, 999), port);
        world.at_vm("vm_a", &arrival);
        let before = last_used(world, 0, PROTOCOL_TCP, 999);
        wait(world, 0, 10);
        let ends = world.routed("vm_a", STRANGER, (0, 0));
        let error = frames::icmp_error(&ends, (3, 3), &frame_of(&arrival));
        let arrival = world.from_vm("vm_a", error);
        world.at_uplink(&arrival);
        let reset = frames::tcp(&world.routed("vm_a", STRANGER, (4000, 999)), Segment::Rst, b"");
        let arrival = world.from_vm("vm_a", reset);
        world.at_uplink(&arrival);
        assert_eq!(last_used(world, 0, PROTOCOL_TCP, 999), before);
    });
}

/// RFC 7857 §9 (SHOULD): ports are drawn at random from the whole block.
#[test]
fn rfc7857_s9_ports_are_random() {
    let mut world = World::with(options());
    let ports: Vec<u16> = (0..256).map(|port| external(&mut world, "vm_a", udp, 4000 + port).1).collect();
    let mut quarters = [0; 4];
    for port in &ports {
        quarters[usize::from((port - BLOCK_SIZE) / (BLOCK_SIZE / 4))] += 1;
    }
    // 64 expected in each, standard deviation 7.
    assert!(quarters.iter().all(|count| (29..=99).contains(count)), "{quarters:?}");
    let ascending = ports.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((80..=175).contains(&ascending), "{ascending} of 255 follow in order");
}

/// RFC 7857 §10 (SHOULD): the identification of a datagram is the same in all its fragments.
#[test]
fn rfc7857_s10_fragments_keep_their_identification() {
    play(options(), |world| {
        let ends = world.routed("vm_a", INTERNET, (4000, 53));
        for fragment in frames::fragments(&frames::udp(&ends, &[7; 92]), 40) {
            let identification = fragment[18..20].to_vec();
            let arrival = world.from_vm("vm_a", fragment);
            assert_eq!(frame_of(&arrival)[18..20], identification);
        }
    });
}

/// RFC 7857 §12 (MUST): hairpinned echo between hosts behind one address.
#[test]
fn rfc7857_s12_a_hairpinned_echo_comes_from_the_external_address() {
    play(options(), |world| {
        add_floating_ips(world);
        let known = external(world, "vm_g", ping, 7);
        let arrival = world.from_vm("vm_g", ping(&world.routed("vm_g", FLOATING_A, (7, 7))));
        let read = world.at_vm("vm_a", &arrival);
        assert_eq!((read.src, read.src_port), known);
    });
}
