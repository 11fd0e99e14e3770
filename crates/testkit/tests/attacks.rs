//! Attacks that other networks fell to, each on the packet path: the table "Attacks" of SPECIFICATION.md numbers them.
//!
//! Method: an attacker's VM (or a stranger on the underlay) sends what worked elsewhere into a world of three hosts;
//! it must end in the drop that names it, and leave nothing behind that lets another packet through.

use compiler::TunnelProtocol::Geneve;
use model::slice::Egress;
use packet::MacAddr;
use pipeline::host::Frame;
use pipeline::{Punt, Reason, Stage, Verdict};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use testkit::frames::{self, Ends};
use testkit::world::{Entry, INTERNET, SERVICE};
use testkit::{Arrival, World};

fn world() -> World {
    World::new(Geneve, Egress::Direct)
}

fn dropped(stage: Stage, reason: Reason) -> Arrival {
    Arrival::Nowhere { host: 0, verdict: Verdict::Drop(stage, reason) }
}

fn sessions(world: &World) -> usize {
    world.hosts.iter().map(|host| host.tables.sessions.borrow().len()).sum()
}

/// Row 1: a tenant's BFD, in any form, never reaches a host's own.
#[test]
fn lesson_v1_a_tenants_bfd_reaches_no_host() {
    let mut world = world();
    let hosts = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().expect("an address"));
    for dst in hosts {
        for port in [3784, 4784, 6081] {
            let ends = world.routed("vm_a", dst, (49_152, port));
            let arrival = world.from_vm("vm_a", frames::udp(&ends, &[0x20, 0xc0, 3, 24]));
            // Like any other packet to the outside: translated, and sent to the external gateway.
            let (_, read) = world.at_uplink(&arrival);
            assert_ne!(read.src, world.vms["vm_a"].address);
        }
    }
}

/// Row 2: what the host answers itself is no way past the groups: a VM without rules gets nothing out, whichever helper
/// its packet is made to look like.
#[test]
fn lesson_v2_no_helper_takes_a_packet_past_the_groups() {
    let mut world = world();
    let port = world.vms["vm_a"].port;
    world.slice.ports.get_mut(&port).expect("the port").security_groups = Some(BTreeSet::new());
    world.program();
    let router = Ipv4Addr::new(192, 168, 10, 1);
    let refused = dropped(Stage::EgressAcl, Reason::NoRule);
    for dst in [router, INTERNET, world.vms["vm_b"].address, world.vms["vm_d"].address] {
        // As to and from DNS, mDNS, DHCP, TFTP, PCP and the metadata service.
        for (src_port, dst_port) in
            [(4000, 53), (53, 4000), (5353, 5353), (68, 67), (546, 547), (69, 69), (4000, 5351), (80, 80)]
        {
            let ends = world.routed("vm_a", dst, (src_port, dst_port));
            assert_eq!(
                world.from_vm("vm_a", frames::udp(&ends, &[1; 60])),
                refused,
                "{dst} {src_port} {dst_port}"
            );
            let syn = frames::tcp(&ends, frames::Segment::Syn, b"");
            assert_eq!(world.from_vm("vm_a", syn), refused, "{dst} {src_port} {dst_port}");
        }
        let ends = world.routed("vm_a", dst, (7, 0));
        assert_eq!(world.from_vm("vm_a", frames::echo(&ends, false)), refused, "{dst}");
    }
    assert_eq!(sessions(&world), 0);
    world.assert_conserved();
}

/// Row 4: a packet of protocol 0 makes no entry that others ride on.
#[test]
fn lesson_v4_ip_protocol_0_makes_no_wildcard() {
    let mut world = world();
    let mut zero = frames::udp(&world.switched("vm_a", "vm_g", (4000, 80)), b"data");
    zero[23] = 0;
    let arrival = world.from_vm("vm_a", frames::with_header_checksum(zero));
    assert!(matches!(arrival, Arrival::Port { .. }), "{arrival:?}");
    let before = sessions(&world);
    world.from_vm("vm_a", frames::udp(&world.switched("vm_a", "vm_g", (4000, 80)), b"data"));
    assert_eq!(sessions(&world), before + 1, "a datagram is a connection of its own");
    let mut spoofed = frames::udp(&world.switched("vm_g", "vm_a", (4000, 80)), b"data");
    spoofed[26..30].copy_from_slice(&[192, 168, 10, 99]);
    spoofed[23] = 0;
    let arrival = world.from_vm("vm_g", frames::with_header_checksum(spoofed));
    assert_eq!(arrival, dropped(Stage::PortSecurity, Reason::SpoofedAddress));
}

