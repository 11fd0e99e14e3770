//! RFC 4787: UDP.

use crate::scene::*;
use dataplane::State;
use dataplane::fragments::HELD_PER_INGRESS_MAX;
use packet::ipv4::PROTOCOL_UDP;
use pipeline::bounds::{FRAGMENTS_MAX, FRAME_BURST};
use pipeline::{Punt, Reason, Stage, Verdict};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use testkit::frames::{self, Ends};
use testkit::world::{BLOCK_SIZE, INTERNET, SNAT_ADDRESS, SNAT_GREEN};
use testkit::{Arrival, World};

/// RFC 4787 REQ-1 (MUST): endpoint-independent mapping.
#[test]
fn rfc4787_req1_a_port_has_one_external_endpoint_for_every_destination() {
    play(options(), |world| {
        for vm in ["vm_a", "vm_c"] {
            let first = external(world, vm, udp, 4000);
            for to in [(INTERNET, 80), (OTHER, 53), (STRANGER, 9999)] {
                let read = out(world, vm, udp, to, 4000);
                assert_eq!((read.src, read.src_port), first, "{vm} to {to:?}");
            }
            assert_ne!(external(world, vm, udp, 4001), first, "another port is another mapping");
        }
    });
}

/// RFC 4787 REQ-2 (SHOULD): one external address per host behind the NAT, out of a pool.
#[test]
fn rfc4787_req2_a_host_keeps_to_one_address_of_the_pool() {
    play(options(), |world| {
        add_second_address(world);
        let mut used = BTreeSet::new();
        for vm in ["vm_a", "vm_g", "vm_d"] {
            let addresses: BTreeSet<_> =
                (0..20).map(|port| external(world, vm, udp, 5000 + port).0).collect();
            assert_eq!(addresses.len(), 1, "{vm} uses {addresses:?}");
            used.extend(addresses);
        }
        assert_eq!(used, BTreeSet::from([SNAT_ADDRESS, SECOND_ADDRESS]), "the pool is used");
    });
}

/// RFC 4787 REQ-3 (MUST): no port overloading.
#[test]
fn rfc4787_req3_no_external_port_has_two_internal_ones() {
    play(options(), |world| {
        let mut taken = BTreeSet::new();
        for vm in ["vm_a", "vm_g", "vm_d", "vm_b"] {
            for port in 0..25 {
                let to = (if port % 2 == 0 { INTERNET } else { OTHER }, 53);
                let read = out(world, vm, udp, to, 4000 + port);
                assert!(taken.insert((read.src, read.src_port)), "{vm}: {} twice", read.src_port);
            }
        }
    });
}

/// RFC 4787 REQ-3a (SHOULD): a port above 1023 gets one above 1023.
#[test]
fn rfc4787_req3a_a_high_port_stays_high() {
    play(options(), |world| {
        for port in [1024, 5060, 32_768, 65_535] {
            assert!(external(world, "vm_a", udp, port).1 >= 1024);
        }
    });
}

/// RFC 4787 REQ-5 (MUST): a mapping lives at least two minutes without traffic.
#[test]
fn rfc4787_req5_an_idle_mapping_lives_two_minutes() {
    for bits in [0x01, 0x0101] {
        assert!(idle_seconds(State::of(PROTOCOL_UDP, bits)) >= 120);
    }
}

/// RFC 4787 REQ-5c (SHOULD): five minutes by default.
#[test]
fn rfc4787_req5c_five_minutes_by_default() {
    assert!(idle_seconds(State::of(PROTOCOL_UDP, 0x01)) >= 300);
}

/// RFC 4787 REQ-6 (MUST): outbound packets refresh the mapping.
#[test]
fn rfc4787_req6_an_outbound_packet_refreshes() {
    play(options(), |world| {
        external(world, "vm_a", udp, 4000);
        let before = last_used(world, 0, PROTOCOL_UDP, 4000);
        wait(world, 0, 100);
        external(world, "vm_a", udp, 4000);
        assert_eq!(last_used(world, 0, PROTOCOL_UDP, 4000), before + 100_000_000_000);
    });
}

