//! Whatever a client sends is answered with JSON and a status of Neutron's: never with a 500, never by dying,
//! and a refusal changes nothing.

use crate::common::{Api, UNKNOWN};
use api::Resource;
use model::resource::{FloatingIp, Network, Port, Router, Subnet};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const RESOURCES: [&str; 5] = ["network", "subnet", "port", "router", "floatingip"];

/// The resource's own attributes and the standard ones.
fn attributes_of(which: usize) -> Vec<&'static str> {
    let own = match which {
        0 => Network::ATTRIBUTES,
        1 => Subnet::ATTRIBUTES,
        2 => Port::ATTRIBUTES,
        3 => Router::ATTRIBUTES,
        _ => FloatingIp::ATTRIBUTES,
    };
    own.iter().chain(api::attribute::STANDARD).map(|attribute| attribute.name).collect()
}

/// A body that would do, to be spoilt.
fn good(which: usize) -> Value {
    match which {
        1 => json!({"network_id": "NETWORK", "ip_version": 4, "cidr": "10.0.0.0/24"}),
        2 => json!({"network_id": "NETWORK"}),
        4 => json!({"floating_network_id": "EXTERNAL"}),
        _ => json!({}),
    }
}

fn leaf() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "x",
        "True",
        "vlan",
        "geneve",
        "flat",
        "direct",
        "physnet1",
        "10.0.0.0/24",
        "10.0.0.7",
        "0.0.0.0/0",
        "255.255.255.255/32",
        "10.0.0.0/31",
        "::1",
        "fa:16:3e:00:00:01",
        "4",
        "-1",
        "NETWORK",
        "EXTERNAL",
        "SUBNET",
        "PORT",
        UNKNOWN,
    ];
    let numbers = [-1i64, 0, 1, 4, 6, 64, 68, 1450, 4094, 65535, 65536, 16_777_215, i64::MAX, i64::MIN];
    prop_oneof![
        4 => proptest::sample::select(texts.to_vec()).prop_map(Value::from),
        2 => proptest::sample::select(numbers.to_vec()).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!(1.5)),
        1 => ".{0,12}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let keys = [
        "subnet_id",
        "ip_address",
        "network_id",
        "external_fixed_ips",
        "enable_snat",
        "start",
        "end",
        "destination",
        "nexthop",
        "mac_address",
        "x",
    ];
    leaf().prop_recursive(3, 12, 3, move |inner| {
        let object =
            proptest::collection::btree_map(proptest::sample::select(keys.to_vec()), inner.clone(), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|object: BTreeMap<&str, Value>| {
                Value::Object(object.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

/// Which of a resource's attributes, by position, and its value.
fn attributes() -> impl Strategy<Value = Vec<(usize, Value)>> {
    proptest::collection::vec((any::<usize>(), value()), 0..4)
}

/// Puts ids that exist where the generator wrote their names.
fn with_ids(value: Value, ids: &[(&str, Value)]) -> Value {
    match value {
        Value::String(text) => {
            let id = ids.iter().find(|(name, _)| *name == text).map(|(_, id)| id.clone());
            id.unwrap_or(Value::String(text))
        }
        Value::Array(items) => items.into_iter().map(|item| with_ids(item, ids)).collect(),
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(key, item)| (key, with_ids(item, ids))).collect())
        }
        other => other,
    }
}

/// A resource, whether to create it (else change it), and what to spoil.
type Request = (usize, bool, Vec<(usize, Value)>);

async fn throw(requests: Vec<Request>) {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.router(&external, &subnet).await;
    let port = api.create("port", json!({"network_id": network["id"]})).await;
    let floating_ip = api.create("floatingip", json!({"floating_network_id": external["id"]})).await;
    let own = [&network, &subnet, &port, &router, &floating_ip];
    let ids = [
        ("NETWORK", network["id"].clone()),
        ("EXTERNAL", external["id"].clone()),
        ("SUBNET", subnet["id"].clone()),
        ("PORT", port["id"].clone()),
    ];
    for (which, create, attributes) in requests {
        let name = RESOURCES[which];
        let names = attributes_of(which);
        let mut body = if create { good(which) } else { json!({}) };
        for (at, value) in attributes {
            body[names[at % names.len()]] = value;
        }
        let body = json!({name: with_ids(body, &ids)});
        let collection = format!("/v2.0/{name}s");
        let one = format!("{collection}/{}", own[which]["id"].as_str().unwrap());
        let before = api.store.snapshot().revision;
        let (method, path) = if create { ("POST", collection) } else { ("PUT", one) };
        let answer = api.call(method, &path, body.clone()).await;
        let status = answer.status.as_u16();
        assert!(matches!(status, 200 | 201 | 400 | 404 | 409), "{method} {path} {body}: {status}");
        assert_eq!(answer.headers["content-type"], "application/json");
        if status >= 400 {
            assert!(answer.body["NeutronError"]["type"].is_string(), "{body}: {}", answer.body);
            assert_eq!(api.store.snapshot().revision, before, "{method} {path} {body}: refused, and changed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_body_makes_the_api_fail(
        requests in proptest::collection::vec((0..RESOURCES.len(), any::<bool>(), attributes()), 1..16),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(throw(requests));
    }

    /// Not even JSON.
    #[test]
    fn no_bytes_make_the_api_fail(bytes in proptest::collection::vec(any::<u8>(), 0..64), query in "[ -~]{0,24}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let api = Api::new();
            let request = axum::http::Request::post("/v2.0/networks").body(axum::body::Body::from(bytes)).unwrap();
            assert_eq!(api.send(request).await.status, 400);
            let path = format!("/v2.0/networks?{query}");
            if let Ok(request) = axum::http::Request::get(&path).body(axum::body::Body::empty()) {
                let answer = api.send(request).await;
                assert!(matches!(answer.status.as_u16(), 200 | 400 | 404), "{path}: {}", answer.status);
            }
        });
    }
}
