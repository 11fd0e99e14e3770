//! Goal: a connection is one row, told by one host, found by every filter that names a part of it.
//! Method: the scene, and sessions as the kernel would hold them.

use super::*;
use crate::scene::fixture::{self, BLUE, EXTERNAL, GREEN, ROUTER, SNAT, VM_A, VM_B, VM_C, scene};
use model::NetworkId;
use std::time::Instant;

fn key(vni: u32, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), protocol: u8) -> SessionKey {
    SessionKey {
        vni,
        src: src.0.into(),
        dst: dst.0.into(),
        src_port: src.1,
        dst_port: dst.1,
        protocol,
        zero: [0; 3],
    }
}

fn session(key: SessionKey, reply: SessionKey, flags: u32) -> SessionRow {
    SessionRow {
        key,
        reply,
        flags,
        created_ns: 1_000_000_000,
        last_ns: 3_000_000_000,
        packets: [2, 1],
        bytes: [120, 60],
        seen: 0x0101,
        router_vni: if flags != 0 { ROUTER } else { 0 },
        external_vni: if flags != 0 { EXTERNAL } else { 0 },
        paths: [Path::default(); 2],
    }
}

/// `vm_a` asks 8.8.8.8 by DNS through the SNAT address.
pub(crate) fn dns() -> SessionRow {
    let outside = Ipv4Addr::new(8, 8, 8, 8);
    let key = key(BLUE, (VM_A, 40000), (outside, 53), ipv4::PROTOCOL_UDP);
    let reply = self::key(EXTERNAL, (outside, 53), (SNAT, 2047), ipv4::PROTOCOL_UDP);
    let forward = Path { output: Path::OUT_UPLINK, ifindex: fixture::UPLINK, vlan: 2207, ..Path::default() };
    let back = Path { output: Path::OUT_PORT, ifindex: fixture::TAP_A, ..Path::default() };
    SessionRow { paths: [forward, back], ..session(key, reply, Session::NAT_SNAT) }
}

/// From one VM to another, as the opener's host (vni of the opener) or the other one sees it.
pub(crate) fn east_west(vni: u32, (src, dst): (Ipv4Addr, Ipv4Addr), routed: bool) -> SessionRow {
    let forward = key(vni, (src, 50000), (dst, 80), ipv4::PROTOCOL_TCP);
    let reply = key(vni, (dst, 80), (src, 50000), ipv4::PROTOCOL_TCP);
    let path = Path { flags: u8::from(routed) * Path::FLAG_ROUTED, ..Path::default() };
    SessionRow { paths: [path; 2], ..session(forward, reply, 0) }
}

fn wanted(session: &SessionRow, filter: &SessionFilter) -> bool {
    let scene = scene(Instant::now());
    is_wanted(session, &Ends::of(session, &scene), filter, &scene)
}

#[test]
fn a_translated_connection_is_one_row_with_both_sides() {
    let scene = scene(Instant::now());
    let session = dns();
    let json =
        serde_json::to_value(row(&session, &Ends::of(&session, &scene), &scene, 4_000_000_000)).unwrap();
    let want = serde_json::json!({
        "id": Id::of(&session).to_string(), "host": "ahv01", "peer_host": "", "network": "blue", "router": "vpc",
        "protocol": "udp", "src": "192.168.10.11:40000", "dst": "8.8.8.8:53",
        "translated_src": "172.22.7.27:2047", "translated_dst": "8.8.8.8:53",
        "src_port_id": fixture::port_id(1), "dst_port_id": null, "nat": "snat", "state": "active",
        "age_ms": 3000, "idle_ms": 1000, "timeout_ms": 300_000,
        "forward_packets": 2, "forward_bytes": 120, "reply_packets": 1, "reply_bytes": 60,
        "forward_output": "uplink uplink0 vlan 2207",
        "reply_output": format!("port {}", fixture::port_id(1).link_name()),
    });
    assert_eq!(json, want);
}