/// RFC 4787 REQ-6a (MAY): inbound packets of the connection refresh it too.
#[test]
fn rfc4787_req6a_an_answer_refreshes() {
    play(options(), |world| {
        let (_, port) = external(world, "vm_a", udp, 4000);
        let before = last_used(world, 0, PROTOCOL_UDP, 4000);
        wait(world, 0, 100);
        let arrival = inward(world, 0, udp, (INTERNET, 53), port);
        world.at_vm("vm_a", &arrival);
        assert_eq!(last_used(world, 0, PROTOCOL_UDP, 4000), before + 100_000_000_000);
    });
}

/// RFC 4787 REQ-7 (MUST): equal addresses inside do not mix, not even with equal ports.
#[test]
fn rfc4787_req7_equal_addresses_of_two_vpcs_are_kept_apart() {
    play(options(), |world| {
        assert_eq!(world.vms["vm_a"].address, world.vms["vm_e"].address);
        let blue = external(world, "vm_a", udp, 4000);
        let green = external(world, "vm_e", udp, 4000);
        assert_eq!((blue.0, green.0), (SNAT_ADDRESS, SNAT_GREEN));
        for (vm, (address, port)) in [("vm_a", blue), ("vm_e", green)] {
            let ends = world.outside(0, (INTERNET, 53), (address, port));
            let arrival = world.from_outside(0, udp(&ends));
            assert_eq!(world.at_vm(vm, &arrival).dst_port, 4000);
        }
    });
}

/// RFC 4787 REQ-8 (SHOULD): strict filtering for those who want safety ...
#[test]
fn rfc4787_req8_by_default_only_the_contacted_endpoint_is_let_in() {
    play(options(), |world| {
        let (_, port) = external(world, "vm_a", udp, 4000);
        let arrival = inward(world, 0, udp, (INTERNET, 53), port);
        world.at_vm("vm_a", &arrival);
        for from in [(STRANGER, 53), (STRANGER, 999), (INTERNET, 54)] {
            let arrival = inward(world, 0, udp, from, port);
            assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::Filtered), "{from:?}");
        }
    });
}

/// RFC 4787 REQ-8a (MAY): ... and endpoint-independent filtering for those who want transparency.
#[test]
fn rfc4787_req8a_by_choice_anyone_is_let_in_to_a_mapping() {
    play(open_filter(), |world| {
        for vm in ["vm_a", "vm_c"] {
            let (_, port) = external(world, vm, udp, 4000);
            for gateway in [0, 1] {
                let arrival = inward(world, gateway, udp, (STRANGER, 999), port);
                assert_eq!(world.at_vm(vm, &arrival).dst_port, 4000);
            }
            let arrival = inward(world, 0, udp, (STRANGER, 999), port ^ 1);
            assert!(matches!(arrival, Arrival::Nowhere { .. }), "no mapping, no way in: {arrival:?}");
        }
    });
}

/// RFC 4787 REQ-8 (SHOULD): ... address-dependent filtering where that is wanted ...
#[test]
fn rfc4787_req8_by_choice_every_port_of_a_contacted_address_is_let_in() {
    play(address_filter(), |world| {
        for vm in ["vm_a", "vm_c"] {
            let (_, port) = external(world, vm, udp, 4000);
            for from in [(INTERNET, 53), (INTERNET, 9999)] {
                let arrival = inward(world, 1, udp, from, port);
                assert_eq!(world.at_vm(vm, &arrival).dst_port, 4000, "{from:?}");
            }
            let owner = world.vms[vm].host;
            let arrival = inward(world, owner.min(1), udp, (STRANGER, 53), port);
            assert_eq!(arrival, dropped(owner, Stage::Dnat, Reason::Filtered));
        }
    });
}