/// Row 8: DHCP, broadcast and every Ethernet type but IPv4, IPv6 and ARP are refused unless something serves them.
#[test]
fn lesson_v8_unknown_ethernet_types_and_dhcp_are_refused() {
    let mut world = world();
    let whole = frames::udp(&world.switched("vm_a", "vm_g", (4000, 80)), b"data");
    for kind in [0x88cc_u16, 0x8847, 0x8863, 0x88e5, 0x0001] {
        let mut frame = whole.clone();
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        let refused = dropped(Stage::Classify, Reason::EthertypeUnsupported);
        assert_eq!(world.from_vm("vm_a", frame), refused, "{kind:#06x}");
    }
    let mut discover = frames::udp(&world.switched("vm_a", "vm_g", (68, 67)), &[1; 240]);
    discover[..6].fill(0xff);
    assert!(matches!(world.from_vm("vm_a", discover), Arrival::Nowhere { verdict: Verdict::Drop(..), .. }));
    assert_eq!(sessions(&world), 0);
}

/// Row 18: what follows the IP packet in a frame is not looked at.
#[test]
fn lesson_v18_padding_never_reaches_the_classifier() {
    let mut world = world();
    let plain = frames::udp(&world.switched("vm_a", "vm_g", (4000, 80)), b"data");
    world.from_vm("vm_a", plain.clone());
    let before = sessions(&world);
    let mut padded = plain.clone();
    padded.extend(frames::udp(&world.switched("vm_a", "vm_g", (9, 9)), b"other"));
    assert!(matches!(world.from_vm("vm_a", padded), Arrival::Port { .. }));
    assert_eq!(sessions(&world), before, "the same connection");
    let mut short = plain;
    short[16..18].copy_from_slice(&24_u16.to_be_bytes());
    short.extend([0; 40]);
    let arrival = world.from_vm("vm_a", frames::with_header_checksum(short));
    assert_eq!(arrival, dropped(Stage::Classify, Reason::MalformedL4), "padding is no transport header");
}

/// Row 19: nobody listens to layer 2 protocols of a tenant's port: LLDP, CDP, spanning tree, LACP, EAPOL, PTP.
#[test]
fn lesson_v19_no_layer_2_protocol_of_a_tenant_is_heard() {
    let mut world = world();
    let whole = frames::udp(&world.switched("vm_a", "vm_g", (4000, 80)), b"data");
    let groups: [[u8; 6]; 4] = [
        [0x01, 0x80, 0xc2, 0, 0, 0x0e],
        [0x01, 0x80, 0xc2, 0, 0, 0],
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc],
        [0x01, 0x1b, 0x19, 0, 0, 0],
    ];
    // The last two are lengths: IEEE 802.2 behind them.
    for kind in [0x88cc_u16, 0x8809, 0x888e, 0x88f7, 0x8902, 0x0026, 0x05dc] {
        for group in groups {
            let mut frame = whole.clone();
            frame[..6].copy_from_slice(&group);
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            let refused = dropped(Stage::Classify, Reason::EthertypeUnsupported);
            assert_eq!(world.from_vm("vm_a", frame), refused, "{kind:#06x}");
        }
    }
    assert!(world.hosts[0].tables.events.borrow().is_empty(), "the agent hears of none");
    world.assert_conserved();
}

/// Row 21: what a VM sends to the slow path is limited and counted, and takes nothing from its neighbour on the host.
#[test]
fn lesson_v21_a_flood_to_the_slow_path_starves_nobody_else() {
    let mut world = world();
    let target = world.vms["vm_d"].address;
    let mut probe = |vm, port| {
        let expiring = frames::udp_ttl(&world.routed(vm, target, (port, 33434)), b"probe", 1);
        world.from_vm(vm, expiring)
    };
    let told = Arrival::Nowhere { host: 0, verdict: Verdict::Punt(Punt::TtlExceeded) };
    let flood: Vec<Arrival> = (4000..4200).map(|port| probe("vm_a", port)).collect();
    let (answered, limited) = flood.split_at(pipeline::bounds::PUNT_BURST as usize);
    assert!(answered.iter().all(|arrival| *arrival == told));
    let refused = dropped(Stage::Output, Reason::PuntLimited);
    assert!(limited.iter().all(|arrival| *arrival == refused), "and counted as such");
    assert_eq!(probe("vm_g", 4000), told, "the neighbour has its own share");
    world.assert_conserved();
}

/// Row 27: tunnel packets of anybody but the cluster's hosts are refused.
#[test]
fn lesson_v27_a_spoofed_tunnel_peer_is_refused() {
    let mut world = world();
    let ends = world.switched("vm_a", "vm_b", (4000, 80));
    world.from_vm("vm_a", frames::udp(&ends, b"data"));
    let mut tunnelled = world
        .steps
        .iter()
        .find(|step| step.entry == Entry::Underlay)
        .expect("a tunnel packet")
        .input
        .bytes
        .clone();
    tunnelled[26..30].copy_from_slice(&[10, 0, 0, 66]);
    let frame = Frame::new(frames::with_header_checksum(tunnelled));
    let verdict = Verdict::Drop(Stage::Classify, Reason::UnknownVtep);
    assert_eq!(world.enter(1, Entry::Underlay, frame), Arrival::Nowhere { host: 1, verdict });
}