#[test]
fn every_filter_finds_the_connection_by_its_part_alone() {
    let session = dns();
    let address = |text: &str| SessionFilter { address: Some(text.parse().unwrap()), ..Default::default() };
    let default = SessionFilter::default;
    let id = Some(Id::of(&session).to_string());
    for (filter, want) in [
        (default(), true),
        (SessionFilter { protocol: Some(17), ..default() }, true),
        (SessionFilter { protocol: Some(6), ..default() }, false),
        (address("192.168.10.11"), true),
        (address("8.8.8.0/24"), true),
        (address("172.22.7.27:2047"), true),
        (address("172.22.7.27:2048"), false),
        (SessionFilter { state: Some(SessionState::Active), ..default() }, true),
        (SessionFilter { state: Some(SessionState::Established), ..default() }, false),
        (SessionFilter { nat: Some(NatFilter::Snat), ..default() }, true),
        (SessionFilter { nat: Some(NatFilter::Any), ..default() }, true),
        (SessionFilter { nat: Some(NatFilter::Dnat), ..default() }, false),
        (SessionFilter { nat: Some(NatFilter::None), ..default() }, false),
        (SessionFilter { port: Some(fixture::port_id(1)), ..default() }, true),
        (SessionFilter { port: Some(fixture::port_id(2)), ..default() }, false),
        (SessionFilter { router: Some(fixture::router()), ..default() }, true),
        (SessionFilter { network: Some(fixture::blue()), ..default() }, true),
        (SessionFilter { network: Some(fixture::external()), ..default() }, true),
        (SessionFilter { network: Some(NetworkId::from_uuid(fixture::id(99))), ..default() }, false),
        (SessionFilter { outside: Some("172.22.7.27:2047".parse().unwrap()), ..default() }, true),
        (SessionFilter { outside: Some("172.22.7.27:2048".parse().unwrap()), ..default() }, false),
        (SessionFilter { id, ..default() }, true),
        (SessionFilter { id: Some("0123456789abcdef".to_owned()), ..default() }, false),
    ] {
        assert_eq!(wanted(&session, &filter), want, "{filter:?}");
    }
}

#[test]
fn a_connection_between_two_hosts_is_told_by_the_openers() {
    let both = SessionFilter { asked: [fixture::VTEP_1, fixture::VTEP_2].into(), ..Default::default() };
    let alone = SessionFilter { asked: [fixture::VTEP_1].into(), ..Default::default() };
    for (opened_here, session) in [
        (true, east_west(BLUE, (VM_A, VM_B), false)),
        (false, east_west(BLUE, (VM_B, VM_A), false)),
        (true, east_west(BLUE, (VM_A, VM_C), true)),
        // What another host has routed arrives on the network of the destination.
        (false, east_west(BLUE, (VM_C, VM_A), false)),
    ] {
        assert_eq!(wanted(&session, &both), opened_here, "{session:?}");
        assert!(wanted(&session, &alone), "nobody else tells of it");
        let scene = scene(Instant::now());
        let ends = Ends::of(&session, &scene);
        assert_eq!(row(&session, &ends, &scene, 0).peer_host, "ahv02");
    }
}

#[test]
fn a_routed_connection_belongs_to_its_router_though_nothing_is_translated() {
    let filter = SessionFilter { router: Some(fixture::router()), ..Default::default() };
    assert!(wanted(&east_west(BLUE, (VM_A, VM_C), true), &filter));
    assert!(wanted(&east_west(GREEN, (VM_C, VM_A), true), &filter));
    assert!(!wanted(&east_west(BLUE, (VM_A, VM_B), false), &filter), "switched");
}

#[test]
fn ids_differ_when_the_same_endpoints_connect_again() {
    let again = SessionRow { created_ns: 2_000_000_000, ..dns() };
    assert_ne!(Id::of(&dns()), Id::of(&again));
    assert_eq!(Id::of(&dns()).to_string().len(), 16);
}