/// RFC 4787 REQ-8 (SHOULD): ... also between VMs of one host.
#[test]
fn rfc4787_req8_address_dependent_filtering_knows_siblings_by_their_external_address() {
    play(address_filter(), |world| {
        let (address, port) = external(world, "vm_a", udp, 4000);
        let (green, green_port) = external(world, "vm_e", udp, 4100);
        let from_green = world.routed("vm_e", address, (4200, port));
        let arrival = world.from_vm("vm_e", udp(&from_green));
        assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::Filtered), "not contacted yet");
        let to_green = world.routed("vm_a", green, (4000, green_port));
        let arrival = world.from_vm("vm_a", udp(&to_green));
        assert_eq!(
            arrival,
            dropped(0, Stage::Dnat, Reason::Filtered),
            "nor has green sent to blue from there"
        );
        let another = world.routed("vm_e", address, (4300, port));
        let arrival = world.from_vm("vm_e", udp(&another));
        assert_eq!(world.at_vm("vm_a", &arrival).src, green, "now blue's mapping was used towards green");
    });
}

/// RFC 4787 REQ-9 (MUST): hairpinning with the default filtering: who both send get through to each other.
#[test]
fn rfc4787_req9_two_vms_punch_holes_to_each_other() {
    for (a, b) in [("vm_a", "vm_g"), ("vm_a", "vm_d"), ("vm_a", "vm_e"), ("vm_a", "vm_b"), ("vm_c", "vm_b")] {
        play(options(), |world| {
            let (address_a, port_a) = external(world, a, udp, 4000);
            let (address_b, port_b) = external(world, b, udp, 4100);
            let there = udp(&world.routed(a, address_b, (4000, port_b)));
            let back = udp(&world.routed(b, address_a, (4100, port_a)));
            for _ in 0..2 {
                let arrival = world.from_vm(a, there.clone());
                let refused = dropped(world.vms[b].host, Stage::Dnat, Reason::Filtered);
                assert_eq!(arrival, refused, "{b} has not sent yet");
            }
            for _ in 0..2 {
                let arrival = world.from_vm(b, back.clone());
                let read = world.at_vm(a, &arrival);
                assert_eq!((read.src, read.src_port, read.dst_port), (address_b, port_b, 4000), "{b} to {a}");
                let arrival = world.from_vm(a, there.clone());
                let read = world.at_vm(b, &arrival);
                assert_eq!((read.src, read.src_port, read.dst_port), (address_a, port_a, 4100), "{a} to {b}");
            }
            let elsewhere = world.routed(a, address_b, (4001, port_b));
            let arrival = world.from_vm(a, udp(&elsewhere));
            let refused = dropped(world.vms[b].host, Stage::Dnat, Reason::Filtered);
            assert_eq!(arrival, refused, "another port of {a} was not answered");
        });
    }
}

/// RFC 4787 REQ-6 (MUST): outbound packets refresh the mapping also when they go to a sibling's.
#[test]
fn rfc4787_req6_a_hairpinned_packet_refreshes_its_senders_mapping() {
    play(open_filter(), |world| {
        let (address, port) = external(world, "vm_g", udp, 4000);
        let ends = world.routed("vm_a", address, (4100, port));
        world.from_vm("vm_a", udp(&ends));
        let before = last_used(world, 0, PROTOCOL_UDP, 4100);
        wait(world, 0, 100);
        world.from_vm("vm_a", udp(&ends));
        assert_eq!(last_used(world, 0, PROTOCOL_UDP, 4100), before + 100_000_000_000);
    });
}

