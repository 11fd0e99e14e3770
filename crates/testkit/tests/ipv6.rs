//! IPv6: every walk that IPv4 has but translation, and neighbour discovery instead of ARP.

use compiler::TunnelProtocol::{Geneve, Vxlan};
use model::Mac;
use model::slice::{AllowedPair, Egress, VirtualAddress, VirtualAddressId};
use packet::{MacAddr, icmp6, nd};
use pipeline::host::Frame;
use pipeline::{Punt, Reason, Stage, Verdict};
use std::net::Ipv6Addr;
use testkit::frames::{self, Ends, Segment};
use testkit::ipv6::{GATEWAY6, INTERNET6, ROUTER6, address6, link_local};
use testkit::world::{Entry, GATEWAY_MAC};
use testkit::{Arrival, World};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

fn world(egress: Egress) -> World {
    let mut world = World::new(Geneve, egress);
    world.add_ipv6();
    world
}

fn dropped(host: usize, stage: Stage, reason: Reason) -> Arrival {
    Arrival::Nowhere { host, verdict: Verdict::Drop(stage, reason) }
}

fn multicast(group: Ipv6Addr) -> (MacAddr, Ipv6Addr) {
    (nd::multicast_mac(&group.octets()), group)
}

/// The advertisement in a frame, verified: target, its MAC, flags.
fn advertisement(frame: &[u8]) -> (Ipv6Addr, Option<MacAddr>, u8) {
    let read = frames::read6(frame);
    assert_eq!((read.icmp_type, read.ttl), (icmp6::TYPE_NEIGHBOR_ADVERTISEMENT, 255));
    let header: nd::Header = packet::read(frame, 54).expect("a message");
    let end = 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    (header.target.into(), nd::mac_option(&frame[78..end], nd::OPTION_TARGET_MAC), header.flags)
}

#[test]
fn same_subnet_keeps_the_frame_on_one_host_and_over_both_tunnels() {
    for protocol in [Geneve, Vxlan] {
        let mut world = World::new(protocol, Egress::Direct);
        world.add_ipv6();
        for (from, to) in [("vm_a", "vm_g"), ("vm_a", "vm_b"), ("vm_c", "vm_a")] {
            let there = world.switched6(from, to, (4000, 53));
            let back = world.switched6(to, from, (53, 4000));
            for _ in 0..2 {
                let frame = frames::udp(&there, b"there");
                let vm = world.vms[to];
                let arrival = world.from_vm(from, frame.clone());
                assert_eq!(arrival, Arrival::Port { host: vm.host, ifindex: vm.ifindex, frame });
                let arrival = world.from_vm(to, frames::udp(&back, b"back"));
                assert_eq!(world.at_vm6(from, &arrival).ttl, 64);
            }
        }
        world.assert_conserved();
    }
}

#[test]
fn routed_traffic_loses_a_hop_and_shows_the_routers_mac() {
    let mut world = world(Egress::Direct);
    for (from, to) in [("vm_a", "vm_d"), ("vm_b", "vm_d"), ("vm_d", "vm_c")] {
        let there = world.routed6(from, world.vms[to].address6(), (4000, 80));
        let back = world.routed6(to, world.vms[from].address6(), (80, 4000));
        for _ in 0..2 {
            let arrival = world.from_vm(from, frames::tcp(&there, Segment::Syn, b""));
            let read = world.at_vm6(to, &arrival);
            assert_eq!((read.ttl, read.src_mac), (63, world.vms[to].router_mac), "{from} to {to}");
            let arrival = world.from_vm(to, frames::tcp(&back, Segment::SynAck, b""));
            assert_eq!(world.at_vm6(from, &arrival).src_mac, world.vms[from].router_mac);
        }
    }
    world.assert_conserved();
}

#[test]
fn another_vpc_is_out_of_reach() {
    let mut world = world(Egress::Direct);
    let ends = world.routed6("vm_e", world.vms["vm_a"].address6(), (4000, 80));
    let arrival = world.from_vm("vm_e", frames::udp(&ends, b""));
    assert_eq!(arrival, dropped(0, Stage::Snat, Reason::NotRouted), "nor by the network outside");
}

