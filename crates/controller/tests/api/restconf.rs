//! RESTCONF with the model `ietf-nat`, where no host is connected; `tests/management` has those that tell mappings.

use crate::common::{Answer, Api, UNKNOWN, text};
use crate::status::put;
use model::resource::PortBlock;
use model::{HostId, NetworkId, RouterId};
use serde_json::{Value, json};

mod schema;

const NAT: &str = "/restconf/data/ietf-nat:nat";

/// A router `blue` that translates, with a floating IP, a forwarded port and a block of 1024 ports.
struct World {
    api: Api,
    router: Value,
    /// Path of its instance.
    instance: String,
}

async fn world() -> World {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.router(&external, &subnet).await;
    let port = async |address: &str| {
        let ips = json!([{"ip_address": address}]);
        api.create("port", json!({"network_id": network["id"], "fixed_ips": ips})).await
    };
    let (web, ssh) = (port("192.168.10.5").await, port("192.168.10.6").await);
    let floating = async |address: &str, port: &Value| {
        let body = json!({
            "floating_network_id": external["id"], "floating_ip_address": address, "port_id": port,
        });
        api.create("floatingip", body).await
    };
    floating("172.22.7.30", &web["id"]).await;
    let forwarded = floating("172.22.7.31", &Value::Null).await;
    let path = format!("/v2.0/floatingips/{}/port_forwardings", text(&forwarded["id"]));
    let body = json!({"port_forwarding": {
        "external_port": 2222, "internal_port": 22, "internal_port_id": ssh["id"],
        "internal_ip_address": "192.168.10.6", "protocol": "tcp",
    }});
    assert_eq!(api.call("POST", &path, body).await.status, 201);
    let gateway = json!({"external_gateway_info": {
        "network_id": external["id"], "nanboku:filtering": "address-dependent",
        "nanboku:untranslated_destinations": ["10.0.0.0/8"], "nanboku:mappings_per_second_max": 100,
    }});
    let router = api.update("router", &router["id"], gateway).await;
    put(&api, block(&external, &router));
    let id: RouterId = text(&router["id"]).parse().unwrap();
    let number = api.store.snapshot().routers.get(&id).unwrap().vni;
    World { api, router, instance: format!("{NAT}/instances/instance={number}") }
}

fn block(external: &Value, router: &Value) -> PortBlock {
    PortBlock {
        external_network: text(&external["id"]).parse::<NetworkId>().unwrap(),
        address: [172, 22, 7, 27].into(),
        first_port: 2048,
        router: text(&router["id"]).parse().unwrap(),
        host: HostId::MAX,
        granted_at_ms: 0,
        retiring_since_ms: None,
    }
}

fn failure(answer: &Answer) -> (u16, &str, &str) {
    let error = &answer.body["ietf-restconf:errors"]["error"][0];
    assert_eq!(answer.headers["content-type"], "application/yang-data+json", "{}", answer.body);
    assert!(error["error-type"].is_string(), "{}", answer.body);
    let word = |name: &str| error[name].as_str().unwrap_or_default();
    (answer.status.as_u16(), word("error-tag"), word("error-message"))
}

#[tokio::test]
async fn rfc6888_req10a_the_nat_is_told_as_its_yang_module_says() {
    let world = world().await;
    let document = world.api.get(NAT).await;
    schema::check(&document["ietf-nat:nat"]);
    let instances = document["ietf-nat:nat"]["instances"]["instance"].as_array().unwrap();
    let [nat] = instances.as_slice() else { panic!("one instance is wanted: {document}") };
    assert_eq!(
        (&nat["name"], &nat["type"], &nat["enable"]),
        (&world.router["id"], &json!("napt44"), &json!(true))
    );
    assert_eq!(nat["nat-pass-through"], json!([{"id": 1, "prefix": "10.0.0.0/8"}]));
    assert_eq!(nat["connection-limits"], json!({"limit-per-subscriber": 100}));
    let policy = &nat["policy"][0];
    for (name, want) in [
        ("external-ip-address-pool", json!([{"pool-id": 1, "external-ip-pool": "172.22.7.27/32"}])),
        ("subscriber-match", json!([{"match-id": 1, "subnet": "192.168.10.0/24"}])),
        ("port-set-restrict", json!({"start-port-number": 1024, "end-port-number": 65535})),
        ("port-allocation-type", json!("port-range-allocation")),
        ("address-allocation-type", json!("paired")),
        ("mapping-type", json!("eim")),
        ("filtering-type", json!("adf")),
        ("port-quota", json!([{"quota-type": 0, "port-limit": 16384}])),
        ("port-set", json!({"port-set-size": 1024, "port-set-timeout": 0})),
    ] {
        assert_eq!(policy[name], want, "{name}");
    }
    let timers = json!({
        "udp-timeout": 300, "tcp-idle-timeout": 7440, "tcp-trans-open-timeout": 240,
        "tcp-trans-close-timeout": 240, "icmp-timeout": 60, "hold-down-timeout": 120,
    });
    assert_eq!(policy["timers"], timers);
    let mut entries = nat["mapping-table"]["mapping-entry"].as_array().unwrap().clone();
    entries.sort_by_key(|entry| entry["external-src-address"].to_string());
    entries.iter_mut().for_each(|entry| drop(entry.as_object_mut().unwrap().remove("index")));
    let want = json!([
        {"type": "static", "internal-src-address": "192.168.10.5/32", "external-src-address": "172.22.7.30/32"},
        {
            "type": "static", "transport-protocol": 6,
            "internal-src-address": "192.168.10.6/32", "internal-src-port": {"start-port-number": 22},
            "external-src-address": "172.22.7.31/32", "external-src-port": {"start-port-number": 2222},
        },
    ]);
    assert_eq!(Value::from(entries), want);
    let pools = &nat["statistics"]["pools-stats"];
    assert_eq!(pools["ports-stats"], json!({"ports-allocated": 1024, "ports-free": 62 * 1024}));
    assert_eq!((&pools["addresses-allocated"], &pools["addresses-free"]), (&json!(1), &json!(0)));
    assert_eq!(nat["statistics"]["discontinuity-time"], "2026-11-22T06:00:00Z");
    // The host with the block does not answer: a total of the others would be wrong.
    assert_eq!(nat["statistics"].get("mappings-statistics"), None);
}