/// RFC 4787 REQ-9 (MUST): hairpinning.
#[test]
fn rfc4787_req9_a_vm_reaches_anothers_external_endpoint() {
    play(open_filter(), |world| {
        for (from, to) in [("vm_g", "vm_a"), ("vm_b", "vm_a"), ("vm_a", "vm_c"), ("vm_e", "vm_a")] {
            let (address, port) = external(world, to, udp, 4000);
            let ends = world.routed(from, address, (4100, port));
            let arrival = world.from_vm(from, udp(&ends));
            let read = world.at_vm(to, &arrival);
            assert_eq!((read.dst, read.dst_port), (world.vms[to].address, 4000), "{from} to {to}");
            let back = world.routed(to, read.src, (4000, read.src_port));
            let arrival = world.from_vm(to, udp(&back));
            let read = world.at_vm(from, &arrival);
            assert_eq!((read.src, read.src_port, read.dst_port), (address, port, 4100), "{to} to {from}");
        }
    });
}

/// RFC 4787 REQ-9 (MUST): hairpinning, to floating IPs whatever the filtering.
#[test]
fn rfc4787_req9_a_vm_reaches_floating_ips_and_its_own() {
    play(options(), |world| {
        add_floating_ips(world);
        for (from, to, floating) in
            [("vm_a", "vm_c", FLOATING_C), ("vm_g", "vm_a", FLOATING_A), ("vm_a", "vm_a", FLOATING_A)]
        {
            let ends = world.routed(from, floating, (4100, 53));
            let arrival = world.from_vm(from, udp(&ends));
            let read = world.at_vm(to, &arrival);
            let back = world.routed(to, read.src, (53, read.src_port));
            let arrival = world.from_vm(to, udp(&back));
            let read = world.at_vm(from, &arrival);
            assert_eq!((read.src, read.src_port, read.dst_port), (floating, 53, 4100), "{from}");
        }
    });
}

/// RFC 4787 REQ-9a (MUST): the receiver sees the sender's external address and port.
#[test]
fn rfc4787_req9a_a_hairpinned_packet_comes_from_the_external_endpoint() {
    play(open_filter(), |world| {
        for (from, to) in [("vm_g", "vm_a"), ("vm_a", "vm_c"), ("vm_c", "vm_a")] {
            let known = external(world, from, udp, 4100);
            let (address, port) = external(world, to, udp, 4000);
            let arrival = world.from_vm(from, udp(&world.routed(from, address, (4100, port))));
            let read = world.at_vm(to, &arrival);
            assert_eq!((read.src, read.src_port), known, "{from} to {to}");
        }
    });
}

/// RFC 4787 REQ-10 (SHOULD): no application gateways: payloads pass as they are.
#[test]
fn rfc4787_req10_addresses_in_payloads_are_left_alone() {
    play(options(), |world| {
        let payload = b"REGISTER sip:8.8.8.8\r\nContact: <sip:a@192.168.10.11:5060>\r\n";
        let ends = world.routed("vm_a", INTERNET, (5060, 5060));
        let arrival = world.from_vm("vm_a", frames::udp(&ends, payload));
        assert!(frame_of(&arrival).ends_with(payload));
    });
}

/// RFC 4787 REQ-11 (MUST): the behaviour never changes, not even when ports run out.
#[test]
fn rfc4787_req11_an_exhausted_block_changes_neither_mapping_nor_filtering() {
    let mut world = World::with(options());
    let first = external(&mut world, "vm_a", udp, 1999);
    let refused = (0..1200).filter(|port| {
        let ends = world.routed("vm_a", INTERNET, (2000 + port, 53));
        matches!(world.from_vm("vm_a", udp(&ends)), Arrival::Nowhere { .. })
    });
    assert!(refused.count() >= 1200 - usize::from(BLOCK_SIZE), "the block is full");
    let read = out(&mut world, "vm_a", udp, (OTHER, 123), 1999);
    assert_eq!((read.src, read.src_port), first, "still independent of the destination");
    let arrival = inward(&mut world, 0, udp, (STRANGER, 123), first.1);
    assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::Filtered), "still strict");
    world.assert_conserved();
}

