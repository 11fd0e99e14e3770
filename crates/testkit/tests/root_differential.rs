//! The loaded object and the host build do the same with every packet: same verdict, same bytes, same
//! counters.
//!
//! Goal: what tests, fuzzers and the trace see on the host build is what the kernel does. Method: a world of
//! three hosts is run on the host build, with honest traffic of every walk, then with frames mutated by a
//! seeded generator; every call of an entry point is recorded with its tables, and replayed in order on the
//! object through `BPF_PROG_TEST_RUN`. The external network is untagged, because a test run cannot deliver
//! a frame whose tag was taken off; tags are covered on the wire, in the lab.
//!
//! The last test does so with configurations changed at random, over and over. `NANBOKU_DIFFERENTIAL_PAIRS` says how
//! many pairs of configuration and packet (a million takes minutes), `NANBOKU_DIFFERENTIAL_SEED` repeats a run that
//! failed; every world prints its seed.

mod object;
#[path = "object/watched.rs"]
mod watched;

use compiler::TunnelProtocol::{self, Geneve, Vxlan};
use model::slice::{Egress, Filtering};
use packet::ipv4;
use pipeline::Verdict;
use pipeline::runtime::Tables;
use std::net::Ipv4Addr;
use testkit::World;
use testkit::frames::{self, Ends, Ip, Segment};
use testkit::ipv6::{GATEWAY6, INTERNET6, ROUTER6, address6, link_local};
use testkit::world::{
    Entry, GATEWAY_ADDRESS, GATEWAY_MAC, INTERNET, Options, SNAT_ADDRESS, SNAT_GREEN, Step, floating_id,
    forwarding_id,
};

const FLOATING_A: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 101);
const FLOATING_C: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 103);
const FORWARDED: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 104);
const VMS: [&str; 7] = ["vm_a", "vm_b", "vm_c", "vm_d", "vm_e", "vm_f", "vm_g"];

fn world(protocol: TunnelProtocol) -> World {
    let egress = Egress::Direct;
    let options = Options { vlan: None, single_port_blocks: true, ..Options::new(protocol, egress) };
    let mut world = World::with(options);
    world.add_ipv6();
    world
}

/// TCP, UDP and echo between these ends, both kinds of echo.
fn transports<A: Ip>(ends: &Ends<A>) -> [Vec<u8>; 5] {
    [
        frames::udp(ends, b"datagram"),
        frames::tcp(ends, Segment::Syn, b""),
        frames::tcp(ends, Segment::Ack, b"segment"),
        frames::echo(ends, false),
        frames::echo(ends, true),
    ]
}

/// Every VM to every other, to the router, to the outside; the outside to every external address.
fn honest_traffic(world: &mut World) {
    for from in VMS {
        let vm = world.vms[from];
        for to in VMS {
            let ends =
                [world.switched(from, to, (4000, 80)), world.routed(from, world.vms[to].address, (4000, 80))];
            for frame in ends.iter().flat_map(transports) {
                world.from_vm(from, frame);
            }
            world.from_vm(from, frames::arp_request((vm.mac, vm.address), world.vms[to].address));
        }
        let elsewhere = Ipv4Addr::new(10, 16, 0, 1);
        for dst in [INTERNET, SNAT_ADDRESS, SNAT_GREEN, FLOATING_A, FLOATING_C, FORWARDED, elsewhere] {
            for frame in transports(&world.routed(from, dst, (4000, 80))) {
                world.from_vm(from, frame);
            }
        }
    }
    for from in VMS {
        for ends in [
            world.routed(from, INTERNET, (4000, 80)),
            world.routed(from, Ipv4Addr::new(192, 168, 10, 1), (5, 5)),
        ] {
            for frame in transports(&ends).iter().flat_map(|frame| frames::fragments(frame, 24)) {
                world.from_vm(from, frame);
            }
        }
    }
    for host in 0..2 {
        for dst in [SNAT_ADDRESS, SNAT_GREEN, FLOATING_A, FLOATING_C, FORWARDED, world.vms["vm_a"].address] {
            for port in [80, 1024, 2048, 3072, 60_000] {
                for frame in transports(&world.outside(host, (INTERNET, 80), (dst, port))) {
                    world.from_outside(host, frame);
                }
            }
            world.from_outside(host, frames::arp_request((GATEWAY_MAC, GATEWAY_ADDRESS), dst));
        }
    }
    honest_traffic6(world);
}

