//! Goal: what a session did is added to every entry that decided it and to no other; what never did anything is
//! marked. Method: the scene's compiled tables, and sessions as the kernel would hold them.

use super::*;
use crate::scene::fixture::{self, BLUE, TAP_A, UPLINK, VTEP_2, scene};
use crate::sessions::tests::{dns, east_west};
use pipeline::session::Path;
use pipeline::{Address, Ingress};
use std::time::Instant;

/// `vm_a` to 8.8.8.8 through the SNAT address, with the paths it would have.
fn snat() -> SessionRow {
    let session = dns();
    let [forward, reply] = session.paths;
    let gateway = packet::MacAddr(fixture::gateway_mac().0);
    let forward = Path { epoch: 1, ingress: TAP_A, dst_mac: gateway, flags: Path::FLAG_ROUTED, ..forward };
    let vm_a = packet::MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);
    let reply = Path { epoch: 1, ingress: UPLINK, dst_mac: vm_a, flags: Path::FLAG_ROUTED, ..reply };
    let mut reply_key = session.reply;
    reply_key.dst_port = 1030;
    SessionRow { paths: [forward, reply], reply: reply_key, ..session }
}

fn told(sessions: &[(SessionRow, bool)], stage: Option<&str>) -> Vec<FlowRow> {
    let scene = scene(Instant::now());
    let compiled = scene.programmed.as_ref().unwrap();
    let mut ledger = Ledger::default();
    for (session, alive) in sessions {
        ledger.note(session, &compiled.tables, *alive);
    }
    let filter = FlowFilter { stage: stage.map(str::to_owned) };
    rows(&scene, &rules::describe(&scene, compiled), &ledger, &filter, 5_000_000_000)
}

/// Table, rule and numbers of what was hit.
fn hit(rows: &[FlowRow]) -> Vec<(String, [u64; 3])> {
    let hit = rows.iter().filter(|row| row.hits == "hit");
    hit.map(|row| (format!("{} {}", row.table, row.rule), [row.sessions, row.packets, row.bytes])).collect()
}

#[test]
fn a_translated_connection_counts_for_every_entry_on_its_way() {
    let rows = told(&[(snat(), true)], None);
    let tap = fixture::port_id(1).link_name();
    let (both, forward, reply) = ([1, 3, 180], [1, 2, 120], [1, 1, 60]);
    let mut want = vec![
        ("networks blue".to_owned(), forward),
        (format!("ports {tap}"), both),
        ("uplinks uplink0, VLAN 2207".to_owned(), reply),
        (format!("port_addresses {tap}: fa:16:3e:00:00:01 with 192.168.10.11"), forward),
        ("stations fa:16:3e:00:01:1f on blue".to_owned(), forward),
        ("stations fa:16:3e:00:00:01 on blue".to_owned(), reply),
        ("routes 0.0.0.0/0 in router vpc".to_owned(), forward),
        ("external_addresses 172.22.7.27 on provider".to_owned(), both),
        ("own_blocks router vpc slot 0".to_owned(), both),
        ("snat router vpc".to_owned(), both),
        ("externals provider".to_owned(), forward),
        ("neighbors 172.22.7.1 on provider".to_owned(), forward),
        ("neighbors 192.168.10.11 on blue".to_owned(), reply),
        ("networks provider".to_owned(), reply),
    ];
    let mut found = hit(&rows);
    found.sort();
    want.sort();
    assert_eq!(found, want);
    let snat = rows.iter().find(|row| row.table == "snat").unwrap();
    assert_eq!((snat.stage, snat.object_kind, snat.object.as_str()), ("snat", "router", "vpc"));
    assert_eq!((snat.idle_ms, snat.why.is_empty()), (Some(2000), false));
    assert!(rows.iter().all(|row| !row.object_id.is_empty()), "every entry has an origin");
}

#[test]
fn a_connection_that_ended_stays_in_the_sum_and_out_of_the_count_of_those_alive() {
    let rows = told(&[(snat(), true), (snat(), false)], Some("snat"));
    assert!(rows.iter().all(|row| row.stage == "snat"));
    let snat = rows.iter().find(|row| row.table == "snat").unwrap();
    assert_eq!((snat.sessions, snat.packets, snat.bytes), (1, 6, 360));
}

#[test]
fn a_switched_connection_to_another_host_counts_for_station_and_host() {
    let session = east_west(BLUE, (fixture::VM_A, fixture::VM_B), false);
    let vm_b = packet::MacAddr([0xfa, 0x16, 0x3e, 0, 0, 2]);
    let path = Path {
        epoch: 1,
        ingress: TAP_A,
        output: Path::OUT_TUNNEL,
        vni: BLUE,
        vtep: Address::from(VTEP_2),
        dst_mac: vm_b,
        ..Path::default()
    };
    let back = Path { epoch: 1, ingress: Ingress::TUNNEL_ID, output: Path::OUT_PORT, ifindex: TAP_A, ..path };
    let rows = told(&[(SessionRow { paths: [path, back], ..session }, true)], None);
    let hit = hit(&rows);
    let has = |wanted: &str| hit.iter().any(|(rule, _)| rule == wanted);
    assert!(has("stations fa:16:3e:00:00:02 on blue") && has("vteps 10.1.0.2"), "{hit:#?}");
    assert!(!hit.iter().any(|(rule, _)| rule.starts_with("routes") || rule.starts_with("snat")), "{hit:#?}");
}

#[test]
fn what_never_hit_is_marked_and_what_cannot_be_counted_is_not_called_unused() {
    let rows = told(&[], None);
    let hits = |table: &str| rows.iter().find(|row| row.table == table).unwrap().hits;
    assert_eq!((hits("routes"), hits("snat"), hits("port_addresses")), ("never", "never", "never"));
    // This host is a gateway: it forwards for others without sessions.
    assert_eq!((hits("block_owners"), hits("external_addresses")), ("not counted", "not counted"));
}

#[test]
fn the_ledger_forgets_entries_that_are_gone() {
    let scene = scene(Instant::now());
    let compiled = scene.programmed.as_ref().unwrap();
    let mut ledger = Ledger::default();
    ledger.note(&snat(), &compiled.tables, false);
    let before = ledger.0.len();
    let mut described = rules::describe(&scene, compiled);
    described.retain(|rule, _| rule.table != "snat");
    ledger.retain(&described);
    assert_eq!(ledger.0.len(), before - 1);
}