/// RFC 4787 REQ-12 (MUST): no ICMP message ends a mapping.
#[test]
fn rfc4787_req12_no_icmp_message_ends_a_mapping() {
    play(options(), |world| {
        let ends = world.routed("vm_a", INTERNET, (4000, 53));
        let arrival = world.from_vm("vm_a", udp(&ends));
        let outside = frame_of(&arrival);
        let port = frames::read(&outside).src_port;
        for code in (0..16).map(|code| (3, code)).chain([(4, 0), (5, 1), (11, 0), (11, 1), (12, 0)]) {
            error_from(world, HOP, code, &outside);
        }
        let arrival = inward(world, 1, udp, (INTERNET, 53), port);
        world.at_vm("vm_a", &arrival);
        assert_eq!(external(world, "vm_a", udp, 4000), (SNAT_ADDRESS, port));
    });
}

/// RFC 4787 REQ-12a (SHOULD): errors are not filtered by who sends them.
#[test]
fn rfc4787_req12a_an_error_may_come_from_anyone() {
    play(options(), |world| {
        let arrival = world.from_vm("vm_a", udp(&world.routed("vm_a", INTERNET, (4000, 53))));
        let outside = frame_of(&arrival);
        for hop in [HOP, STRANGER, INTERNET, Ipv4Addr::new(172, 22, 7, 1)] {
            let arrival = error_from(world, hop, (11, 0), &outside);
            assert_eq!(world.at_vm("vm_a", &arrival).src, hop);
        }
    });
}

/// RFC 4787 REQ-12b (SHOULD): "destination unreachable" reaches the host.
#[test]
fn rfc4787_req12b_unreachable_reaches_the_vm() {
    play(options(), |world| {
        for vm in ["vm_a", "vm_c"] {
            let arrival = world.from_vm(vm, udp(&world.routed(vm, INTERNET, (4000, 53))));
            let outside = frame_of(&arrival);
            for code in [0, 1, 3, 4] {
                let arrival = error_from(world, HOP, (3, code), &outside);
                assert_eq!(world.at_vm(vm, &arrival).icmp_type, 3);
                let quoted = frames::quotation(&frame_of(&arrival));
                assert_eq!(quoted, ((world.vms[vm].address, 4000), (INTERNET, 53)));
            }
        }
    });
}

/// RFC 4787 REQ-13 (MUST): a packet with DF that does not fit is answered with the MTU.
#[test]
fn rfc4787_req13_too_big_with_df_is_answered_with_the_mtu() {
    play(options(), |world| {
        world.slice.external_networks.values_mut().for_each(|network| network.mtu = 1400);
        world.program();
        let ends = world.routed("vm_a", INTERNET, (4000, 53));
        let sent = |bytes: usize| frames::udp(&ends, &vec![7; bytes - 28]);
        let arrival = world.from_vm("vm_a", sent(1401));
        let verdict = Verdict::Punt(Punt::FragmentationNeeded);
        assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
        let told = world.hosts[0].tables.events.borrow().last().map(|event| (event.punt, event.detail));
        assert_eq!(told, Some((Punt::FragmentationNeeded as u32, 1400)));
        let arrival = world.from_vm("vm_a", sent(1400));
        world.at_uplink(&arrival);
    });
}