#[test]
fn the_host_answers_solicitations_for_vms_routers_and_link_local_addresses() {
    let mut world = world(Egress::Direct);
    let (vm_a, vm_c) = (world.vms["vm_a"], world.vms["vm_c"]);
    let own = vm_a.address6();
    for (target, mac, router) in [
        (vm_c.address6(), vm_c.mac, false),
        (address6(1, 1), vm_a.router_mac, true),
        (link_local(vm_c.mac), vm_c.mac, false),
        (link_local(vm_a.router_mac), vm_a.router_mac, true),
    ] {
        for src in [own, link_local(vm_a.mac)] {
            let arrival = world.from_vm("vm_a", frames::solicitation((vm_a.mac, src), target));
            let Arrival::Port { host: 0, ifindex, frame } = arrival else { panic!("{arrival:?}") };
            assert_eq!(ifindex, vm_a.ifindex);
            let read = frames::read6(&frame);
            assert_eq!((read.src, read.dst, read.dst_mac, read.src_mac), (target, src, vm_a.mac, mac));
            let flags = nd::FLAG_SOLICITED | nd::FLAG_OVERRIDE | if router { nd::FLAG_ROUTER } else { 0 };
            assert_eq!(advertisement(&frame), (target, Some(mac), flags));
        }
    }
    let unknown = frames::solicitation((vm_a.mac, own), address6(1, 200));
    assert_eq!(world.from_vm("vm_a", unknown), dropped(0, Stage::Switch, Reason::ArpUnknownTarget));
    let elsewhere = frames::solicitation((vm_a.mac, own), world.vms["vm_d"].address6());
    assert_eq!(world.from_vm("vm_a", elsewhere), dropped(0, Stage::Switch, Reason::ArpUnknownTarget));
    world.assert_conserved();
}

