//! Goal: every MAC and address that the tables know is told once, with where it is and how that is known.
//! Method: the scene's tables, compiled as on a host.

use super::*;
use crate::scene::fixture::{self, scene};

/// Network, VLAN, MAC, where, age and how known.
fn macs(filter: &NetworkFilter) -> Vec<String> {
    let now = Instant::now();
    let row = |row: MacRow| {
        let vlan = row.vlan.map_or("-".to_owned(), |vlan| vlan.to_string());
        let age = row.age_ms.map_or("-".to_owned(), |age| age.to_string());
        format!("{} {vlan} {} | {} | {age} {}", row.network, row.mac, row.location, row.known)
    };
    fdb(&scene(now), filter, now).into_iter().map(row).collect()
}

#[test]
fn macs_are_told_per_network_with_port_host_router_or_uplink() {
    let tap = fixture::port_id(1).link_name();
    let want = [
        format!("blue - fa:16:3e:00:00:01 | port {tap} | - configured"),
        "blue - fa:16:3e:00:00:02 | vtep 10.1.0.2 (ahv02) | - configured".to_owned(),
        "blue - fa:16:3e:00:01:1f | router vpc | - configured".to_owned(),
        "green - fa:16:3e:00:00:03 | vtep 10.1.0.2 (ahv02) | - configured".to_owned(),
        "green - fa:16:3e:00:01:20 | router vpc | - configured".to_owned(),
        "provider 2207 fa:16:3f:00:00:01 | this host, by uplink uplink0 | - this host".to_owned(),
        "provider 2207 02:00:00:00:07:01 | uplink uplink0 | 2000 ARP resolved".to_owned(),
    ];
    assert_eq!(macs(&NetworkFilter::default()), want);
    let only = NetworkFilter { network: Some(fixture::external()) };
    assert_eq!(macs(&only), want[5..]);
}

#[test]
fn addresses_are_told_with_how_they_are_known() {
    let now = Instant::now();
    let rows = neighbors(&scene(now), &NetworkFilter::default(), now);
    let row = |row: &NeighborRow| {
        let mac = row.mac.as_deref().unwrap_or("-");
        format!("{} {} {mac} | {} | {}", row.network, row.address, row.location, row.known)
    };
    let told: Vec<String> = rows.iter().map(row).collect();
    for want in [
        "blue 192.168.10.1 fa:16:3e:00:01:1f | the router | configured",
        "blue 192.168.10.12 fa:16:3e:00:00:02 | vtep 10.1.0.2 (ahv02) | configured",
        "green 192.168.20.21 fa:16:3e:00:00:03 | vtep 10.1.0.2 (ahv02) | configured",
        "provider 172.22.7.1 02:00:00:00:07:01 | uplink uplink0 | ARP resolved",
        "provider 172.22.7.9 - | uplink uplink0 | ARP, not answered",
        "provider 172.22.7.27 fa:16:3f:00:00:01 | SNAT address, answered here | configured",
        "provider 172.22.7.100 fa:16:3f:00:00:01 | floating IP, answered here | configured",
    ] {
        assert_eq!(told.iter().filter(|row| *row == want).count(), 1, "'{want}' in {told:#?}");
    }
    let gateway = rows.iter().find(|row| row.address == fixture::GATEWAY).unwrap();
    assert_eq!((gateway.age_ms, gateway.vlan), (Some(2000), Some(2207)));
    let vm_b = rows.iter().find(|row| row.address == fixture::VM_B).unwrap();
    assert_eq!(vm_b.port_id, Some(fixture::port_id(2)));
}

#[test]
fn a_host_without_tables_tells_nothing() {
    let scene = Scene::default();
    assert_eq!(fdb(&scene, &NetworkFilter::default(), Instant::now()), []);
    assert_eq!(neighbors(&scene, &NetworkFilter::default(), Instant::now()), []);
}

#[test]
fn a_port_is_told_with_its_network_and_counters() {
    let counters = PortCounters { sent_packets: 1, sent_bytes: 2, delivered_packets: 3, delivered_bytes: 4 };
    let rows = ports(&scene(Instant::now()), &BTreeMap::from([(fixture::TAP_A, counters)]));
    let want = PortRow {
        host: "ahv01".to_owned(),
        port_id: Some(fixture::port_id(1)),
        link: fixture::port_id(1).link_name(),
        network: "blue".to_owned(),
        address: Some(fixture::VM_A),
        sent_packets: 1,
        sent_bytes: 2,
        delivered_packets: 3,
        delivered_bytes: 4,
    };
    assert_eq!(rows, [want]);
}
