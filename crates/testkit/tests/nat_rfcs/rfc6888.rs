//! RFC 6888: NATs that many share.

use crate::scene::*;
use dataplane::Timeouts;
use model::slice::StaticRoute;
use packet::ipv4::PROTOCOL_UDP;
use pipeline::host::Frame;
use pipeline::{Punt, Reason, Stage, Verdict, Work, from_port};
use std::collections::BTreeSet;
use testkit::frames::{self, Ends, Segment};
use testkit::world::{INTERNET, Options, SNAT_ADDRESS, router_id};
use testkit::{Arrival, World};

fn try_out(world: &mut World, vm: &str, port: u16) -> Arrival {
    let ends = world.routed(vm, INTERNET, (port, 53));
    world.from_vm(vm, udp(&ends))
}

/// RFC 6888 REQ-1 (MUST): what is carried is carried as its RFC asks, anything else is refused and not mangled.
#[test]
fn rfc6888_req1_protocols_without_their_rules_are_refused() {
    play(options(), |world| {
        for (_, make) in PROTOCOLS {
            let first = external(world, "vm_a", make, 4000);
            let read = out(world, "vm_a", make, (OTHER, 99), 4000);
            assert_eq!((read.src, read.src_port), first);
        }
        for protocol in [33, 47, 50, 132, 136] {
            let mut frame = udp(&world.routed("vm_a", INTERNET, (4000, 53)));
            frame[23] = protocol;
            let arrival = world.from_vm("vm_a", frames::with_header_checksum(frame));
            assert_eq!(arrival, dropped(0, Stage::Snat, Reason::ProtocolNotTranslated), "{protocol}");
        }
    });
}

/// RFC 6888 REQ-2 (MUST): one external address per subscriber by default.
#[test]
fn rfc6888_req2_a_subscriber_keeps_to_one_address() {
    play(options(), |world| {
        add_second_address(world);
        for vm in ["vm_a", "vm_g", "vm_d"] {
            let mut addresses = BTreeSet::new();
            for port in 0..10 {
                addresses.extend(PROTOCOLS.iter().map(|(_, make)| external(world, vm, *make, 5000 + port).0));
            }
            assert_eq!(addresses.len(), 1, "{vm}: {addresses:?}");
        }
    });
}

/// RFC 6888 REQ-3 (SHOULD): the pool may be any set of addresses.
#[test]
fn rfc6888_req3_addresses_of_a_pool_need_not_be_neighbours() {
    play(options(), |world| {
        add_second_address(world);
        let of = |world: &mut World, vm| external(world, vm, udp, 4000).0;
        let used: BTreeSet<_> = ["vm_a", "vm_g", "vm_d"].map(|vm| of(world, vm)).into();
        assert_eq!(used, BTreeSet::from([SNAT_ADDRESS, SECOND_ADDRESS]));
    });
}

/// RFC 6888 REQ-4 (MUST): a subscriber's ports are limited.
#[test]
fn rfc6888_req4_a_subscriber_has_a_share_and_no_more() {
    play(Options { ports_per_vm_max: 20, ..options() }, |world| {
        for port in 0..20 {
            external(world, "vm_a", udp, 5000 + port);
        }
        assert_eq!(try_out(world, "vm_a", 6000), dropped(0, Stage::Snat, Reason::PortQuota));
        external(world, "vm_a", udp, 5000);
        external(world, "vm_g", udp, 5000);
    });
}

/// RFC 6888 REQ-4a (MUST): the limit is configurable.
#[test]
fn rfc6888_req4a_the_share_is_what_the_router_says() {
    for limit in [1, 7, 50] {
        let mut world = World::with(Options { ports_per_vm_max: limit, ..options() });
        let outside = |arrival: &Arrival| matches!(arrival, Arrival::Uplink { .. });
        let granted = (0..60).filter(|port| outside(&try_out(&mut world, "vm_a", 5000 + port))).count();
        assert_eq!(granted, limit as usize);
    }
}