/// RFC 4862 §5.4: a VM that asks for its own address hears nothing, for another's that it is taken.
#[test]
fn duplicate_address_detection_finds_the_addresses_of_others() {
    let mut world = world(Egress::Direct);
    let (vm_a, vm_b) = (world.vms["vm_a"], world.vms["vm_b"]);
    let probe = |target: Ipv6Addr| {
        let group = nd::solicited_node(&target.octets());
        let mut message = vec![icmp6::TYPE_NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        message.extend(target.octets());
        let (dst_mac, dst) = (nd::multicast_mac(&group), Ipv6Addr::from(group));
        let src = Ipv6Addr::UNSPECIFIED;
        frames::icmp6(&Ends { src_mac: vm_a.mac, dst_mac, src, dst, src_port: 0, dst_port: 0 }, 255, &message)
    };
    for own in [vm_a.address6(), link_local(vm_a.mac)] {
        assert_eq!(world.from_vm("vm_a", probe(own)), dropped(0, Stage::Switch, Reason::ArpIgnored));
    }
    let arrival = world.from_vm("vm_a", probe(vm_b.address6()));
    let Arrival::Port { frame, .. } = arrival else { panic!("{arrival:?}") };
    let read = frames::read6(&frame);
    assert_eq!((read.dst_mac, read.dst), multicast(ALL_NODES));
    assert_eq!(advertisement(&frame), (vm_b.address6(), None, nd::FLAG_OVERRIDE));
}

#[test]
fn neighbour_discovery_cannot_be_spoofed() {
    let mut world = world(Egress::Direct);
    let (vm_a, vm_b) = (world.vms["vm_a"], world.vms["vm_b"]);
    let (own, other) = (vm_a.address6(), vm_b.address6());
    let spoofed = dropped(0, Stage::PortSecurity, Reason::SpoofedNeighbor);
    let to = (vm_b.mac, other);
    let said = |target: Ipv6Addr, mac| nd::Message::advertisement(nd::FLAG_OVERRIDE, target.octets(), mac);
    let asked = |target: Ipv6Addr, mac| nd::Message::solicitation(target.octets(), mac);
    for (what, frame) in [
        ("another's address", frames::solicitation((vm_a.mac, other), address6(1, 1))),
        ("another's MAC", frames::neighbor_message((vm_a.mac, own), to, asked(other, vm_b.mac))),
        ("has another's", frames::neighbor_message((vm_a.mac, own), to, said(other, vm_a.mac))),
        ("the router's", frames::neighbor_message((vm_a.mac, own), to, said(address6(1, 1), vm_a.mac))),
        ("is elsewhere", frames::neighbor_message((vm_a.mac, own), to, said(own, vm_b.mac))),
        ("from the router", frames::neighbor_message((vm_a.mac, address6(1, 1)), to, said(own, vm_a.mac))),
    ] {
        assert_eq!(world.from_vm("vm_a", frame), spoofed, "{what}");
    }
    let mut routed = frames::neighbor_message((vm_a.mac, own), to, asked(other, vm_a.mac));
    routed[21] = 254;
    assert_eq!(world.from_vm("vm_a", routed), spoofed, "hop limit");
    let honest = frames::neighbor_message((vm_a.mac, own), to, said(own, vm_a.mac));
    assert_eq!(world.from_vm("vm_a", honest), dropped(0, Stage::Switch, Reason::ArpIgnored));
}

/// An address that a pair names is at whichever VM advertised it last (VRRP); what is no news costs the agent nothing.
#[test]
fn an_advertised_address_is_news_until_the_tables_say_so() {
    let mut world = world(Egress::Direct);
    let (address, own) = (address6(1, 100), world.vms["vm_a"].address6());
    let pair = |address: &str| AllowedPair { mac: None, address: address.parse().expect("a prefix") };
    for (vm, prefix) in [("vm_a", format!("{address}/128")), ("vm_b", "2001:db8:10::64/123".to_owned())] {
        let port = world.vms[vm].port;
        world.slice.ports.get_mut(&port).expect("the port").allowed_pairs = vec![pair(&prefix)];
    }
    world.program();
    let frame = |mac: MacAddr, src: Ipv6Addr, target: Ipv6Addr| {
        let message = nd::Message::advertisement(nd::FLAG_OVERRIDE, target.octets(), mac);
        frames::neighbor_message((mac, src), multicast(ALL_NODES), message)
    };
    let advertise = |world: &mut World, vm: &str, target| {
        let mac = world.vms[vm].mac;
        world.from_vm(vm, frame(mac, link_local(mac), target))
    };
    let ignored = |host| dropped(host, Stage::Switch, Reason::ArpIgnored);
    let news = |host| Arrival::Nowhere { host, verdict: Verdict::Punt(Punt::AddressAnnounced) };
    for known in [own, link_local(world.vms["vm_a"].mac)] {
        assert_eq!(advertise(&mut world, "vm_a", known), ignored(0), "{known} is no news");
    }
    for (vm, host, other) in [("vm_c", 2, address), ("vm_b", 1, own)] {
        let spoofed = dropped(host, Stage::PortSecurity, Reason::SpoofedNeighbor);
        assert_eq!(advertise(&mut world, vm, other), spoofed, "{vm} has no pair with {other}");
    }
    let id = VirtualAddressId { network: world.vms["vm_a"].network, address: address.into() };
    for (vm, host) in [("vm_a", 0), ("vm_b", 1), ("vm_a", 0)] {
        assert_eq!(advertise(&mut world, vm, address), news(host));
        let event = *world.hosts[host].tables.events.borrow().last().expect("an event");
        assert_eq!(event.address, address.into());
        let mac = world.vms[vm].mac;
        let holder = VirtualAddress { port: world.vms[vm].port, mac: Mac(mac.0) };
        world.slice.virtual_addresses.insert(id, holder);
        world.program();
        assert_eq!(advertise(&mut world, vm, address), ignored(host), "known by now");
        let tunnel = Entry::Tunnel { vni: 101, vtep: world.hosts[host].facts.vtep };
        let told = world.enter(2, tunnel, Frame::new(frame(mac, address, address)));
        assert_eq!(told, ignored(2), "the controller tells");
        // A VM on the third host finds it, by discovery and by sending there; and one on the other network.
        let peer = world.vms["vm_c"];
        let arrival = world.from_vm("vm_c", frames::solicitation((peer.mac, peer.address6()), address));
        let Arrival::Port { frame, .. } = arrival else { panic!("{arrival:?}") };
        assert_eq!(advertisement(&frame), (address, Some(mac), nd::FLAG_SOLICITED | nd::FLAG_OVERRIDE));
        let ends = Ends { dst: address, ..world.switched6("vm_c", vm, (4000, 9)) };
        let arrival = world.from_vm("vm_c", frames::udp(&ends, b"to whoever has it"));
        assert_eq!(world.at_vm6(vm, &arrival).dst, address);
        let ends = Ends { src: address, ..world.routed6(vm, world.vms["vm_d"].address6(), (9, 4000)) };
        let arrival = world.from_vm(vm, frames::udp(&ends, b"from whoever has it"));
        assert_eq!(world.at_vm6("vm_d", &arrival).src, address);
    }
}

#[test]
fn vms_are_no_routers_and_no_dhcp_servers() {
    let mut world = world(Egress::Direct);
    let vm = world.vms["vm_a"];
    let ends = |(dst_mac, dst): (MacAddr, Ipv6Addr), ports: (u16, u16)| Ends {
        src_mac: vm.mac,
        dst_mac,
        src: link_local(vm.mac),
        dst,
        src_port: ports.0,
        dst_port: ports.1,
    };
    let to_vm_b = (world.vms["vm_b"].mac, link_local(world.vms["vm_b"].mac));
    for kind in [icmp6::TYPE_ROUTER_ADVERTISEMENT, icmp6::TYPE_REDIRECT] {
        for to in [multicast(ALL_NODES), to_vm_b] {
            let mut message = [0; 40];
            message[0] = kind;
            let frame = frames::icmp6(&ends(to, (0, 0)), 255, &message);
            assert_eq!(world.from_vm("vm_a", frame), dropped(0, Stage::Switch, Reason::RogueRouter));
        }
    }
    let reply = frames::udp(&ends(to_vm_b, (547, 546)), b"reply");
    assert_eq!(world.from_vm("vm_a", reply), dropped(0, Stage::Switch, Reason::DhcpServer));
    let report = frames::icmp6(&ends(multicast(ALL_NODES), (0, 0)), 1, &[icmp6::TYPE_MLD_REPORT_V2; 28]);
    assert_eq!(world.from_vm("vm_a", report), dropped(0, Stage::Switch, Reason::ArpIgnored));
    let hello = frames::udp(&ends(multicast(ALL_NODES), (5353, 5353)), b"hello");
    assert_eq!(world.from_vm("vm_a", hello), dropped(0, Stage::Switch, Reason::MulticastUnsupported));
    world.assert_conserved();
}

#[test]
fn what_only_the_host_answers_goes_to_the_agent_whole() {
    let mut world = world(Egress::Direct);
    let vm = world.vms["vm_a"];
    let (dst_mac, dst) = multicast(ALL_ROUTERS);
    let solicit = |src: Ipv6Addr, options: &[u8]| {
        let message = [&[icmp6::TYPE_ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], options].concat();
        frames::icmp6(&Ends { src_mac: vm.mac, dst_mac, src, dst, src_port: 0, dst_port: 0 }, 255, &message)
    };
    let option = |mac: MacAddr| [&[nd::OPTION_SOURCE_MAC, 1][..], &mac.0].concat();
    let punted = |punt| Arrival::Nowhere { host: 0, verdict: Verdict::Punt(punt) };
    for frame in [solicit(link_local(vm.mac), &option(vm.mac)), solicit(Ipv6Addr::UNSPECIFIED, &[])] {
        assert_eq!(world.from_vm("vm_a", frame.clone()), punted(Punt::RouterSolicitation));
        let frames = world.hosts[0].tables.frames.borrow();
        assert_eq!(frames.last().expect("a frame").1, frame);
    }
    let other = world.vms["vm_b"].mac;
    let spoofed = dropped(0, Stage::PortSecurity, Reason::SpoofedNeighbor);
    assert_eq!(world.from_vm("vm_a", solicit(link_local(other), &[])), spoofed);
    assert_eq!(world.from_vm("vm_a", solicit(link_local(vm.mac), &option(other))), spoofed);
    let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    let (dst_mac, dst) = multicast(servers);
    let ends = Ends { src_mac: vm.mac, dst_mac, src: link_local(vm.mac), dst, src_port: 546, dst_port: 547 };
    assert_eq!(world.from_vm("vm_a", frames::udp(&ends, b"request")), punted(Punt::Dhcp6));
    world.assert_conserved();
}

#[test]
fn a_vm_uses_its_own_addresses_only() {
    let mut world = world(Egress::Direct);
    let honest = world.switched6("vm_a", "vm_b", (4000, 80));
    for src in [world.vms["vm_b"].address6(), link_local(world.vms["vm_b"].mac), address6(1, 99)] {
        let arrival = world.from_vm("vm_a", frames::udp(&Ends { src, ..honest }, b""));
        assert_eq!(arrival, dropped(0, Stage::PortSecurity, Reason::SpoofedAddress), "{src}");
    }
    let src_mac = world.vms["vm_b"].mac;
    let arrival = world.from_vm("vm_a", frames::udp(&Ends { src_mac, ..honest }, b""));
    assert_eq!(arrival, dropped(0, Stage::PortSecurity, Reason::SpoofedMac));
    let src = Ipv6Addr::UNSPECIFIED;
    let arrival = world.from_vm("vm_a", frames::udp(&Ends { src, ..honest }, b""));
    assert_eq!(arrival, dropped(0, Stage::Classify, Reason::SourceMulticast));
    // Its IPv4 address in an IPv6 packet is neither.
    let src = world.vms["vm_a"].address.to_ipv6_mapped();
    let arrival = world.from_vm("vm_a", frames::udp(&Ends { src, ..honest }, b""));
    assert_eq!(arrival, dropped(0, Stage::Classify, Reason::MalformedIpv6));
    let ends = Ends { src: link_local(world.vms["vm_a"].mac), dst: link_local(src_mac), ..honest };
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b""));
    assert_eq!(world.at_vm6("vm_b", &arrival).src, ends.src);
}

