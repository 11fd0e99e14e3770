//! Goal: an address of allowed pairs is where it was announced last, by whoever may, with and without a controller.
//! Method: `Bench` of the machine's tests; vm_a and vm_c are here, vm_b on ahv02, a port that is nowhere has the address.

use super::*;
use crate::machine::tests::{Bench, TAP, UPLINK, event, id, link, slice, vm_a};
use model::slice::{AllowedPair, FloatingIp, Host, Port, RoutedAddress, RoutedPort};
use model::{FloatingIpId, RouterId};
use packet::MacAddr;
use pipeline::tables::{ExternalAddressKey, NeighborKey, StationKey};
use pipeline::{Address, Punt};
use proto::controller_message;
use std::net::Ipv6Addr;

const TAP_C: u32 = 12;
const VNI: u32 = 101;
const VIRTUAL: [u8; 4] = [192, 168, 10, 100];
const VTEP_2: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

fn ahv02() -> HostId {
    HostId::from_uuid(id(21))
}

fn port_id(last: u8) -> PortId {
    format!("{last:08x}-0000-4000-8000-000000000001").parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([0xfa, 0x16, 0x3e, 0, 0, last])
}

/// vm_a, vm_b and vm_c may have 192.168.10.100 and 172.16.0.0/16; the floating IP stands for the former.
fn pairs() -> Slice {
    let mut slice = slice();
    let own = slice.ports[&vm_a()].clone();
    slice.hosts.insert(
        ahv02(),
        Host { vtep: VTEP_2, name: "ahv02".to_owned(), ..slice.hosts[&own.host.unwrap()].clone() },
    );
    let pair = |address: &str, mac| AllowedPair { mac, address: address.parse().unwrap() };
    let vrrp: Mac = "00:00:5e:00:01:07".parse().unwrap();
    let allowed_pairs = vec![
        pair("192.168.10.100/32", None),
        pair("192.168.10.100/32", Some(vrrp)),
        pair("172.16.0.0/16", None),
    ];
    let port = |last: u8, host| Port {
        mac: mac(last),
        addresses: vec![Ipv4Addr::new(192, 168, 10, 10 + last).into()],
        host,
        allowed_pairs: allowed_pairs.clone(),
        ..own.clone()
    };
    slice.ports.insert(vm_a(), port(1, own.host));
    slice.ports.insert(port_id(2), port(2, Some(ahv02())));
    slice.ports.insert(port_id(3), port(3, own.host));
    let nowhere =
        Port { addresses: vec![Ipv4Addr::from(VIRTUAL).into()], allowed_pairs: Vec::new(), ..port(9, None) };
    slice.ports.insert(port_id(9), nowhere);
    let (external_network, _) = slice.external_networks.first_key_value().unwrap();
    let floating_ip = FloatingIp {
        external_network: *external_network,
        address: Ipv4Addr::new(172, 22, 7, 30),
        router: RouterId::from_uuid(id(4)),
        port: port_id(9),
        network: own.network,
        fixed_address: VIRTUAL.into(),
        host: None,
    };
    slice.floating_ips.insert(FloatingIpId::from_uuid(id(30)), floating_ip);
    slice
}

fn snapshot(slice: &Slice) -> controller_message::Message {
    controller_message::Message::Snapshot(proto::Snapshot { slice: serde_json::to_vec(slice).unwrap() })
}

fn bench() -> Bench {
    let mut bench = Bench::connected();
    bench.hear(snapshot(&pairs())).unwrap();
    bench.machine.link_present(bench.now, link(TAP, &vm_a().link_name()));
    bench.machine.link_present(bench.now, link(TAP_C, &port_id(3).link_name()));
    bench.program();
    bench.messages();
    bench.machine.tick(bench.now);
    bench
}

fn announcement(ingress: u32, vtep: Ipv4Addr, mac: Mac, ip: [u8; 4]) -> Event {
    let sender = ArpSender { mac: MacAddr(mac.0), ip, vlan: None };
    let frame = arp_announcement(&sender);
    let mut event = event(Punt::AddressAnnounced, ingress, VNI);
    event.vtep = vtep.into();
    event.packet[..frame.len()].copy_from_slice(&frame);
    event.packet_len = frame.len() as u32;
    event
}

fn here(ingress: u32, mac: Mac, ip: [u8; 4]) -> Event {
    announcement(ingress, Ipv4Addr::UNSPECIFIED, mac, ip)
}

/// Takes an event; returns whether the tables changed, where frames went, and what the controller was told.
fn take(bench: &mut Bench, event: &Event) -> (bool, Vec<u32>, Vec<proto::AddressAnnounced>) {
    assert_eq!(bench.machine.event(bench.now, event), None);
    let programmed = bench.program();
    let frames = bench.machine.tick(bench.now).into_iter().map(|frame| frame.ifindex).collect();
    (programmed, frames, told(bench))
}