#[tokio::test]
async fn a_client_finds_the_nat_from_the_root_on() {
    let world = world().await;
    let meta = world.api.call("GET", "/.well-known/host-meta", Value::Null).await;
    assert_eq!(meta.headers["content-type"], "application/xrd+xml");
    assert!(text(&meta.body).contains("<Link rel='restconf' href='/restconf'/>"), "{}", meta.body);
    let root = world.api.get("/restconf").await;
    let want = json!({"data": {}, "operations": {}, "yang-library-version": "2016-06-21"});
    assert_eq!(root["ietf-restconf:restconf"], want);
    assert_eq!(world.api.get("/restconf/operations").await, json!({"ietf-restconf:operations": {}}));
    let version = world.api.get("/restconf/yang-library-version").await;
    assert_eq!(version, json!({"ietf-restconf:yang-library-version": "2016-06-21"}));
    let library =
        world.api.get("/restconf/data/ietf-yang-library:modules-state/module=ietf-nat,2019-01-10").await;
    let module = &library["ietf-yang-library:module"][0];
    assert_eq!(module["namespace"], "urn:ietf:params:xml:ns:yang:ietf-nat");
    assert_eq!(module["feature"], json!(["basic-nat44", "napt44"]));
    let state = world.api.get("/restconf/data/ietf-restconf-monitoring:restconf-state/capabilities").await;
    let capabilities = &state["ietf-restconf-monitoring:capabilities"]["capability"];
    assert!(text(&capabilities[0]).contains(":defaults:1.0?basic-mode=explicit"), "{state}");

    let all = world.api.call("GET", "/restconf/data", Value::Null).await;
    let tag = format!("\"{}\"", world.api.store.snapshot().revision);
    assert_eq!(all.headers["etag"], tag.as_str());
    let data = &all.body["ietf-restconf:data"];
    assert_eq!(data["ietf-nat:nat"], world.api.get(NAT).await["ietf-nat:nat"]);
    assert!(data["ietf-yang-library:modules-state"].is_object(), "{data}");
    let head = world.api.call("HEAD", NAT, Value::Null).await;
    assert_eq!((head.status.as_u16(), head.body), (200, Value::Null));
    let options = world.api.call("OPTIONS", NAT, Value::Null).await;
    assert_eq!(
        (options.status.as_u16(), &options.headers["allow"]),
        (200, &"GET, HEAD, OPTIONS".parse().unwrap())
    );
}