#[test]
fn routers_answer_ping_and_refuse_the_rest() {
    let mut world = world(Egress::Direct);
    let router = link_local(world.vms["vm_a"].router_mac);
    for dst in [address6(1, 1), address6(2, 1), router] {
        let ends = world.routed6("vm_a", dst, (7, 7));
        let arrival = world.from_vm("vm_a", frames::echo(&ends, false));
        let read = world.at_vm6("vm_a", &arrival);
        assert_eq!((read.src, read.dst, read.icmp_type), (dst, ends.src, icmp6::TYPE_ECHO_REPLY));
        let arrival = world.from_vm("vm_a", frames::udp(&ends, b""));
        assert_eq!(arrival, dropped(0, Stage::Route, Reason::NotForRouter), "{dst}");
    }
    let ends = world.routed6("vm_a", link_local(world.vms["vm_b"].mac), (7, 7));
    let arrival = world.from_vm("vm_a", frames::echo(&ends, false));
    assert_eq!(arrival, dropped(0, Stage::Route, Reason::NoRoute), "never routed");
    let src = link_local(world.vms["vm_a"].mac);
    let ends = Ends { src, ..world.routed6("vm_a", world.vms["vm_d"].address6(), (7, 7)) };
    let arrival = world.from_vm("vm_a", frames::echo(&ends, false));
    assert_eq!(arrival, dropped(0, Stage::Route, Reason::NoRoute), "nor from there");
}