fn told(bench: &mut Bench) -> Vec<proto::AddressAnnounced> {
    let announced = bench.messages().into_iter().filter_map(|message| match message {
        Message::AddressAnnounced(announced) => Some(announced),
        _ => None,
    });
    announced.collect()
}

/// VMs have IPv6 addresses that move, too.
#[test]
fn an_address_of_ipv6_is_where_it_was_advertised_last() {
    let mut bench = bench();
    let address: Ipv6Addr = "2001:db8:10::100".parse().unwrap();
    let mut slice = pairs();
    let external_network = *slice.external_networks.first_key_value().unwrap().0;
    for last in [1, 2, 3] {
        let port = if last == 1 { vm_a() } else { port_id(last) };
        let pair = AllowedPair { mac: None, address: "2001:db8:10::100/128".parse().unwrap() };
        slice.ports.get_mut(&port).unwrap().allowed_pairs.push(pair);
    }
    let nowhere = slice.ports.get_mut(&port_id(9)).unwrap();
    nowhere.addresses.push(address.into());
    let routed =
        RoutedAddress { external_network, router: RouterId::from_uuid(id(4)), address: address.into() };
    let routed = RoutedPort { network: nowhere.network, host: None, addresses: vec![routed] };
    slice.routed_ports.insert(port_id(9), routed);
    bench.hear(snapshot(&slice)).unwrap();
    bench.program();
    bench.machine.tick(bench.now);
    let advertised = |ingress, mac: Mac| {
        let frame = Speaker { mac: MacAddr(mac.0), vlan: 0 }.move_of(address);
        let mut event = event(Punt::AddressAnnounced, ingress, VNI);
        event.packet[..frame.len()].copy_from_slice(&frame);
        event.packet_len = frame.len() as u32;
        event
    };
    let place = |bench: &Bench| {
        let tables = &bench.machine.programmed().unwrap().compiled.tables;
        let outside = ExternalAddressKey { external_vni: 201, address: address.into() };
        let neighbor = NeighborKey { vni: VNI, address: address.into() };
        let outside = tables.external_addresses.get(&outside).map(|entry| entry.vtep);
        (tables.neighbors.get(&neighbor).map(|neighbor| Mac(neighbor.mac.0)), outside)
    };
    assert_eq!(place(&bench), (Some(mac(9)), None), "nobody has announced it");
    let told = proto::AddressAnnounced {
        port_id: vm_a().to_string(),
        address: address.to_string(),
        mac: mac(1).to_string(),
    };
    let (_, frames, said) = take(&mut bench, &advertised(TAP, mac(1)));
    assert_eq!((frames, said), (vec![TAP_C], vec![told]));
    assert_eq!(place(&bench), (Some(mac(1)), Some(Address::ZERO)), "also for the outside: it is here");
    // Of another host the controller tells.
    let network = slice.ports[&vm_a()].network;
    let id = VirtualAddressId { network, address: address.into() };
    slice.hold(id, Some(VirtualAddress { port: port_id(2), mac: mac(2) }));
    bench.hear(snapshot(&slice)).unwrap();
    bench.program();
    let frames = bench.machine.tick(bench.now).into_iter().map(|frame| frame.ifindex);
    assert_eq!(frames.collect::<Vec<_>>(), [TAP_C, TAP]);
    assert_eq!(place(&bench), (Some(mac(2)), Some(VTEP_2.into())));
    let wrong = advertised(TAP_C, mac(1));
    assert_eq!(take(&mut bench, &wrong), (false, vec![], vec![]), "another's MAC");
}

fn message(port: PortId, mac: Mac, ip: [u8; 4]) -> proto::AddressAnnounced {
    let (port_id, address) = (port.to_string(), Ipv4Addr::from(ip).to_string());
    proto::AddressAnnounced { port_id, address, mac: mac.to_string() }
}

fn neighbor(bench: &Bench, ip: [u8; 4]) -> Option<Mac> {
    let tables = &bench.machine.programmed().unwrap().compiled.tables;
    let key = NeighborKey { vni: VNI, address: Address::v4(ip) };
    tables.neighbors.get(&key).map(|neighbor| Mac(neighbor.mac.0))
}

#[test]
fn an_address_is_where_it_was_announced_last() {
    let mut bench = bench();
    assert_eq!(neighbor(&bench, VIRTUAL), Some(mac(9)), "nobody has announced it");
    let first = take(&mut bench, &here(TAP, mac(1), VIRTUAL));
    let told = vec![UPLINK, UPLINK, TAP_C, TAP_C, Outgoing::UNDERLAY];
    assert_eq!(
        first,
        (true, told, vec![message(vm_a(), mac(1), VIRTUAL)]),
        "also the outside: its floating IP is here"
    );
    assert_eq!(neighbor(&bench, VIRTUAL), Some(mac(1)));
    assert_eq!(take(&mut bench, &here(TAP, mac(1), VIRTUAL)), (false, vec![], vec![]), "no news");

    let elsewhere = announcement(Ingress::TUNNEL_ID, VTEP_2, mac(2), VIRTUAL);
    assert_eq!(take(&mut bench, &elsewhere), (true, vec![TAP_C, TAP_C, TAP, TAP], vec![]));
    assert_eq!(neighbor(&bench, VIRTUAL), Some(mac(2)));
    let tables = &bench.machine.programmed().unwrap().compiled.tables;
    let key = ExternalAddressKey { external_vni: 201, address: Address::v4([172, 22, 7, 30]) };
    assert_eq!(tables.external_addresses[&key].vtep, VTEP_2.into(), "the floating IP went with it");
}

