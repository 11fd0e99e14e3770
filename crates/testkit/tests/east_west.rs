//! VMs of one VPC reach one another, on one host and across hosts; another VPC with equal addresses does not
//! exist for them.

use compiler::TunnelProtocol::{Geneve, Vxlan};
use model::Mac;
use model::slice::{AllowedPair, Egress, VirtualAddress, VirtualAddressId};
use packet::ipv4;
use pipeline::{Punt, Reason, Stage, Verdict};
use testkit::frames::{self, Ends, Segment};
use testkit::{Arrival, World};

fn world() -> World {
    World::new(Geneve, Egress::Direct)
}

#[test]
fn same_subnet_same_host_keeps_the_frame() {
    let mut world = world();
    let ends = world.switched("vm_a", "vm_g", (4000, 53));
    let frame = frames::udp(&ends, b"hello");
    let arrival = world.from_vm("vm_a", frame.clone());
    let vm = world.vms["vm_g"];
    assert_eq!(arrival, Arrival::Port { host: vm.host, ifindex: vm.ifindex, frame });
    world.assert_conserved();
}

#[test]
fn same_subnet_other_host_over_both_tunnels() {
    for protocol in [Geneve, Vxlan] {
        let mut world = World::new(protocol, Egress::Direct);
        let there = frames::udp(&world.switched("vm_a", "vm_b", (4000, 53)), b"there");
        let back = frames::udp(&world.switched("vm_b", "vm_a", (53, 4000)), b"back");
        for _ in 0..2 {
            let vm_b = world.vms["vm_b"];
            let arrival = world.from_vm("vm_a", there.clone());
            let expected = Arrival::Port { host: 1, ifindex: vm_b.ifindex, frame: there.clone() };
            assert_eq!(arrival, expected);
            let arrival = world.from_vm("vm_b", back.clone());
            assert_eq!(world.at_vm("vm_a", &arrival).ttl, 64);
        }
        assert_eq!(world.hosts[0].tables.sessions.borrow().len(), 1, "one session for both directions");
        assert_eq!(world.hosts[1].tables.sessions.borrow().len(), 1);
        world.assert_conserved();
    }
}

#[test]
fn routed_same_host_decrements_ttl_and_shows_the_routers_mac() {
    let mut world = world();
    let dst = world.vms["vm_d"].address;
    let arrival =
        world.from_vm("vm_a", frames::tcp(&world.routed("vm_a", dst, (4000, 80)), Segment::Syn, b""));
    let read = world.at_vm("vm_d", &arrival);
    assert_eq!((read.ttl, read.src_mac), (63, world.vms["vm_d"].router_mac));
    assert_eq!((read.src, read.src_port), (world.vms["vm_a"].address, 4000));
}