#[test]
fn vms_are_outside_as_they_are_and_are_answered() {
    for egress in [Egress::Direct, Egress::Gateway] {
        let mut world = world(egress);
        for vm in ["vm_a", "vm_b", "vm_c", "vm_d"] {
            let there = world.routed6(vm, INTERNET6, (4000, 53));
            for frame in [
                frames::udp(&there, b""),
                frames::tcp(&there, Segment::Syn, b""),
                frames::echo(&there, false),
            ] {
                let arrival = world.from_vm(vm, frame);
                let (host, read) = world.at_uplink6(&arrival);
                assert_eq!((read.src, read.dst, read.ttl), (there.src, INTERNET6, 63), "{vm} by {host}");
                assert_eq!((read.src_mac.0, read.dst_mac), (world.hosts[host].facts.dvr_mac.0, GATEWAY_MAC));
                for gateway in [0, 1] {
                    let back = world.outside6(gateway, (INTERNET6, read.dst_port), (read.src, read.src_port));
                    let back = match read.protocol {
                        17 => frames::udp(&back, b""),
                        6 => frames::tcp(&back, Segment::SynAck, b""),
                        _ => frames::echo(&back, true),
                    };
                    let arrival = world.from_outside(gateway, back);
                    assert_eq!(world.at_vm6(vm, &arrival).src_mac, world.vms[vm].router_mac);
                }
            }
        }
        world.assert_conserved();
    }
}