/// RFC 6888 REQ-4c (SHOULD): so is the rate at which it makes mappings.
#[test]
fn rfc6888_req4c_a_subscriber_makes_so_many_mappings_a_second_and_no_more() {
    let mut world = World::with(Options { mappings_per_second_max: 10, ..options() });
    let outside = |arrival: &Arrival| matches!(arrival, Arrival::Uplink { .. });
    for second in 0..3 {
        let granted =
            (0..50).filter(|port| outside(&try_out(&mut world, "vm_a", 5000 + second * 100 + port)));
        assert_eq!(granted.count(), 10, "second {second}");
        assert_eq!(try_out(&mut world, "vm_a", 9000), dropped(0, Stage::Snat, Reason::MappingRate));
        external(&mut world, "vm_a", udp, 5000);
        external(&mut world, "vm_g", udp, 5000 + second);
        wait(&world, 0, 1);
    }
    world.assert_conserved();
}

/// RFC 6888 REQ-5 (SHOULD): what one subscriber takes leaves the others theirs.
#[test]
fn rfc6888_req5_a_flood_of_one_leaves_the_others_all_they_need() {
    let mut world = World::with(Options { ports_per_vm_max: 100, ..options() });
    for port in 0..3000 {
        try_out(&mut world, "vm_a", 2000 + port);
    }
    assert_eq!(world.hosts[0].tables.mappings.borrow().len(), 100);
    for port in 0..100 {
        external(&mut world, "vm_g", udp, 5000 + port);
    }
    world.assert_conserved();
}

/// RFC 6888 REQ-5, REQ-5a (SHOULD): sessions too, by one mapping to many destinations ...
#[test]
fn rfc6888_req5a_a_subscriber_has_so_many_sessions_and_no_more() {
    for limit in [8, 20] {
        play(Options { sessions_per_vm_max: limit, ..options() }, |world| {
            let send = |world: &mut World, vm: &str, to: u16| {
                let ends = world.routed(vm, INTERNET, (4000, to));
                world.from_vm(vm, udp(&ends))
            };
            for to in 0..limit as u16 {
                let arrival = send(world, "vm_a", 1000 + to);
                world.at_uplink(&arrival);
            }
            assert_eq!(send(world, "vm_a", 5000), dropped(0, Stage::Output, Reason::SessionQuota));
            let arrival = send(world, "vm_a", 1000);
            world.at_uplink(&arrival);
            let arrival = send(world, "vm_g", 5000);
            world.at_uplink(&arrival);
            let told = world.hosts[0].tables.events.borrow();
            assert!(told.iter().any(|event| event.punt == Punt::Prohibited as u32), "and is told");
        });
    }
}

/// RFC 6888 REQ-5 (SHOULD): ... and those that others open to it.
#[test]
fn rfc6888_req5_a_flood_from_outside_takes_the_sessions_of_its_target_only() {
    play(Options { sessions_per_vm_max: 10, ..options() }, |world| {
        add_floating_ips(world);
        for port in 0..20 {
            let ends = world.outside(0, (STRANGER, 2000 + port), (FLOATING_A, 22));
            let arrival = world.from_outside(0, syn(&ends));
            if port < 10 {
                world.at_vm("vm_a", &arrival);
            } else {
                assert_eq!(arrival, dropped(0, Stage::Output, Reason::SessionQuota));
            }
        }
        external(world, "vm_g", udp, 4000);
    });
}

/// RFC 6888 REQ-6 (MUST): destinations behind a next hop on a tenant network are not translated.
#[test]
fn rfc6888_req6_destinations_with_an_inside_next_hop_are_not_translated() {
    play(options(), |world| {
        let (vm_a, vm_b) = (world.vms["vm_a"].address, world.vms["vm_b"].address);
        let route =
            StaticRoute { destination: "203.0.113.0/24".parse().expect("a prefix"), next_hop: vm_b.into() };
        world.slice.routers.get_mut(&router_id(1)).expect("the router").routes.push(route);
        world.program();
        let ends = world.routed("vm_a", STRANGER, (4000, 53));
        let arrival = world.from_vm("vm_a", udp(&ends));
        let read = world.at_vm("vm_b", &arrival);
        assert_eq!((read.src, read.src_port, read.dst), (vm_a, 4000, STRANGER));
        assert_eq!(external(world, "vm_a", udp, 4000).0, SNAT_ADDRESS, "others are");
    });
}