#[tokio::test]
async fn every_part_of_an_instance_has_a_path() {
    let World { api, instance, .. } = world().await;
    let one = api.get(&instance).await["ietf-nat:instance"][0].clone();
    let get = async |below: &str| api.get(&format!("{instance}/{below}")).await;
    let policy = &one["policy"][0];
    for (below, name, want) in [
        ("policy=1", "policy", json!([policy])),
        ("ietf-nat:policy=1/timers/udp-timeout", "udp-timeout", json!(300)),
        (
            "policy=1/external-ip-address-pool=1",
            "external-ip-address-pool",
            policy["external-ip-address-pool"].clone(),
        ),
        ("capabilities/nat-flavor=napt44", "nat-flavor", json!(["napt44"])),
        (
            "statistics/pools-stats/per-pool-stats=1",
            "per-pool-stats",
            one["statistics"]["pools-stats"]["per-pool-stats"].clone(),
        ),
        ("mapping-table", "mapping-table", one["mapping-table"].clone()),
        ("mapping-table/mapping-entry=1", "mapping-entry", json!([one["mapping-table"]["mapping-entry"][0]])),
        ("statistics", "statistics", one["statistics"].clone()),
    ] {
        assert_eq!(get(below).await, json!({format!("ietf-nat:{name}"): want}), "{below}");
    }
    let names = async |query: &str| -> Vec<String> {
        let part = api.get(&format!("{instance}?content={query}")).await;
        part["ietf-nat:instance"][0].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(names("nonconfig").await, ["capabilities", "id", "statistics"]);
    assert!(names("config").await.iter().all(|name| name != "statistics" && name != "capabilities"));
    assert_eq!(names("all").await.len(), one.as_object().unwrap().len());
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_the_form_of_rfc_8040() {
    let World { api, instance, .. } = world().await;
    let nat = |below: &str| format!("{NAT}{below}");
    for (method, path, status, tag, message) in [
        ("GET", nat("/nothing"), 404, "invalid-value", "there is no data at"),
        ("GET", nat("/instances/instance=4711"), 404, "invalid-value", "instance=4711"),
        ("GET", nat("/instances/instance"), 400, "missing-attribute", "instance=1"),
        ("GET", format!("{instance}/policy=2"), 404, "invalid-value", "policy=2"),
        (
            "GET",
            format!("{instance}/mapping-table/mapping-entry=9"),
            500,
            "operation-failed",
            "did not answer",
        ),
        (
            "GET",
            format!("{instance}/statistics/mappings-statistics"),
            500,
            "operation-failed",
            "did not answer",
        ),
        ("GET", format!("{instance}/statistics?content=config"), 404, "invalid-value", "statistics"),
        ("GET", nat("?depth=2"), 400, "invalid-value", "'depth' is not supported"),
        ("GET", nat("?fields=instances"), 400, "invalid-value", "'fields' is not supported"),
        ("GET", nat("?content=some"), 400, "invalid-value", "'nonconfig' and not 'some'"),
        ("GET", nat("?content=all&content=all"), 400, "invalid-value", "twice"),
        ("GET", "/restconf/data/nat".to_owned(), 400, "unknown-element", "names no module"),
        ("GET", "/restconf/data/ietf-interfaces:interfaces".to_owned(), 404, "invalid-value", "interfaces"),
        ("GET", "/restconf/nothing".to_owned(), 404, "invalid-value", "not be found"),
        ("POST", "/restconf/data".to_owned(), 405, "operation-not-supported", "not"),
        ("PUT", nat(""), 405, "operation-not-supported", ""),
        ("PATCH", nat(""), 405, "operation-not-supported", ""),
        ("DELETE", instance.clone(), 405, "operation-not-supported", ""),
    ] {
        let answer = api.call(method, &path, Value::Null).await;
        let told = failure(&answer);
        assert_eq!((told.0, told.1), (status, tag), "{method} {path}: {}", answer.body);
        assert!(told.2.contains(message), "{method} {path}: '{}' has no '{message}'", told.2);
        if status == 405 {
            assert_eq!(answer.headers["allow"], "GET, HEAD, OPTIONS", "{method} {path}");
        }
    }
    let xml = axum::http::Request::get(NAT).header("accept", "application/yang-data+xml");
    let answer = api.send(xml.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!((failure(&answer).0, failure(&answer).1), (406, "invalid-value"));
    let callers = Api::with_callers();
    let refused = callers.call_as("", "GET", NAT, Value::Null).await;
    assert_eq!((failure(&refused).0, failure(&refused).1), (401, "access-denied"));
    assert!(refused.headers.contains_key("www-authenticate"));
    let refused = callers.call_as("red/member", "GET", NAT, Value::Null).await;
    assert_eq!((failure(&refused).0, failure(&refused).1), (403, "access-denied"));
    let unknown = api.call("GET", &format!("/v2.0/routers/{UNKNOWN}"), Value::Null).await;
    assert_eq!(unknown.body["NeutronError"]["type"], "RouterNotFound", "elsewhere nothing is different");
}

#[tokio::test]
async fn a_router_without_snat_has_its_floating_ips_and_one_without_a_gateway_is_no_nat() {
    let World { api, router, instance } = world().await;
    let gateway = &router["external_gateway_info"];
    let off = json!({"external_gateway_info": {"network_id": gateway["network_id"], "enable_snat": false}});
    api.update("router", &router["id"], off).await;
    let nat = api.get(&instance).await["ietf-nat:instance"][0].clone();
    schema::check(&json!({"instances": {"instance": [nat]}}));
    assert_eq!(nat["type"], "basic-nat44");
    assert_eq!(nat.get("policy"), None);
    assert_eq!(nat["mapping-table"]["mapping-entry"].as_array().unwrap().len(), 2);
    let empty = Api::new();
    empty.create("router", json!({"name": "inside"})).await;
    assert_eq!(empty.get(NAT).await, json!({"ietf-nat:nat": {"instances": {"instance": []}}}));
}