#[test]
fn vms_are_reached_from_outside_by_their_own_addresses() {
    for egress in [Egress::Direct, Egress::Gateway] {
        let mut world = world(egress);
        for vm in ["vm_a", "vm_b", "vm_c", "vm_d"] {
            for gateway in [0, 1] {
                let ends = world.outside6(gateway, (INTERNET6, 9000), (world.vms[vm].address6(), 80));
                let arrival = world.from_outside(gateway, frames::tcp(&ends, Segment::Syn, b""));
                let read = world.at_vm6(vm, &arrival);
                assert_eq!((read.src, read.dst), (INTERNET6, ends.dst), "{vm}");
                assert_eq!(read.ttl, 63, "{vm}: one router");
                let back = world.routed6(vm, INTERNET6, (80, 9000));
                let arrival = world.from_vm(vm, frames::tcp(&back, Segment::SynAck, b""));
                assert_eq!(world.at_uplink6(&arrival).1.src, ends.dst);
            }
        }
        world.assert_conserved();
    }
}

#[test]
fn networks_without_a_way_out_are_not_outside() {
    let mut world = world(Egress::Direct);
    let ends = world.routed6("vm_e", INTERNET6, (4000, 53));
    let arrival = world.from_vm("vm_e", frames::udp(&ends, b""));
    assert!(matches!(arrival, Arrival::Nowhere { verdict: Verdict::Drop(..), .. }), "{arrival:?}");
    let ends = world.outside6(0, (INTERNET6, 53), (world.vms["vm_e"].address6(), 4000));
    let arrival = world.from_outside(0, frames::udp(&ends, b""));
    assert_eq!(arrival, dropped(0, Stage::Dnat, Reason::ExternalDestinationUnknown));
    // An address that stopped being used outside: its sessions end.
    let ends = world.routed6("vm_a", INTERNET6, (4000, 53));
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b""));
    world.at_uplink6(&arrival);
    world.slice.routed_ports.clear();
    world.program();
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b""));
    assert_eq!(arrival, dropped(0, Stage::Classify, Reason::SessionEnded));
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b""));
    assert_eq!(arrival, dropped(0, Stage::Snat, Reason::NotRouted));
    world.assert_conserved();
}

#[test]
fn hosts_are_told_of_neighbours_outside_and_answer_for_what_they_own() {
    let mut world = world(Egress::Direct);
    let owner = (0..2).find(|host| {
        let addresses = &world.hosts[*host].tables.set.external_addresses;
        addresses.iter().any(|(key, address)| key.address == ROUTER6.into() && address.flags != 0)
    });
    let owner = owner.expect("a gateway answers for the router's address");
    let dvr = |host: usize| MacAddr(world.hosts[host].facts.dvr_mac.0);
    let (own, other) = (dvr(owner), dvr(1 - owner));
    for (host, target, answers) in [
        (owner, ROUTER6, Some(own)),
        (1 - owner, ROUTER6, None),
        (owner, link_local(own), Some(own)),
        (1 - owner, link_local(other), Some(other)),
        (owner, world.vms["vm_a"].address6(), None),
    ] {
        let asked = frames::solicitation((GATEWAY_MAC, GATEWAY6), target);
        match (world.from_outside(host, asked.clone()), answers) {
            (Arrival::Uplink { frame, .. }, Some(mac)) => {
                let (said, at, flags) = advertisement(&frame);
                assert_eq!((said, at), (target, Some(mac)));
                assert_eq!(flags & nd::FLAG_SOLICITED, nd::FLAG_SOLICITED);
            }
            (Arrival::Nowhere { verdict: Verdict::Pass, .. }, None) => {}
            (arrival, _) => panic!("{target} at {host}: {arrival:?}"),
        }
    }
    // The neighbour's own word about itself, to the host that asked.
    let message = nd::Message::advertisement(nd::FLAG_SOLICITED, GATEWAY6.octets(), GATEWAY_MAC);
    let said = frames::neighbor_message((GATEWAY_MAC, GATEWAY6), (own, link_local(own)), message);
    world.from_outside(owner, said);
    let events = world.hosts[owner].tables.events.borrow();
    let event = events.last().expect("an event");
    assert_eq!((event.punt, event.address), (Punt::LearnNeighbor as u32, GATEWAY6.into()));
}