/// RFC 6888 REQ-7 (SHOULD): endpoint-independent filtering, for those who choose it.
#[test]
fn rfc6888_req7_endpoint_independent_filtering_by_choice() {
    play(open_filter(), |world| {
        for (_, make) in &PROTOCOLS[..2] {
            let (_, port) = external(world, "vm_c", *make, 4000);
            let arrival = inward(world, 1, *make, (STRANGER, 999), port);
            assert_eq!(world.at_vm("vm_c", &arrival).dst_port, 4000);
        }
    });
}

/// RFC 6888 REQ-8 (SHOULD): a freed port rests for two minutes.
#[test]
fn rfc6888_req8_a_freed_port_rests_two_minutes() {
    assert!(Timeouts::default().port_rest.as_secs() >= 120);
    let mut world = World::with(Options { single_port_blocks: true, ..options() });
    external(&mut world, "vm_a", udp, 4000);
    let tables = &world.hosts[0].tables;
    // What the sweeper leaves of an ended mapping while its port rests: the claim.
    tables.mappings.borrow_mut().clear();
    tables.sessions.borrow_mut().clear();
    tables.replies.borrow_mut().clear();
    let arrival = try_out(&mut world, "vm_g", 4000);
    assert_eq!(arrival, dropped(0, Stage::Snat, Reason::PortsExhausted));
    world.hosts[0].tables.bindings.borrow_mut().clear();
    external(&mut world, "vm_g", udp, 4000);
}

/// RFC 6888 REQ-9 (MUST): a subscriber can have a mapping of its own choice: a floating IP.
#[test]
fn rfc6888_req9_a_floating_ip_is_a_mapping_that_the_subscriber_controls() {
    play(options(), |world| {
        add_floating_ips(world);
        for port in [22, 443, 60_000] {
            let ends = world.outside(1, (STRANGER, 999), (FLOATING_A, port));
            let arrival = world.from_outside(1, frames::tcp(&ends, Segment::Syn, b""));
            assert_eq!(world.at_vm("vm_a", &arrival).dst_port, port);
        }
        assert_eq!(external(world, "vm_a", udp, 4000), (FLOATING_A, 4000));
    });
}

/// RFC 6888 REQ-10 (SHOULD): the management sees every refusal by its reason.
#[test]
fn rfc6888_req10_every_refusal_is_counted_by_its_reason() {
    let ports = |options| Options { single_port_blocks: true, ..options };
    let scenes = [
        (Options { ports_per_vm_max: 1, ..options() }, (Stage::Snat, Reason::PortQuota)),
        (Options { mappings_per_second_max: 1, ..options() }, (Stage::Snat, Reason::MappingRate)),
        (Options { sessions_per_vm_max: 1, ..options() }, (Stage::Output, Reason::SessionQuota)),
        (ports(options()), (Stage::Snat, Reason::PortsExhausted)),
    ];
    for (options, (stage, reason)) in scenes {
        let mut world = World::with(options);
        external(&mut world, "vm_a", udp, 4000);
        for port in 0..3 {
            assert_eq!(try_out(&mut world, "vm_a", 5000 + port), dropped(0, stage, reason));
        }
        let counted = world.hosts[0].tables.counter(pipeline::verdict::counter::drop(stage, reason));
        assert_eq!(counted, 3, "{}", reason.name());
    }
}

/// Fills the block of the first host; the ports that got a mapping.
fn exhaust(world: &mut World) -> Vec<u16> {
    let outside = |arrival: &Arrival| matches!(arrival, Arrival::Uplink { .. });
    (2000..3400).filter(|port| outside(&try_out(world, "vm_a", *port))).collect()
}

/// RFC 6888 REQ-11a (MUST): without resources the packet is dropped.
#[test]
fn rfc6888_req11a_without_a_port_the_packet_is_dropped_and_counted() {
    let mut world = World::with(Options { single_port_blocks: true, ..options() });
    external(&mut world, "vm_a", udp, 4000);
    assert_eq!(try_out(&mut world, "vm_g", 4000), dropped(0, Stage::Snat, Reason::PortsExhausted));
    crate::object::replay(&world);
}