/// Row 13: whose a packet is follows from its port, whatever it says of itself.
#[test]
fn lesson_v13_a_router_of_another_vpc_cannot_be_borrowed() {
    let mut world = world();
    let mut ends = world.routed("vm_a", INTERNET, (4000, 80));
    ends.dst_mac = MacAddr([0xfa, 0x16, 0x3e, 0xff, 0, 2]);
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b"data"));
    assert_eq!(arrival, dropped(Stage::Switch, Reason::UnknownStation));
}

/// Row 8 once more: a VM that answers DHCP would own its neighbours.
#[test]
fn no_vm_is_a_dhcp_server() {
    let mut world = world();
    for dst_port in [68, 67, 4000] {
        let offer = frames::udp(&world.switched("vm_a", "vm_g", (67, dst_port)), &[2; 240]);
        assert_eq!(world.from_vm("vm_a", offer), dropped(Stage::Switch, Reason::DhcpServer), "to {dst_port}");
        let outside = frames::udp(&world.routed("vm_a", INTERNET, (67, dst_port)), &[2; 240]);
        assert_eq!(
            world.from_vm("vm_a", outside),
            dropped(Stage::Switch, Reason::DhcpServer),
            "to {dst_port}"
        );
    }
    assert_eq!(sessions(&world), 0);
}

/// DHCP is the host's to answer, also of a VM without an address; nothing else comes from nowhere.
#[test]
fn dhcp_is_handed_to_the_host() {
    let mut world = world();
    let punted = Arrival::Nowhere { host: 0, verdict: Verdict::Punt(Punt::Dhcp) };
    let (nowhere, all) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let service = Ipv4Addr::from(pipeline::SERVICE_ADDRESS);
    let own = world.vms["vm_a"].address;
    let mut send = |src: Ipv4Addr, dst: Ipv4Addr, ports| {
        let ends = Ends { src, dst_mac: MacAddr::BROADCAST, ..world.routed("vm_a", dst, ports) };
        world.from_vm("vm_a", frames::udp(&ends, &[1; 240]))
    };
    assert_eq!(send(nowhere, all, (68, 67)), punted);
    assert_eq!(send(own, all, (68, 67)), punted);
    assert_eq!(send(own, service, (68, 67)), punted, "renewal");
    let source = dropped(Stage::Classify, Reason::SourceMulticast);
    assert_eq!(send(nowhere, all, (68, 4000)), source);
    assert_eq!(send(nowhere, service, (68, 67)), source);
    assert_eq!(send(own, service, (68, 69)), dropped(Stage::Switch, Reason::NotServed));
    let cut = frames::may_fragment(frames::udp(&world.routed("vm_a", service, (68, 67)), &[1; 240]));
    let first = frames::fragments(&cut, 160).remove(0);
    assert_eq!(world.from_vm("vm_a", first), dropped(Stage::Switch, Reason::NotServed));
    assert_eq!(sessions(&world), 0);
}

/// Row 13: whose metadata it is follows from the port. VMs with equal addresses come to the service under different ones,
/// and an address that is not the port's does not come there at all.
#[test]
fn metadata_is_asked_for_under_an_address_of_the_port() {
    let mut world = world();
    let service = Ipv4Addr::from(pipeline::SERVICE_ADDRESS);
    let mut seen = BTreeSet::new();
    for vm in ["vm_a", "vm_e"] {
        let ends = world.routed(vm, service, (40_000, 80));
        assert_eq!(ends.src, world.vms["vm_a"].address, "equal addresses");
        let arrival = world.from_vm(vm, frames::tcp(&ends, frames::Segment::Syn, &[]));
        let Arrival::Port { ifindex: SERVICE, frame, .. } = arrival else { panic!("{vm}: {arrival:?}") };
        // Reading checks the checksums.
        let read = frames::read(&frame);
        assert_eq!((read.dst, read.dst_port, read.dst_mac), (service, 80, pipeline::SERVICE_MAC));
        assert!(seen.insert(read.src), "{vm}: {}", read.src);
    }
    let ends = world.routed("vm_a", service, (40_000, 80));
    let spoofed = Ends { src: world.vms["vm_g"].address, ..ends };
    let arrival = world.from_vm("vm_a", frames::tcp(&spoofed, frames::Segment::Syn, &[]));
    assert_eq!(arrival, dropped(Stage::PortSecurity, Reason::SpoofedAddress));
    let other = Ends { dst_port: 443, ..ends };
    let arrival = world.from_vm("vm_a", frames::tcp(&other, frames::Segment::Syn, &[]));
    assert_eq!(arrival, dropped(Stage::Switch, Reason::NotServed));
    assert_eq!(sessions(&world), 0, "nothing is remembered");
}