/// The same of IPv6, with neighbour discovery and extension headers.
fn honest_traffic6(world: &mut World) {
    for from in VMS {
        let vm = world.vms[from];
        for to in VMS {
            let target = world.vms[to].address6();
            for ends in [world.switched6(from, to, (4000, 80)), world.routed6(from, target, (4000, 80))] {
                for frame in transports(&ends) {
                    world.from_vm(from, frame);
                }
            }
            for target in [target, link_local(world.vms[to].mac)] {
                world.from_vm(from, frames::solicitation((vm.mac, vm.address6()), target));
            }
        }
        let message = packet::nd::Message::advertisement(0x60, vm.address6().octets(), vm.mac);
        let own = (vm.mac, vm.address6());
        world.from_vm(from, frames::neighbor_message(own, (vm.router_mac, INTERNET6), message));
        let datagram = frames::udp(&world.routed6(from, INTERNET6, (4000, 80)), b"datagram");
        for extensions in [&[(60, &[0, 0, 1, 4, 0, 0, 0, 0])][..], &[(0, &[0; 8]), (44, &[0; 8])]] {
            let extensions: Vec<(u8, &[u8])> = extensions.iter().map(|(n, e)| (*n, &e[..])).collect();
            world.from_vm(from, frames::with_extensions(&datagram, &extensions));
        }
        for dst in [INTERNET6, ROUTER6, address6(1, 1), link_local(vm.router_mac)] {
            for frame in transports(&world.routed6(from, dst, (4000, 80))) {
                world.from_vm(from, frame);
            }
        }
    }
    for host in 0..2 {
        for dst in [ROUTER6, world.vms["vm_a"].address6(), world.vms["vm_c"].address6()] {
            for frame in transports(&world.outside6(host, (INTERNET6, 80), (dst, 4000))) {
                world.from_outside(host, frame);
            }
            world.from_outside(host, frames::solicitation((GATEWAY_MAC, GATEWAY6), dst));
        }
    }
    errors6(world);
}

/// For some of the IPv6 frames that left by an uplink so far, an error about them from outside.
fn errors6(world: &mut World) {
    let left: Vec<Step> = (world.steps.iter())
        .filter(|step| matches!(step.verdict, Verdict::Uplink { .. }))
        .filter(|step| step.output.bytes[12..14] == [0x86, 0xdd] && step.output.bytes[20] != 58)
        .cloned()
        .collect();
    for step in left.iter().rev().step_by(5).take(10) {
        // Also of hostile frames, whose checksums are anything.
        let src: [u8; 16] = step.output.bytes[22..38].try_into().expect("an address");
        let message = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &step.output.bytes[14..]].concat();
        let ends = world.outside6(step.host, (GATEWAY6, 0), (src.into(), 0));
        world.from_outside(step.host, frames::icmp6(&ends, 64, &message));
    }
}

/// For each frame that reached a VM or the outside so far, an error about it, from where it went.
fn errors(world: &mut World) {
    let arrived: Vec<Step> = world
        .steps
        .iter()
        .filter(|step| matches!(step.verdict, Verdict::Port { .. } | Verdict::Uplink { .. }))
        .filter(|step| step.output.bytes[12..14] == [8, 0])
        .cloned()
        .collect();
    for step in arrived.iter().step_by(3) {
        let read = frames::read(&step.output.bytes);
        let ends = Ends {
            src_mac: read.dst_mac,
            dst_mac: read.src_mac,
            src: read.dst,
            dst: read.src,
            src_port: 0,
            dst_port: 0,
        };
        let error = frames::icmp_error(&ends, (3, 1), &step.output.bytes);
        let entry = match step.verdict {
            Verdict::Port { ifindex } => Entry::Port { ifindex },
            _ => Entry::Uplink { ifindex: testkit::world::UPLINK },
        };
        world.enter(step.host, entry, pipeline::host::Frame::new(error));
    }
}