/// RFC 6888 REQ-11b (SHOULD): the subscriber is told.
#[test]
fn rfc6888_req11b_the_subscriber_is_told() {
    play(Options { single_port_blocks: true, ..options() }, |world| {
        external(world, "vm_a", udp, 4000);
        try_out(world, "vm_g", 4000);
        let events = world.hosts[0].tables.events.borrow();
        assert!(events.iter().any(|event| event.punt == Punt::Prohibited as u32));
    });
}

/// RFC 6888 REQ-11c (SHOULD): the management is told.
#[test]
fn rfc6888_req11c_the_controller_is_asked_for_more() {
    play(Options { single_port_blocks: true, ..options() }, |world| {
        external(world, "vm_a", udp, 4000);
        try_out(world, "vm_g", 4000);
        let events = world.hosts[0].tables.events.borrow();
        assert!(events.iter().any(|event| event.punt == Punt::PortBlockLow as u32));
    });
}

/// RFC 6888 REQ-11d (MUST): no mapping is taken away to make room.
#[test]
fn rfc6888_req11d_exhaustion_takes_no_mapping_away() {
    let mut world = World::with(options());
    let before: Vec<_> = (0..20).map(|port| external(&mut world, "vm_a", udp, 1900 + port)).collect();
    exhaust(&mut world);
    let after: Vec<_> = (0..20).map(|port| external(&mut world, "vm_a", udp, 1900 + port)).collect();
    assert_eq!(after, before);
    world.assert_conserved();
}

/// RFC 6888 REQ-13 (SHOULD): 99 % of the ports of an address are given out before the first refusal, whatever the
/// size of its blocks.
#[test]
fn rfc6888_req13_nearly_every_port_of_an_address_is_used_before_the_first_refusal() {
    for size in [64_u16, 1024, 4096] {
        let mut world = World::with(options());
        own_the_whole_address(&mut world, size);
        let vm = world.vms["vm_a"];
        // Not through the world, which remembers every step.
        let (tables, mut work) = (&world.hosts[0].tables, Box::new(Work::zeroed()));
        let mut granted = 0;
        // From the port of DHCP servers no VM may send.
        for port in (1..=u16::MAX).filter(|port| *port != 67) {
            let ends = Ends {
                src_mac: vm.mac,
                dst_mac: vm.router_mac,
                src: vm.address,
                dst: INTERNET,
                src_port: port,
                dst_port: 53,
            };
            let verdict = from_port(&mut Frame::new(udp(&ends)), tables, &mut work, vm.ifindex);
            if !matches!(verdict, Verdict::Uplink { .. }) {
                break;
            }
            granted += 1;
        }
        println!("blocks of {size}: {granted} of 64512");
        assert!(granted * 100 >= 64_512 * 99, "blocks of {size}: {granted} of 64512");
        let claims = tables.bindings.borrow();
        let low = claims.keys().filter(|claim| claim.protocol == PROTOCOL_UDP && claim.port < 1024);
        assert_eq!((claims.len(), low.count()), (granted, 0));
    }
}

/// The first host gets every port of the address from 1024 on, in blocks of that size.
fn own_the_whole_address(world: &mut World, size: u16) {
    world.slice.external_networks.values_mut().for_each(|network| network.block_size = size);
    world.slice.blocks.clear();
    for place in (0..=u16::MAX).step_by(size.into()).filter(|place| place | (size - 1) >= 1024) {
        world.add_block(1, SNAT_ADDRESS, 0, place.max(1024));
    }
    world.program();
}

/// RFC 6888 REQ-15 (SHOULD): the next port cannot be guessed from the last.
#[test]
fn rfc6888_req15_the_distance_between_ports_is_random() {
    let mut world = World::with(options());
    let ports: Vec<u16> = (0..200).map(|port| external(&mut world, "vm_a", udp, 4000 + port).1).collect();
    let steps: BTreeSet<u16> = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(steps.len() > 150, "{} different steps of 199", steps.len());
}
