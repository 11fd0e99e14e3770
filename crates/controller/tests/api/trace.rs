//! Traces as far as they go without an agent: descriptions that make no sense, and hosts that say nothing.

use crate::common::{Api, NOW, UNKNOWN, refusal};
use model::HostId;
use model::Mac;
use model::resource::Host;
use serde_json::{Value, json};
use store::StoreError;

const PATH: &str = "/nanboku/v1/trace";

/// A host whose agent is not connected.
fn silent_host(api: &Api) {
    let host = Host {
        id: HostId::random(),
        name: "ahv01".to_owned(),
        vtep: [10, 255, 0, 1].into(),
        dvr_mac: Mac([0xfa, 0x16, 0x3f, 0, 0, 1]),
        physical_networks: vec!["physnet1".to_owned()],
        version: "0.1.0".to_owned(),
        created_at: NOW,
        started_at: NOW,
        drained: false,
        description: String::new(),
        live: false,
    };
    let put = |tx: &mut store::Transaction| {
        tx.put(host);
        Ok::<_, StoreError>(())
    };
    api.store.transact(put).unwrap();
}

#[tokio::test]
async fn a_packet_that_cannot_be_is_refused_by_its_field() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    silent_host(&api);
    let port = api.create("port", json!({"network_id": network["id"], "binding:host_id": "ahv01"})).await;
    let from = |fields: Value| {
        let mut body = json!({"from_port": port["id"], "destination_ip": "8.8.8.8"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let bad = |name, body, message| refusal(name, ("POST", PATH, body), (400, "HTTPBadRequest", message));
    api.refuses(&[
        bad(
            "nobody sends",
            json!({"destination_ip": "8.8.8.8"}),
            "exactly one of from_port and from_external",
        ),
        bad("two send", from(json!({"from_external": "x"})), "exactly one of from_port and from_external"),
        bad("an unknown field", from(json!({"tll": 3})), "unknown field `tll`"),
        bad("no receiver", json!({"from_port": port["id"]}), "destination_ip:"),
        bad("TCP to no port", from(json!({"protocol": "tcp"})), "destination_port: TCP needs"),
        bad("a port of ICMP", from(json!({"destination_port": 7})), "destination_port: ICMP has no ports"),
        bad(
            "flags of UDP",
            from(json!({"protocol": "udp", "destination_port": 7, "tcp_flags": "syn"})),
            "tcp_flags:",
        ),
        bad(
            "no such flag",
            from(json!({"protocol": "tcp", "destination_port": 7, "tcp_flags": "sin"})),
            "'sin'",
        ),
        bad("no such protocol", from(json!({"protocol": "sctp"})), "protocol: 'sctp'"),
        bad("too short", from(json!({"length": 20})), "length: 20 bytes are fewer than the 28"),
        bad(
            "two IP versions",
            from(json!({"source_ip": "10.0.0.1", "destination_ip": "2001:db8::8"})),
            "source_ip: 10.0.0.1 and the receiver's 2001:db8::8 are not of one IP version",
        ),
        bad(
            "a sender without such an address",
            from(json!({"destination_ip": "2001:db8::8"})),
            "source_ip: the sender's address is needed: its port has no IPv6 address",
        ),
        bad(
            "IPv6 that must not be fragmented",
            from(json!({"source_ip": "2001:db8::1", "destination_ip": "2001:db8::8", "dont_fragment": true})),
            "dont_fragment: no router fragments IPv6",
        ),
        bad("no MAC", from(json!({"destination_mac": "fa:16"})), "destination_mac:"),
        bad(
            "a tenant's network outside",
            json!({"from_external": "blue"}),
            "from_external: blue is no external",
        ),
    ])
    .await;
    let unknown = json!({"from_port": UNKNOWN, "destination_ip": "8.8.8.8"});
    api.refuses(&[refusal("no such port", ("POST", PATH, unknown), (404, "PortNotFound", UNKNOWN))]).await;
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_named() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    silent_host(&api);
    let port = json!({"network_id": network["id"], "binding:host_id": "ahv01"});
    let port = api.create("port", port).await;
    let body = json!({"from_port": port["id"], "destination_ip": "8.8.8.8"});
    let trace = api.call("POST", PATH, body).await.body["trace"].clone();
    assert_eq!(trace["complete"], false);
    let asked = &trace["forward"]["arp"][0];
    assert_eq!(asked["host"], "ahv01", "{trace:#}");
    assert!(asked["unanswered"].as_str().unwrap().contains("not connected"), "{trace:#}");
}

#[tokio::test]
async fn a_port_that_is_nowhere_sends_nothing() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    let port = api.create("port", json!({"network_id": network["id"]})).await;
    let body = json!({"from_port": port["id"], "destination_ip": "8.8.8.8"});
    let trace = api.call("POST", PATH, body).await.body["trace"].clone();
    let hop = &trace["forward"]["hops"][0]["no_entry"];
    assert_eq!(hop["reason"], "not-bound", "{trace:#}");
    assert_eq!(trace["answer"], Value::Null);
}