/// BFD between the hosts, inside the tunnel and outside.
fn liveness(world: &mut World) {
    let tunnel = world.hosts[1].facts.tunnel;
    let (from, to) = (world.hosts[0].facts.vtep, world.hosts[1].facts.vtep);
    let right = frames::Liveness::new(tunnel.protocol == Geneve, tunnel.port, from, to);
    let frame_of = |liveness: frames::Liveness| liveness.frame(&[0x20; 24]);
    let plain = right.inner(&[0x20; 24]);
    for frame in [
        frame_of(right),
        frame_of(frames::Liveness { inner_ttl: 254, ..right }),
        frame_of(frames::Liveness { inner_from: to, ..right }),
        frame_of(frames::Liveness { control: !right.control, ..right }),
        frame_of(frames::Liveness { from: INTERNET, ..right }),
        plain,
    ] {
        world.enter(1, Entry::Underlay, pipeline::host::Frame::new(frame));
    }
}

/// SplitMix64, so that a seed is a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Replays recorded inputs with bytes changed and ends cut off.
fn hostile_traffic(world: &mut World, random: &mut Random, frames: usize) {
    let recorded: Vec<Step> = world.steps.clone();
    for _ in 0..frames {
        let step = &recorded[random.below(recorded.len())];
        let mut frame = step.input.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(frame.bytes.len());
            frame.bytes[at] = match random.below(3) {
                0 => random.next() as u8,
                1 => frame.bytes[at] ^ (1 << random.below(8)),
                _ => [0, 0xff][random.below(2)],
            };
        }
        if random.below(4) == 0 {
            // A test run refuses frames without room for an Ethernet header and an IPv4 header.
            let len = 34 + random.below(frame.bytes.len().saturating_sub(34).max(1));
            frame.bytes.truncate(len);
        }
        // Nor frames that say IPv6 and have no room for its header.
        if frame.bytes[12..14] == [0x86, 0xdd] && frame.bytes.len() < 54 {
            frame.bytes.resize(54, 0);
        }
        world.enter(step.host, step.entry, frame);
    }
}

/// Before and after a floating IP comes and goes, so that sessions are re-evaluated, ended and made anew.
fn run_world(protocol: TunnelProtocol, seed: u64, hostile: usize) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut world = world(protocol);
    honest_traffic(&mut world);
    world.add_floating(1, "vm_a", 1, FLOATING_A);
    world.add_floating(2, "vm_c", 1, FLOATING_C);
    world.program();
    honest_traffic(&mut world);
    errors(&mut world);
    liveness(&mut world);
    hostile_traffic(&mut world, &mut random, hostile);
    world.slice.floating_ips.remove(&floating_id(1));
    shake_groups(&mut world, &mut random);
    world.program();
    honest_traffic(&mut world);
    world.assert_conserved();
    assert!(world.hosts[0].tables.config().epoch > 1);
    object::replay(&world);
}

#[test]
fn the_object_does_what_the_host_build_does_over_geneve() {
    run_world(Geneve, 1, 4000);
}

/// The programs that tell of packets do what the others do, and what they tell is what happened.
#[test]
fn looking_on_changes_nothing_and_tells_what_happened() {
    let mut world = world(Geneve);
    honest_traffic(&mut world);
    errors(&mut world);
    hostile_traffic(&mut world, &mut Random(11), 500);
    watched::replay(&world);
}

#[test]
fn the_object_does_what_the_host_build_does_over_vxlan() {
    run_world(Vxlan, 2, 4000);
}

/// Changes the configuration at random: every kind of object, to what it may be.
fn shake(world: &mut World, random: &mut Random) {
    let mut one_in = |limit: usize| random.below(limit) == 0;
    for router in world.slice.routers.values_mut() {
        router.admin_up = !one_in(8);
        if let Some(gateway) = &mut router.gateway {
            gateway.enable_snat = !one_in(4);
            gateway.filtering = if one_in(2) { Filtering::EndpointIndependent } else { Filtering::default() };
            gateway.ports_per_vm_max = if one_in(3) { 1 } else { 0 };
        }
    }
    for port in world.slice.ports.values_mut() {
        port.admin_up = !one_in(10);
        port.port_security = !one_in(6);
    }
    for network in world.slice.networks.values_mut() {
        network.admin_up = !one_in(12);
        network.mtu = if one_in(6) { 70 } else { 1450 };
    }
    for network in world.slice.external_networks.values_mut() {
        network.egress = if one_in(3) { Egress::Gateway } else { Egress::Direct };
    }
    let floating = [(1, "vm_a", 1, FLOATING_A), (2, "vm_c", 1, FLOATING_C)];
    for (number, vm, router, address) in floating {
        if one_in(3) {
            world.slice.floating_ips.remove(&floating_id(number));
        } else {
            world.add_floating(number, vm, router, address);
        }
    }
    for (number, protocol, external_port, to) in FORWARDINGS {
        if random.below(4) == 0 {
            world.slice.port_forwardings.remove(&forwarding_id(number));
        } else {
            world.add_forwarding(number, protocol, (FORWARDED, external_port), to);
        }
    }
    shake_groups(world, random);
    world.program();
}

