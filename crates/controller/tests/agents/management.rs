//! Mappings that hosts tell, as RESTCONF shows them.

use crate::common::agent::{Agent, Cluster, until};
use crate::common::world::{World, router_id};
use crate::vpc;
use axum::body::Body;
use axum::http::Request;
use controller::service::{Service, Settings};
use http_body_util::BodyExt;
use model::question::{MappingFilter, MappingRow, Question};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use tower::ServiceExt;

const SNAT: Ipv4Addr = Ipv4Addr::new(172, 22, 7, 27);

fn row(protocol: u8, last: u8, external_port: u16) -> String {
    let internal = SocketAddrV4::new([192, 168, 10, last].into(), 4000);
    let external = SocketAddrV4::new(SNAT, external_port);
    let row = MappingRow { router: router_id("blue"), protocol, internal, external, age_ms: 5 };
    format!("{}\n", serde_json::to_string(&row).unwrap())
}

/// GET by the administrator.
async fn get(cluster: &Cluster, path: &str) -> Value {
    let (store, hub) = (Arc::clone(&cluster.server.store), Arc::clone(&cluster.server.hub));
    let service = Service::new(store, hub, Settings::default(), || 0);
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = api::router(Arc::new(service)).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// Answers the next question for the mappings of `blue`.
async fn answers(agent: &mut Agent, rows: &str) {
    let question = agent.question().await;
    let wanted = Question::Mappings(MappingFilter { router: Some(router_id("blue")) });
    assert_eq!(serde_json::from_slice::<Question>(&question.question).unwrap(), wanted);
    agent.answer(question.number, None, &[rows]).await.unwrap();
}

fn instance_path(world: &World) -> String {
    let number = world.snapshot().routers.get(&router_id("blue")).unwrap().vni;
    format!("/restconf/data/ietf-nat:nat/instances/instance={number}")
}

#[tokio::test]
async fn rfc6888_req10a_mappings_of_vms_are_in_the_table_and_counted() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut first = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let mut second = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    let _has_no_vm = cluster.agent("ahv03", "10.0.0.3", &[]).await;
    for (vm, address, host) in [("vm1", "192.168.10.10", "ahv01"), ("vm2", "192.168.10.11", "ahv02")] {
        world.port(vm, "blue", address, host);
    }
    until(&world.store, "a block each", |store| store.blocks.len() == 2).await;
    let path = instance_path(&world);
    let (one, two, three) = (row(17, 10, 2047), row(6, 10, 2047), row(6, 11, 4096));
    // Of an address that the router no longer has.
    let stale = one.replace("172.22.7.27", "172.22.7.99");
    let of_first = [one, two, stale].concat();
    let (document, ..) =
        tokio::join!(get(&cluster, &path), answers(&mut first, &of_first), answers(&mut second, &three),);
    let nat = &document["ietf-nat:instance"][0];
    let mut entries = nat["mapping-table"]["mapping-entry"].as_array().unwrap().clone();
    entries.sort_by_key(|entry| entry["index"].as_u64());
    let entry = |index: u32, protocol: u8, last: u8, port: u16| {
        json!({
            "index": index, "type": "dynamic-implicit", "transport-protocol": protocol,
            "internal-src-address": format!("192.168.10.{last}/32"),
            "internal-src-port": {"start-port-number": 4000},
            "external-src-address": "172.22.7.27/32", "external-src-port": {"start-port-number": port},
        })
    };
    let first_address = 1 << 18;
    let (tcp, udp) = (first_address | 1 << 16, first_address | 2 << 16);
    let want =
        [entry(tcp | 2047, 6, 10, 2047), entry(tcp | 4096, 6, 11, 4096), entry(udp | 2047, 17, 10, 2047)];
    assert_eq!(entries, want);
    let totals = json!({
        "total-active-subscribers": 2, "total-address-mappings": 2, "total-port-mappings": 3,
        "total-per-protocol": [{"protocol-id": 6, "total": 2}, {"protocol-id": 17, "total": 1}],
    });
    assert_eq!(nat["statistics"]["mappings-statistics"], totals);
    let entry_path = format!("{path}/mapping-table/mapping-entry={}", tcp | 4096);
    let (found, ..) = tokio::join!(
        get(&cluster, &entry_path),
        answers(&mut first, &of_first),
        answers(&mut second, &three)
    );
    assert_eq!(found, json!({"ietf-nat:mapping-entry": [want[1]]}));
}

/// Goal: an answer needs the same memory however many mappings there are. Method: of 3 MB of mappings only some leave
/// the host before anybody reads.
#[tokio::test]
async fn mappings_wait_at_their_host_for_whoever_reads() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    until(&world.store, "a block", |store| store.blocks.len() == 1).await;
    let chunk: String = (0..400).map(|number| row(17, 10, 2048 + number)).collect();
    let chunks = vec![chunk.as_str(); 64];
    let (store, hub) = (Arc::clone(&cluster.server.store), Arc::clone(&cluster.server.hub));
    let service = Service::new(store, hub, Settings::default(), || 0);
    let request =
        Request::get(format!("{}/mapping-table", instance_path(&world))).body(Body::empty()).unwrap();
    let answer = api::router(Arc::new(service)).oneshot(request).await.unwrap();
    let number = agent.question().await.number;
    let told = tokio::spawn(agent.answer(number, None, &chunks));
    // The other stream of the same connection goes on while nobody reads this one.
    world.port("vm2", "blue", "192.168.10.11", "ahv01");
    agent.until("vm2", |slice| slice.ports.len() == 2).await;
    assert!(!told.is_finished(), "3 MB have found a place somewhere");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    told.await.unwrap().unwrap();
    let table: Value = serde_json::from_slice(&body).unwrap();
    let entries = table["ietf-nat:mapping-table"]["mapping-entry"].as_array().unwrap();
    assert_eq!(entries.len(), 64 * 400);
}