/// RFC 4787 REQ-13a (MUST): a packet without DF that is too big is fragmented, and (SHOULD) in order.
#[test]
fn rfc4787_req13a_too_big_without_df_goes_out_in_pieces() {
    play(options(), |world| {
        world.slice.external_networks.values_mut().for_each(|network| network.mtu = 576);
        world.program();
        let mut agents = Agents::default();
        for vm in ["vm_a", "vm_c"] {
            let data: Vec<u8> = (0..1300_u16).map(|byte| byte as u8).collect();
            let frame = frames::may_fragment(frames::udp(&world.routed(vm, INTERNET, (4000, 53)), &data));
            let verdict = Verdict::Punt(Punt::Fragment);
            let host = world.vms[vm].host;
            assert_eq!(world.from_vm(vm, frame), Arrival::Nowhere { host, verdict });
            let pieces: Vec<_> = agents.act(world).iter().map(frame_of).collect();
            assert_eq!(pieces.len(), 3);
            assert!(pieces.iter().all(|piece| piece.len() <= 14 + 576));
            let offsets: Vec<_> = pieces.iter().map(|piece| piece[20..22].to_vec()).collect();
            assert!(offsets.is_sorted_by_key(|field| u16::from_be_bytes([field[0] & 0x1f, field[1]])));
            let whole = frames::reassemble(&pieces);
            let read = frames::read(&whole);
            assert_eq!((read.src, read.dst, read.dst_port), (SNAT_ADDRESS, INTERNET, 53));
            assert!(whole.ends_with(&data));
        }
    });
}

/// RFC 4787 REQ-13a (MUST): ... and in, for a VM's network that carries less than the outside.
#[test]
fn rfc4787_req13a_too_big_from_outside_comes_in_in_pieces() {
    play(options(), |world| {
        let mut agents = Agents::default();
        for vm in ["vm_a", "vm_c"] {
            let (_, port) = external(world, vm, udp, 4000);
            let ends = world.outside(0, (INTERNET, 53), (SNAT_ADDRESS, port));
            let data = [7; 1460];
            let frame = frames::may_fragment(frames::udp(&ends, &data));
            let arrival = world.from_outside(0, frame);
            let host = world.vms[vm].host;
            assert_eq!(arrival, Arrival::Nowhere { host, verdict: Verdict::Punt(Punt::Fragment) });
            let pieces: Vec<_> = agents.act(world).iter().map(frame_of).collect();
            let read = frames::read(&frames::reassemble(&pieces));
            assert_eq!((read.dst, read.dst_port), (world.vms[vm].address, 4000));
        }
    });
}

/// A datagram of 100 bytes in three fragments.
fn datagram(ends: &Ends) -> Vec<Vec<u8>> {
    let payload: Vec<u8> = (0..92).collect();
    frames::fragments(&frames::udp(ends, &payload), 40)
}

/// RFC 4787 REQ-14 (MUST): fragments pass in order, and out of order behind the first.
#[test]
fn rfc4787_req14_fragments_pass_in_both_directions_and_the_later_ones_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1]] {
        play(options(), |world| {
            let sent = datagram(&world.routed("vm_c", INTERNET, (4000, 53)));
            let arrived: Vec<_> =
                order.iter().map(|at| frame_of(&world.from_vm("vm_c", sent[*at].clone()))).collect();
            let port = frames::read(&frames::reassemble(&arrived)).src_port;
            for gateway in [0, 1] {
                let sent = datagram(&world.outside(gateway, (INTERNET, 53), (SNAT_ADDRESS, port)));
                let arrived: Vec<_> = order
                    .iter()
                    .map(|at| frame_of(&world.from_outside(gateway, sent[*at].clone())))
                    .collect();
                assert_eq!(frames::read(&frames::reassemble(&arrived)).dst_port, 4000);
            }
        });
    }
}

/// RFC 4787 REQ-14 (MUST): fragments pass in any order, also before the first.
#[test]
fn rfc4787_req14_fragments_that_overtake_the_first_pass_in_both_directions() {
    for order in [[1, 2, 0], [2, 1, 0], [2, 0, 1], [1, 0, 2]] {
        play(options(), |world| {
            let mut agents = Agents::default();
            let sent = datagram(&world.routed("vm_c", INTERNET, (4000, 53)));
            let mut arrived = Vec::new();
            for at in order {
                let arrival = world.from_vm("vm_c", sent[at].clone());
                arrived.extend(reached(&arrival));
                arrived.extend(agents.act(world).iter().filter_map(reached));
            }
            let port = frames::read(&frames::reassemble(&arrived)).src_port;
            for gateway in [0, 1] {
                let sent = datagram(&world.outside(gateway, (INTERNET, 53), (SNAT_ADDRESS, port)));
                let mut arrived = Vec::new();
                for at in order {
                    let arrival = world.from_outside(gateway, sent[at].clone());
                    arrived.extend(reached(&arrival));
                    arrived.extend(agents.act(world).iter().filter_map(reached));
                }
                assert_eq!(arrived.len(), 3, "nothing is lost and nothing doubled");
                assert_eq!(frames::read(&frames::reassemble(&arrived)).dst_port, 4000);
            }
        });
    }
}