#[test]
fn routed_other_host_and_back_uses_the_dvr_mac_on_the_wire_only() {
    let mut world = world();
    let (vm_b, vm_d) = (world.vms["vm_b"], world.vms["vm_d"]);
    let there = world.routed("vm_b", vm_d.address, (4000, 80));
    let back = world.routed("vm_d", vm_b.address, (80, 4000));
    for _ in 0..2 {
        let arrival = world.from_vm("vm_b", frames::tcp(&there, Segment::Syn, b""));
        let read = world.at_vm("vm_d", &arrival);
        assert_eq!((read.ttl, read.src_mac, read.dst_mac), (63, vm_d.router_mac, vm_d.mac));
        let wire = &world.steps[world.steps.len() - 2].output.bytes;
        assert_eq!(wire[56..62], world.hosts[1].facts.dvr_mac.0, "inner source MAC on the wire");
        let arrival = world.from_vm("vm_d", frames::tcp(&back, Segment::SynAck, b""));
        let read = world.at_vm("vm_b", &arrival);
        assert_eq!((read.ttl, read.src_mac, read.dst_mac), (63, vm_b.router_mac, vm_b.mac));
    }
    for host in 0..2 {
        let tables = &world.hosts[host].tables;
        assert_eq!(tables.sessions.borrow().len(), 1, "one session on host {host}");
        let sessions = tables.sessions.borrow();
        let session = sessions.values().next().expect("one session");
        let packets = session.packets.each_ref().map(|c| c.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(packets, [2, 2]);
    }
    world.assert_conserved();
}

#[test]
fn equal_addresses_of_another_vpc_are_another_world() {
    let mut world = world();
    // vm_e (green) has vm_a's address; vm_f (green) and vm_c (blue) have equal addresses too.
    assert_eq!(world.vms["vm_a"].address, world.vms["vm_e"].address);
    let arrival = world.from_vm("vm_e", frames::udp(&world.switched("vm_e", "vm_f", (1, 2)), b"green"));
    world.at_vm("vm_f", &arrival);
    let arrival = world.from_vm("vm_a", frames::udp(&world.switched("vm_a", "vm_c", (1, 2)), b"blue"));
    world.at_vm("vm_c", &arrival);
    // A frame of green to the MAC of a blue VM.
    let arrival = world.from_vm("vm_e", frames::udp(&world.switched("vm_e", "vm_c", (1, 2)), b"leak"));
    let verdict = Verdict::Drop(Stage::Switch, Reason::UnknownStation);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
    // Routed from green to blue's second network: green's router has no such network.
    let dst = world.vms["vm_d"].address;
    let arrival = world.from_vm("vm_e", frames::udp(&world.routed("vm_e", dst, (1, 2)), b"leak"));
    let (_, read) = world.at_uplink(&arrival);
    assert_eq!(read.src, testkit::world::SNAT_GREEN, "to green, 10.16.0.0/24 is the internet");
}

#[test]
fn the_router_answers_ping_on_each_of_its_addresses() {
    let mut world = world();
    for dst in ["192.168.10.1", "10.16.0.1"] {
        let dst = dst.parse().expect("an address");
        let ends = world.routed("vm_a", dst, (77, 77));
        let arrival = world.from_vm("vm_a", frames::echo(&ends, false));
        let read = world.at_vm("vm_a", &arrival);
        assert_eq!((read.icmp_type, read.src, read.dst), (0, dst, ends.src));
        assert_eq!((read.dst_mac, read.src_mac), (ends.src_mac, ends.dst_mac));
        let arrival = world.from_vm("vm_a", frames::tcp(&ends, Segment::Syn, b""));
        let verdict = Verdict::Drop(Stage::Route, Reason::NotForRouter);
        assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
    }
}

#[test]
fn an_expired_ttl_is_told_to_the_sender() {
    let mut world = world();
    let ends = world.routed("vm_a", world.vms["vm_d"].address, (4000, 33434));
    let frame = frames::udp_ttl(&ends, b"probe", 1);
    let arrival = world.from_vm("vm_a", frame.clone());
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict: Verdict::Punt(Punt::TtlExceeded) });
    let events = world.hosts[0].tables.events.borrow();
    let [event] = events.as_slice() else { panic!("one event, got {}", events.len()) };
    assert_eq!(event.packet[..frame.len()], frame, "the packet as it came");
    assert!(world.hosts[0].tables.sessions.borrow().is_empty(), "no session for it");
}

#[test]
fn a_packet_beyond_the_mtu_is_told_to_the_sender() {
    let mut world = world();
    let ends = world.switched("vm_a", "vm_b", (4000, 9));
    let arrival = world.from_vm("vm_a", frames::udp(&ends, &[0; 1450]));
    let verdict = Verdict::Punt(Punt::FragmentationNeeded);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
    assert_eq!(world.hosts[0].tables.events.borrow()[0].detail, 1450);
    let fits = frames::udp(&ends, &[0; 1450 - 28]);
    let arrival = world.from_vm("vm_a", fits);
    assert_eq!(world.at_vm("vm_b", &arrival).protocol, ipv4::PROTOCOL_UDP);
}

#[test]
fn arp_is_answered_on_the_host_for_ports_and_the_router() {
    let mut world = world();
    let vm = world.vms["vm_a"];
    for (target, mac) in [
        (world.vms["vm_c"].address, world.vms["vm_c"].mac),
        ("192.168.10.1".parse().expect("an address"), vm.router_mac),
    ] {
        let arrival = world.from_vm("vm_a", frames::arp_request((vm.mac, vm.address), target));
        let Arrival::Port { ifindex, frame, .. } = arrival else { panic!("{arrival:?}") };
        assert_eq!(ifindex, vm.ifindex);
        assert_eq!(frame[..6], vm.mac.0);
        assert_eq!((&frame[6..12], &frame[22..28]), (&mac.0[..], &mac.0[..]));
        assert_eq!((frame[21], &frame[28..32]), (2, &target.octets()[..]));
    }
    let nobody = "192.168.10.200".parse().expect("an address");
    let arrival = world.from_vm("vm_a", frames::arp_request((vm.mac, vm.address), nobody));
    let verdict = Verdict::Drop(Stage::Switch, Reason::ArpUnknownTarget);
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict });
}