#[test]
fn the_next_hop_outside_is_asked_for() {
    let mut world = world(Egress::Direct);
    world.hosts[0].facts.neighbors.clear();
    world.program();
    let ends = world.routed6("vm_a", INTERNET6, (4000, 53));
    let arrival = world.from_vm("vm_a", frames::udp(&ends, b""));
    assert_eq!(arrival, Arrival::Nowhere { host: 0, verdict: Verdict::Punt(Punt::ResolveNeighbor) });
    let events = world.hosts[0].tables.events.borrow();
    assert_eq!(events.last().expect("an event").address, GATEWAY6.into());
}

#[test]
fn hop_limit_and_size_are_told_by_the_agent() {
    let mut world = world(Egress::Direct);
    let ends = world.routed6("vm_a", world.vms["vm_d"].address6(), (4000, 53));
    let punted = |punt| Arrival::Nowhere { host: 0, verdict: Verdict::Punt(punt) };
    assert_eq!(world.from_vm("vm_a", frames::udp_ttl(&ends, b"", 1)), punted(Punt::TtlExceeded));
    let big = frames::udp(&ends, &[0; 1450]);
    assert_eq!(world.from_vm("vm_a", big), punted(Punt::FragmentationNeeded), "nothing is cut");
    let fits = frames::udp(&ends, &[0; 1402]);
    let arrival = world.from_vm("vm_a", fits);
    world.at_vm6("vm_d", &arrival);
    let events = world.hosts[0].tables.events.borrow();
    assert_eq!(events.last().expect("an event").detail, 1450);
}

#[test]
fn errors_reach_the_sender_of_the_packet_they_quote_and_nobody_else() {
    let mut world = world(Egress::Gateway);
    let ends = world.routed6("vm_c", INTERNET6, (4000, 53));
    let arrival = world.from_vm("vm_c", frames::udp(&ends, b"question"));
    let Arrival::Uplink { frame: sent, .. } = arrival else { panic!("{arrival:?}") };
    let hop = Ipv6Addr::new(0x2001, 0xdb8, 0xeeee, 0, 0, 0, 0, 1);
    let error = |quoted: &[u8], to: Ends<Ipv6Addr>| {
        let message = [&[icmp6::TYPE_PACKET_TOO_BIG, 0, 0, 0, 0, 0, 5, 0][..], &quoted[14..]].concat();
        frames::icmp6(&to, 64, &message)
    };
    for gateway in [0, 1] {
        let to = world.outside6(gateway, (hop, 0), (ends.src, 0));
        let arrival = world.from_outside(gateway, error(&sent, to));
        let read = world.at_vm6("vm_c", &arrival);
        assert_eq!((read.src, read.icmp_type), (hop, icmp6::TYPE_PACKET_TOO_BIG));
    }
    let mut other = sent.clone();
    other[54..56].copy_from_slice(&4001u16.to_be_bytes());
    let to = world.outside6(0, (hop, 0), (ends.src, 0));
    let arrival = world.from_outside(0, error(&other, to));
    assert_eq!(arrival, dropped(2, Stage::Dnat, Reason::IcmpErrorNotTranslated));
}