/// The frame of a packet that went on; none if it is held.
fn reached(arrival: &Arrival) -> Option<Vec<u8>> {
    match arrival {
        Arrival::Nowhere { verdict: Verdict::Punt(Punt::EarlyFragment), .. } => None,
        other => Some(frame_of(other)),
    }
}

/// RFC 4787 REQ-14a (MUST): a flood of fragments that no first one belongs to hurts nobody else.
#[test]
fn rfc4787_req14a_a_flood_of_early_fragments_is_bounded_and_hurts_nobody_else() {
    let mut world = World::with(options());
    let mut agents = Agents::default();
    let mut early = datagram(&world.routed("vm_g", INTERNET, (6000, 53))).remove(1);
    let mut handed = 0;
    for id in 0..2000_u16 {
        early[18..20].copy_from_slice(&id.to_be_bytes());
        let arrival = world.from_vm("vm_g", frames::with_header_checksum(early.clone()));
        handed += usize::from(reached_agent(&arrival));
    }
    agents.act(&mut world);
    assert!(handed <= FRAME_BURST as usize, "{handed} handed over");
    assert_eq!(agents.held(0), HELD_PER_INGRESS_MAX, "and no more than that held");
    let limited = pipeline::verdict::counter::drop(Stage::Classify, Reason::PuntLimited);
    assert_eq!(world.hosts[0].tables.counter(limited), 2000 - handed as u64);
    for order in [[0, 1, 2], [1, 2, 0]] {
        let sent = datagram(&world.routed("vm_a", INTERNET, (4000, 53)));
        let mut arrived = Vec::new();
        for at in order {
            let arrival = world.from_vm("vm_a", sent[at].clone());
            arrived.extend(reached(&arrival));
            arrived.extend(agents.act(&mut world).iter().filter_map(reached));
        }
        assert_eq!(frames::read(&frames::reassemble(&arrived)).dst_port, 53, "{order:?}");
        wait(&world, 0, 6);
    }
    world.assert_conserved();
}

fn reached_agent(arrival: &Arrival) -> bool {
    matches!(arrival, Arrival::Nowhere { verdict: Verdict::Punt(Punt::EarlyFragment), .. })
}

/// RFC 4787 REQ-14a (MUST): a flood of fragments hurts neither whole nor ordered packets.
#[test]
fn rfc4787_req14a_a_flood_of_fragments_takes_nothing_from_others() {
    let mut world = World::with(options());
    let mut first = datagram(&world.routed("vm_g", INTERNET, (6000, 53))).remove(0);
    for id in 0..2 * FRAGMENTS_MAX as u16 {
        first[18..20].copy_from_slice(&id.to_be_bytes());
        world.from_vm("vm_g", frames::with_header_checksum(first.clone()));
    }
    let kept = world.hosts[0].tables.fragments.borrow().len();
    assert!(kept <= FRAGMENTS_MAX as usize, "memory is bounded: {kept}");
    external(&mut world, "vm_a", udp, 4000);
    let sent = datagram(&world.routed("vm_a", INTERNET, (4000, 53)));
    let arrived: Vec<_> =
        sent.into_iter().map(|fragment| frame_of(&world.from_vm("vm_a", fragment))).collect();
    assert_eq!(frames::read(&frames::reassemble(&arrived)).dst_port, 53);
    world.assert_conserved();
}
