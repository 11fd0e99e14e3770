//! RFC 6888 REQ-6 (MUST): translation can be turned off for destinations.
//!
//! Method: blue's router leaves addresses as they are towards one prefix outside. Packets to and from there have the
//! VMs' own addresses on hosts with the uplink and without it; everything else is as it was.

use crate::scene::*;
use model::slice::{RoutedAddress, RoutedPort};
use pipeline::{Reason, Stage};
use std::net::Ipv4Addr;
use testkit::frames::{self, Ends, Segment};
use testkit::world::{INTERNET, SNAT_ADDRESS, network_id, router_id};
use testkit::{Arrival, World};

/// Blue's VMs: on both hosts with the uplink, and on the one without.
const BLUE: [&str; 4] = ["vm_a", "vm_b", "vm_c", "vm_d"];

/// Turns translation off towards the network of [`STRANGER`], or on again.
fn leave_untranslated(world: &mut World, on: bool) {
    let router = world.slice.routers.get_mut(&router_id(1)).expect("the router");
    let gateway = router.gateway.as_mut().expect("a gateway");
    let prefix = "203.0.113.0/24".parse().expect("a prefix");
    gateway.untranslated_destinations = if on { vec![prefix] } else { Vec::new() };
    let external_network = gateway.network;
    let routed =
        world.slice.ports.iter().filter(|(_, port)| port.network != network_id(3)).map(|(id, port)| {
            let own =
                |address: &_| RoutedAddress { external_network, router: router_id(1), address: *address };
            let addresses = port.addresses.iter().map(own).collect();
            (*id, RoutedPort { network: port.network, host: port.host, addresses })
        });
    world.slice.routed_ports = if on { routed.collect() } else { Default::default() };
    world.program();
}

/// A packet from outside to a VM's own address, by a gateway.
fn to_own(world: &mut World, gateway: usize, make: Make, from: (Ipv4Addr, u16), vm: &str) -> Arrival {
    let ends = world.outside(gateway, from, (world.vms[vm].address, 4000));
    world.from_outside(gateway, make(&ends))
}

fn syn_ack(ends: &Ends) -> Vec<u8> {
    frames::tcp(ends, Segment::SynAck, b"")
}

#[test]
fn rfc6888_req6_towards_some_destinations_vms_have_their_own_addresses() {
    play(options(), |world| {
        leave_untranslated(world, true);
        for vm in BLUE {
            for (_, make) in PROTOCOLS {
                let read = out(world, vm, make, (STRANGER, 53), 4000);
                assert_eq!((read.src, read.src_port), (world.vms[vm].address, 4000), "{vm}");
                assert_eq!(external(world, vm, make, 4000).0, SNAT_ADDRESS, "{vm}: others are translated");
            }
            let ends = world.outside(1, (STRANGER, 53), (world.vms[vm].address, 4000));
            let arrival = world.from_outside(1, udp(&ends));
            let read = world.at_vm(vm, &arrival);
            assert_eq!(
                (read.src, read.src_port, read.dst_port),
                (STRANGER, 53, 4000),
                "{vm}: and are answered"
            );
        }
    });
}

#[test]
fn rfc6888_req6_from_there_vms_are_reached_by_their_own_addresses_and_from_nowhere_else() {
    play(options(), |world| {
        leave_untranslated(world, true);
        for vm in BLUE {
            for gateway in [0, 1] {
                let from = (STRANGER, 7000 + gateway as u16);
                let arrival = to_own(world, gateway, syn, from, vm);
                assert_eq!(world.at_vm(vm, &arrival).dst, world.vms[vm].address, "{vm}");
            }
        }
        for from in [OTHER, INTERNET] {
            let arrival = to_own(world, 0, syn, (from, 7000), "vm_a");
            assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::NotRouted), "{from}");
        }
    });
}

#[test]
fn rfc6888_req6_another_vpc_with_equal_addresses_is_translated_and_not_reached() {
    play(options(), |world| {
        leave_untranslated(world, true);
        // Green's vm_e has the address of blue's vm_a.
        let read = out(world, "vm_e", udp, (STRANGER, 53), 4000);
        assert_ne!(read.src, world.vms["vm_e"].address);
        let arrival = to_own(world, 0, udp, (STRANGER, 53), "vm_e");
        world.at_vm("vm_a", &arrival);
    });
}

#[test]
fn rfc6888_req6_an_untranslated_destination_beats_the_floating_ip() {
    play(options(), |world| {
        add_floating_ips(world);
        leave_untranslated(world, true);
        for (vm, floating) in [("vm_a", FLOATING_A), ("vm_c", FLOATING_C)] {
            assert_eq!(out(world, vm, udp, (STRANGER, 53), 4000).src, world.vms[vm].address);
            assert_eq!(external(world, vm, udp, 4000).0, floating);
            // Who comes by the floating IP is answered by it, from wherever.
            let ends = world.outside(0, (STRANGER, 9000), (floating, 80));
            let arrival = world.from_outside(0, syn(&ends));
            world.at_vm(vm, &arrival);
            assert_eq!(out(world, vm, syn_ack, (STRANGER, 9000), 80).src, floating);
        }
    });
}

#[test]
fn rfc6888_req6_turned_on_and_off_it_ends_the_sessions_concerned_and_no_others() {
    play(options(), |world| {
        let (vm, own) = ("vm_a", world.vms["vm_a"].address);
        let other = external(world, vm, udp, 4000);
        for on in [true, false] {
            let before = out(world, vm, udp, (STRANGER, 53), 4000).src;
            assert_eq!(before == own, !on);
            leave_untranslated(world, on);
            let ends = world.routed(vm, STRANGER, (4000, 53));
            let arrival = world.from_vm(vm, udp(&ends));
            let ended = dropped(0, Stage::Classify, Reason::SessionEnded);
            if arrival != ended {
                assert_eq!(world.at_uplink(&arrival).1.src == own, on, "never with the former address");
            }
            assert_eq!(out(world, vm, udp, (STRANGER, 53), 4000).src == own, on);
            assert_eq!(external(world, vm, udp, 4000), other, "others go on");
        }
    });
}