/// Number, protocol, port of the floating IP, and what it stands for.
const FORWARDINGS: [(u128, u8, u16, (&str, u16)); 4] = [
    (1, ipv4::PROTOCOL_UDP, 80, ("vm_a", 8080)),
    (2, ipv4::PROTOCOL_TCP, 80, ("vm_c", 4000)),
    (3, ipv4::PROTOCOL_TCP, 1024, ("vm_b", 22)),
    (4, ipv4::PROTOCOL_UDP, 2048, ("vm_c", 80)),
];

/// Rules that honest traffic meets, and some that it does not.
const RULES: [&str; 18] = [
    "egress any to any",
    "egress tcp 1-1023 to 192.168.10.0/24",
    "egress udp 80 to any",
    "egress icmp 8 to 8.8.8.0/24",
    "egress tcp to group 2",
    "egress any to addresses 1",
    "egress 132 to any",
    "ingress any from any",
    "ingress tcp 80 from any",
    "ingress tcp 79-4001 from 192.168.0.0/16",
    "ingress udp 50-90 from group 1",
    "ingress udp 1024-65535 from 8.8.8.8/32",
    "ingress icmp 8/0 from any",
    "ingress icmp from group 3",
    "egress6 any to any",
    "ingress6 udp 50-90 from any",
    "ingress6 icmp6 128 from 2001:db8:10::/64",
    "ingress6 tcp from 2001:db8:ffff::/48",
];

/// Some groups of some rules for some of the ports.
fn shake_groups(world: &mut World, random: &mut Random) {
    world.add_addresses(1, "10.16.0.0/24");
    world.add_addresses(1, "8.8.8.8/32");
    for group in 1..=3 {
        let rules: Vec<&str> = (0..random.below(6)).map(|_| RULES[random.below(RULES.len())]).collect();
        world.add_group(group, random.below(3) != 0, &rules);
    }
    for vm in VMS {
        match random.below(4) {
            0 => world.set_groups(vm, &[1, 1 + random.below(3) as u32]),
            1 => world.set_groups(vm, &[1 + random.below(3) as u32]),
            _ => world.unset_groups(vm),
        }
    }
}

/// One world of some thousand packets; how many.
fn shaken_world(seed: u64) -> usize {
    println!("NANBOKU_DIFFERENTIAL_SEED={seed}");
    let mut random = Random(seed);
    let mut world = world(if seed.is_multiple_of(2) { Geneve } else { Vxlan });
    honest_traffic(&mut world);
    errors(&mut world);
    for _ in 0..3 {
        shake(&mut world, &mut random);
        honest_traffic(&mut world);
        hostile_traffic(&mut world, &mut random, 1500);
    }
    world.assert_conserved();
    object::replay(&world);
    world.steps.len()
}

#[test]
fn the_object_and_the_trace_agree_in_random_configurations() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let wanted = number("NANBOKU_DIFFERENTIAL_PAIRS").unwrap_or(5000) as usize;
    let elapsed = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    let first = number("NANBOKU_DIFFERENTIAL_SEED").unwrap_or(elapsed.as_nanos() as u64);
    let (mut pairs, mut seed) = (0, first);
    while pairs < wanted {
        pairs += shaken_world(seed);
        seed = Random(seed).next();
    }
    println!("{pairs} pairs");
}

#[test]
fn the_object_does_what_the_host_build_does_with_a_fresh_seed() {
    let elapsed = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    run_world(Geneve, elapsed.as_nanos() as u64, 4000);
}