#[test]
fn a_pair_with_a_mac_of_its_own_brings_the_mac_along() {
    let mut bench = bench();
    let vrrp: Mac = "00:00:5e:00:01:07".parse().unwrap();
    let station = StationKey { vni: VNI, mac: MacAddr(vrrp.0), zero: 0 };
    for (ingress, vtep, want) in [
        (TAP, Ipv4Addr::UNSPECIFIED, TAP),
        (Ingress::TUNNEL_ID, VTEP_2, 0),
        (TAP_C, Ipv4Addr::UNSPECIFIED, TAP_C),
    ] {
        assert!(take(&mut bench, &announcement(ingress, vtep, vrrp, VIRTUAL)).0);
        assert_eq!(neighbor(&bench, VIRTUAL), Some(vrrp));
        let tables = &bench.machine.programmed().unwrap().compiled.tables;
        assert_eq!(tables.stations[&station].id, want);
    }
}

#[test]
fn only_what_a_pair_names_is_believed() {
    let mut bench = bench();
    let router = [192, 168, 10, 1];
    for wrong in [
        here(TAP, mac(1), router),
        here(TAP, mac(2), VIRTUAL),
        here(99, mac(1), VIRTUAL),
        announcement(Ingress::TUNNEL_ID, VTEP_2, mac(1), VIRTUAL),
        announcement(Ingress::TUNNEL_ID, Ipv4Addr::new(10, 1, 0, 7), mac(2), VIRTUAL),
    ] {
        assert_eq!(take(&mut bench, &wrong), (false, vec![], vec![]));
    }
    assert_eq!(bench.machine.announcements_refused(), 5);
    // What a pair names and another VM has stays where it is.
    let slice = bench.machine.slice.as_mut().unwrap();
    slice.ports.get_mut(&port_id(2)).unwrap().addresses = vec![Ipv4Addr::new(172, 16, 0, 1).into()];
    take(&mut bench, &here(TAP, mac(1), [172, 16, 0, 1]));
    assert_eq!(neighbor(&bench, [172, 16, 0, 1]), Some(mac(2)));
}

#[test]
fn a_prefix_is_many_addresses_but_not_too_many() {
    let mut bench = bench();
    let count = (0..=255).filter(|last| take(&mut bench, &here(TAP, mac(1), [172, 16, 0, *last])).0).count();
    assert_eq!(count, PER_PORT_MAX);
    let moves = |bench: &mut Bench, count| {
        let to = |turn: u32| {
            if turn.is_multiple_of(2) { here(TAP, mac(1), VIRTUAL) } else { here(TAP_C, mac(3), VIRTUAL) }
        };
        (0..count).filter(|turn| take(bench, &to(*turn)).0).count()
    };
    let mut bench = self::bench();
    assert!(moves(&mut bench, 1000) <= 2 * PER_PORT_MAX, "two that quarrel do not keep the host busy");
    bench.now += MOVE_EVERY * 4;
    assert!(moves(&mut bench, 2) > 0, "and later it goes on");
}

#[test]
fn without_a_controller_it_moves_all_the_same_and_is_told_later() {
    let mut bench = bench();
    bench.machine.disconnected();
    assert_eq!(take(&mut bench, &here(TAP, mac(1), VIRTUAL)).2, vec![]);
    assert_eq!(neighbor(&bench, VIRTUAL), Some(mac(1)));
    // The controller comes back and knows nothing of it.
    bench.machine.connected(bench.now);
    bench.hear(snapshot(&pairs())).unwrap();
    bench.program();
    assert_eq!(neighbor(&bench, VIRTUAL), Some(mac(1)));
    assert_eq!(told(&mut bench), vec![message(vm_a(), mac(1), VIRTUAL)]);
    // It says so itself now, and something new later.
    for last in [1, 2] {
        let port = if last == 1 { vm_a() } else { port_id(2) };
        let mut slice = pairs();
        let id = VirtualAddressId { network: slice.ports[&port].network, address: VIRTUAL.into() };
        slice.virtual_addresses.insert(id, VirtualAddress { port, mac: mac(last) });
        bench.hear(snapshot(&slice)).unwrap();
        bench.program();
        assert_eq!(neighbor(&bench, VIRTUAL), Some(mac(last)));
        assert_eq!(told(&mut bench), vec![]);
    }
}