/// Goal: only what a VM announces of an allowed pair's address, and only what is news, reaches the agent; and what an
/// agent says of it through the tunnel reaches the others. Method: the walk itself; events are what agents get.
#[test]
fn an_announced_address_is_news_until_the_tables_say_so() {
    let mut world = world();
    let address: std::net::Ipv4Addr = "192.168.10.100".parse().expect("an address");
    let pair = |address: &str| AllowedPair { mac: None, address: address.parse().expect("a prefix") };
    for (vm, prefix) in [("vm_a", "192.168.10.100/32"), ("vm_b", "192.168.10.96/27")] {
        let port = world.vms[vm].port;
        world.slice.ports.get_mut(&port).expect("the port").allowed_pairs = vec![pair(prefix)];
    }
    world.program();
    let announce = |world: &mut World, vm: &str, address| {
        let mac = world.vms[vm].mac;
        world.from_vm(vm, frames::arp_request((mac, address), address))
    };
    let ignored = |host| {
        let verdict = Verdict::Drop(Stage::Switch, Reason::ArpIgnored);
        Arrival::Nowhere { host, verdict }
    };
    let news = |host| Arrival::Nowhere { host, verdict: Verdict::Punt(Punt::AddressAnnounced) };
    let own = world.vms["vm_a"].address;
    assert_eq!(announce(&mut world, "vm_a", own), ignored(0), "its own address is no news");
    for (vm, host, other) in [("vm_c", 2, address), ("vm_b", 1, own)] {
        let spoofed =
            Arrival::Nowhere { host, verdict: Verdict::Drop(Stage::PortSecurity, Reason::SpoofedArp) };
        assert_eq!(announce(&mut world, vm, other), spoofed, "{vm} has no pair with {other}");
    }
    let id = VirtualAddressId { network: world.vms["vm_a"].network, address: address.into() };
    for (turn, (vm, host)) in [("vm_a", 0), ("vm_b", 1), ("vm_a", 0)].into_iter().enumerate() {
        assert_eq!(announce(&mut world, vm, address), news(host), "turn {turn}");
        let event = *world.hosts[host].tables.events.borrow().last().expect("an event");
        assert_eq!(event.address, address.into());
        let holder = VirtualAddress { port: world.vms[vm].port, mac: Mac(world.vms[vm].mac.0) };
        world.slice.virtual_addresses.insert(id, holder);
        world.program();
        assert_eq!(announce(&mut world, vm, address), ignored(host), "known by now");
        // A VM on the third host finds it, by ARP and by sending there.
        let peer = world.vms["vm_c"];
        let arrival = world.from_vm("vm_c", frames::arp_request((peer.mac, peer.address), address));
        let Arrival::Port { frame, .. } = arrival else { panic!("{arrival:?}") };
        assert_eq!(frame[6..12], world.vms[vm].mac.0);
        let ends = Ends { dst: address, ..world.switched("vm_c", vm, (4000, 9)) };
        let arrival = world.from_vm("vm_c", frames::udp(&ends, b"to whoever has it"));
        assert_eq!(world.at_vm(vm, &arrival).dst, address);
        // Routed, from the other network. vm_a is next to vm_d: answers come from another network than through the tunnel,
        // and a session that waits for them elsewhere ends.
        let ends = world.routed("vm_d", address, (4000, 9));
        let ask = |world: &mut World| world.from_vm("vm_d", frames::udp(&ends, b"to whoever has it"));
        if turn > 0 {
            let verdict = Verdict::Drop(Stage::Classify, Reason::SessionEnded);
            assert_eq!(ask(&mut world), Arrival::Nowhere { host: 0, verdict });
        }
        let arrival = ask(&mut world);
        assert_eq!(world.at_vm(vm, &arrival).dst, address);
        let ends = Ends { src: address, ..world.routed(vm, world.vms["vm_d"].address, (9, 4000)) };
        let arrival = world.from_vm(vm, frames::udp(&ends, b"from whoever has it"));
        assert_eq!(world.at_vm("vm_d", &arrival).src, address, "turn {turn}");
    }
}