#[test]
fn extension_headers_are_stepped_over_and_fragments_are_not_carried() {
    let mut world = world(Egress::Direct);
    let frame = frames::udp(&world.switched6("vm_a", "vm_b", (4000, 53)), b"datagram");
    let options = [0, 0, 1, 4, 0, 0, 0, 0];
    let long = [0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let atomic = [0, 0, 0, 0, 1, 2, 3, 4];
    for extensions in [
        &[(0, &options[..])][..],
        &[(0, &long), (60, &options)],
        &[(44, &atomic)],
        &[(0, &options), (60, &long), (44, &atomic), (60, &options)],
    ] {
        let frame = frames::with_extensions(&frame, extensions);
        let arrival = world.from_vm("vm_a", frame.clone());
        let Arrival::Port { host: 1, frame: arrived, .. } = arrival else { panic!("{arrival:?}") };
        assert_eq!(arrived, frame);
    }
    assert_eq!(world.hosts[0].tables.sessions.borrow().len(), 1, "the ports are found behind all of them");
    let first = [0, 0, 0, 1, 1, 2, 3, 4];
    let later = [0, 0, 0, 8, 1, 2, 3, 4];
    let many = [(60, &options[..]); 5];
    for (extensions, reason) in [
        (&[(44, &first[..])][..], Reason::Ipv6Fragment),
        (&[(44, &later)], Reason::Ipv6Fragment),
        (&[(43, &options)], Reason::ExtensionHeader),
        (&many, Reason::ExtensionHeader),
    ] {
        let arrival = world.from_vm("vm_a", frames::with_extensions(&frame, extensions));
        assert_eq!(arrival, dropped(0, Stage::Classify, reason));
    }
    let mut long = frames::with_extensions(&frame, &[(60, &options)]);
    long[55] = 200;
    let arrival = world.from_vm("vm_a", long);
    assert_eq!(arrival, dropped(0, Stage::Classify, Reason::MalformedIpv6), "an option beyond the end");
    world.assert_conserved();
}

#[test]
fn a_truncated_packet_is_dropped_at_every_length() {
    let mut world = world(Egress::Direct);
    let frame = frames::tcp(&world.switched6("vm_a", "vm_b", (4000, 53)), Segment::Syn, b"");
    for len in 34..frame.len() {
        let arrival = world.from_vm("vm_a", frame[..len].to_vec());
        let Arrival::Nowhere { verdict: Verdict::Drop(Stage::Classify, _), .. } = arrival else {
            panic!("{len}: {arrival:?}")
        };
    }
}

#[test]
fn groups_are_asked_by_family_and_never_of_neighbour_discovery() {
    let mut world = world(Egress::Direct);
    let refused = dropped(1, Stage::IngressAcl, Reason::NoRule);
    let ends = world.switched6("vm_a", "vm_b", (4000, 53));
    let (udp, ping) = (frames::udp(&ends, b""), frames::echo(&ends, false));
    let udp4 = frames::udp(&world.switched("vm_a", "vm_b", (4000, 53)), b"");
    for (rule, passes) in [
        ("ingress6 udp 53 from any", [true, false, false]),
        ("ingress6 icmp6 128 from any", [false, true, false]),
        ("ingress6 any from 2001:db8:10::/64", [true, true, false]),
        ("ingress6 any from 2001:db8:20::/64", [false, false, false]),
        ("ingress any from any", [false, false, true]),
    ] {
        world.add_group(1, false, &[rule]);
        world.set_groups("vm_b", &[1]);
        world.program();
        for (frame, passes) in [&udp, &ping, &udp4].into_iter().zip(passes) {
            world.hosts.iter().for_each(|host| {
                host.tables.sessions.borrow_mut().clear();
                host.tables.replies.borrow_mut().clear();
            });
            let arrival = world.from_vm("vm_a", frame.clone());
            if passes {
                world.frame_at_vm("vm_b", &arrival);
            } else {
                assert_eq!(arrival, refused, "{rule}: {frame:02x?}");
            }
        }
        let vm_b = world.vms["vm_b"];
        let asked = frames::solicitation((vm_b.mac, vm_b.address6()), address6(1, 1));
        let arrival = world.from_vm("vm_b", asked);
        assert_eq!(world.at_vm6("vm_b", &arrival).icmp_type, icmp6::TYPE_NEIGHBOR_ADVERTISEMENT);
    }
}

#[test]
fn answers_pass_groups_that_let_the_question_out() {
    let mut world = world(Egress::Direct);
    world.add_group(1, true, &["egress6 icmp6 128 to any", "egress6 tcp 80 to any"]);
    world.set_groups("vm_a", &[1]);
    world.program();
    let (there, back) = (world.switched6("vm_a", "vm_b", (7, 7)), world.switched6("vm_b", "vm_a", (7, 7)));
    let stranger = world.from_vm("vm_b", frames::echo(&back, false));
    assert_eq!(stranger, dropped(0, Stage::IngressAcl, Reason::NoRule));
    let arrival = world.from_vm("vm_a", frames::echo(&there, false));
    world.at_vm6("vm_b", &arrival);
    let arrival = world.from_vm("vm_b", frames::echo(&back, true));
    assert_eq!(world.at_vm6("vm_a", &arrival).icmp_type, icmp6::TYPE_ECHO_REPLY);
}
