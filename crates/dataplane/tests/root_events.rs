//! Events from the programs reach the reader, a port cannot flood it, and there is one reader only.

use dataplane::testrun::{ADDRESS_B, Arrival, TestRun, VM_A, a_to_b, two_ports};
use pipeline::bounds::PUNT_BURST;
use pipeline::{Punt, Reason, Stage, Verdict};
use std::os::fd::AsRawFd;

/// A routed datagram whose TTL runs out: for a router on the VM's own network.
fn expiring() -> (pipeline::table_set::TableSet, Vec<u8>) {
    use packet::MacAddr;
    use pipeline::Address;
    use pipeline::table_set::RoutePrefix;
    use pipeline::tables::*;
    const ROUTER: MacAddr = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 0xff]);
    let mut tables = two_ports(5, 6);
    tables.networks.insert(
        NetworkKey { vni: 100 },
        Network { kind: Network::TENANT, router_vni: 9, mtu: 1450, router_mac: ROUTER, ..Network::default() },
    );
    tables.stations.insert(
        StationKey { vni: 100, mac: ROUTER, zero: 0 },
        Station { kind: Station::ROUTER, id: 9, vtep: Address::ZERO },
    );
    let prefix = RoutePrefix {
        len: RouteKey::lpm_len(Address::v4([10, 0, 0, 0]), 24),
        key: RouteKey::new(9, Address::v4([10, 0, 0, 0])),
    };
    tables.routes.insert(
        prefix,
        Route { kind: Route::CONNECTED, vni: 100, mac: ROUTER, mtu: 1450, ..Route::default() },
    );
    let mut frame = a_to_b(1);
    frame[..6].copy_from_slice(&ROUTER.0);
    frame[22] = 1;
    frame[24..26].copy_from_slice(&[0, 0]);
    let checksum = packet::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    (tables, frame)
}

#[test]
fn an_expired_ttl_is_reported_and_a_flood_is_cut() {
    let (tables, frame) = expiring();
    let mut run = TestRun::open(&tables).unwrap();
    let mut events = run.events().unwrap();
    assert!(events.as_raw_fd() >= 0);
    let arrival = Arrival::Port { ifindex: 5 };
    let outcome = run.run(arrival, &frame).unwrap();
    assert_eq!(outcome.verdict, Verdict::Punt(Punt::TtlExceeded));
    let event = events.next().expect("an event");
    assert_eq!((event.punt, event.ingress, event.vni), (Punt::TtlExceeded as u32, 5, 100));
    assert_eq!(event.frame_len as usize, frame.len());
    assert_eq!(event.packet[..event.packet_len as usize], frame);
    assert_eq!(event.packet[6..12], VM_A.0);
    assert_eq!(event.packet[30..34], ADDRESS_B);
    assert!(events.next().is_none());

    let verdicts: Vec<_> = (0..2 * PUNT_BURST).map(|_| run.run(arrival, &frame).unwrap().verdict).collect();
    let punted = verdicts.iter().filter(|v| **v == Verdict::Punt(Punt::TtlExceeded)).count() as u64;
    assert!((PUNT_BURST - 1..PUNT_BURST + 8).contains(&punted), "{punted}");
    assert_eq!(verdicts.last(), Some(&Verdict::Drop(Stage::Output, Reason::PuntLimited)));
    let other = run.run(Arrival::Port { ifindex: 6 }, &frame).unwrap();
    assert_ne!(other.verdict, Verdict::Drop(Stage::Output, Reason::PuntLimited), "its own bucket");
}

#[test]
fn there_is_one_reader() {
    let mut run = TestRun::open(&two_ports(5, 6)).unwrap();
    let _events = run.events().unwrap();
    assert!(matches!(run.events().unwrap_err(), dataplane::Error::EventsTaken));
}
