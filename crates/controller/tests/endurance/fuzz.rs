//! Requests that nobody would write: right in form, wrong in anything else. Made from the tables of attributes, so
//! that a new attribute is part of it at once.
//!
//! `NANBOKU_FUZZ_CASES` says how many; a failure prints the request.

use crate::client::Api;
use crate::{seed, setting};
use api::attribute::STANDARD;
use api::{Attribute, Resource};
use axum::body::Body;
use axum::http::{Method, Request};
use model::metering::{MeteringLabel, MeteringLabelRule};
use model::rbac::RbacPolicy;
use model::resource::{FloatingIp, Network, Port, Router, Subnet};
use model::security::{AddressGroup, SecurityGroup, SecurityGroupRule};
use model::subnet_pool::{AddressScope, SubnetPool};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

/// Memory may grow by so much over a third of the requests, in megabytes: an allocator is not exact.
const GROWTH_MB_MAX: f64 = 8.0;

/// A resource's table.
struct Table {
    name: &'static str,
    /// Of the collection.
    path: &'static str,
    attributes: Vec<&'static Attribute>,
    /// A body that is accepted, with `$` before what stands for an id.
    good: Value,
}

fn table<R: Resource>(good: Value) -> Table {
    let attributes = STANDARD.iter().chain(R::ATTRIBUTES).collect();
    Table { name: R::NAME, path: R::PATH, attributes, good }
}

fn tables() -> Vec<Table> {
    vec![
        table::<Network>(json!({"name": "n"})),
        table::<Subnet>(json!({"network_id": "$network", "ip_version": 4, "cidr": "10.9.0.0/24"})),
        table::<Port>(json!({"network_id": "$network"})),
        table::<Router>(json!({"external_gateway_info": {"network_id": "$external"}})),
        table::<FloatingIp>(json!({"floating_network_id": "$external"})),
        table::<SecurityGroup>(json!({"name": "g"})),
        table::<SecurityGroupRule>(json!({"security_group_id": "$security_group", "direction": "ingress"})),
        table::<AddressGroup>(json!({"addresses": ["10.0.0.0/8"]})),
        table::<SubnetPool>(json!({"name": "p", "prefixes": ["10.64.0.0/16"]})),
        table::<AddressScope>(json!({"name": "s", "ip_version": 4})),
        table::<MeteringLabel>(json!({"name": "m"})),
        table::<MeteringLabelRule>(json!({
            "metering_label_id": "$metering_label", "direction": "egress", "source_ip_prefix": "10.9.0.0/24",
        })),
        table::<RbacPolicy>(json!({
            "object_type": "network", "object_id": "$network", "action": "access_as_shared", "target_tenant": "*",
        })),
    ]
}

const TEXTS: &[&str] = &[
    "",
    " ",
    "0",
    "-1",
    "true",
    "null",
    "4",
    "6",
    "10.0.0.1",
    "10.9.0.7",
    "255.255.255.255",
    "0.0.0.0",
    "224.0.0.1",
    "10.9.0.0/24",
    "0.0.0.0/0",
    "10.9.0.0/33",
    "10.9.0.1/32",
    "10.9.0.0/31",
    "fe80::1",
    "::/0",
    "2001:db8::/64",
    "fa:16:3e:00:00:01",
    "ff:ff:ff:ff:ff:ff",
    "00:00:00:00:00:00",
    "$network",
    "$external",
    "$subnet",
    "$port",
    "$router",
    "$floatingip",
    "deadbeef-dead-4bee-8ade-deadbeefdead",
    "vlan",
    "flat",
    "geneve",
    "physnet1",
    "host",
    "compute:nova",
    "asc",
    "desc",
    "id",
    "name",
    "network_id",
    "ip_address=10.9.0.7",
    "subnet_id=$subnet",
    "a\u{0}b",
    "日本\u{202e}語",
    "'; DROP TABLE ports; --",
    "../../etc/passwd",
    "%00",
    "{}",
    "[]",
    "2026-11-22T06:00:00Z",
];

const KEYS: &[&str] = &[
    "subnet_id",
    "ip_address",
    "start",
    "end",
    "destination",
    "nexthop",
    "network_id",
    "enable_snat",
    "port_id",
    "external_fixed_ips",
    "mac_address",
    "opt_name",
    "opt_value",
    "ip_version",
    "nanboku:filtering",
    "address",
    "nanboku:snat_shared",
    "nanboku:untranslated_destinations",
    "nanboku:ports_per_vm_max",
    "nanboku:port_control",
    "x",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(TEXTS).prop_map(str::to_owned),
        1 => ".{0,40}",
        1 => (1_usize..5000).prop_map(|length| "x".repeat(length)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-2_i64..70_000).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => number,
        6 => text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![4 => prop::sample::select(KEYS).prop_map(str::to_owned), 1 => text()];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key, inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Something to send: a path and a body may hold `$` names.
#[derive(Clone, Debug)]
struct Case {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    body: Value,
}

fn case() -> impl Strategy<Value = Case> {
    let which = 0..tables().len();
    let changes = vec((any::<prop::sample::Index>(), value()), 0..4);
    let query = vec((any::<prop::sample::Index>(), text()), 0..3);
    let kind =
        prop_oneof![6 => Just(0_u8), 3 => Just(1), 2 => Just(2), 2 => Just(3), 1 => Just(4), 1 => Just(5)];
    (kind, which, changes, query, value(), text()).prop_map(|(kind, which, changes, query, odd, word)| {
        let table = &tables()[which];
        let chosen = changes
            .into_iter()
            .map(|(at, value)| (table.attributes[at.index(table.attributes.len())].name.to_owned(), value));
        let one = format!("/v2.0/{}/${}", table.path, table.name);
        let all = format!("/v2.0/{}", table.path);
        let with = |mut body: Map<String, Value>| {
            body.extend(chosen);
            json!({table.name: body})
        };
        let plain = |method, path, body| Case { method, path, query: Vec::new(), body };
        match kind {
            0 => plain("POST", all, with(table.good.as_object().unwrap().clone())),
            1 => plain("PUT", one, with(Map::new())),
            2 => {
                let mut names: Vec<&str> = table.attributes.iter().map(|attribute| attribute.name).collect();
                names.extend([
                    "fields",
                    "sort_key",
                    "sort_dir",
                    "limit",
                    "marker",
                    "page_reverse",
                    "tags-any",
                ]);
                let pair = |(at, value): (prop::sample::Index, String)| {
                    (names[at.index(names.len())].to_owned(), value)
                };
                Case { query: query.into_iter().map(pair).collect(), ..plain("GET", all, Value::Null) }
            }
            3 => plain("DELETE", one, Value::Null),
            4 => {
                let action =
                    ["add_router_interface", "remove_router_interface", "add_extraroutes", "x"][which % 4];
                plain("PUT", format!("/v2.0/routers/$router/{action}"), odd)
            }
            _ => plain("PUT", format!("{one}/tags/{}", encoded(&word)), odd),
        }
    })
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Puts ids of things that are there, now and then, for their names.
struct Ids(Vec<(String, String)>);

impl Ids {
    fn of(api: &Api, external: &Value) -> Self {
        let snapshot = api.store.snapshot();
        let mut ids = vec![("$external".to_owned(), external.as_str().unwrap().to_owned())];
        let mut add = |name: &str, id: Option<String>| ids.extend(id.map(|id| (name.to_owned(), id)));
        // Before those that their names begin with.
        add("$security_group_rule", snapshot.security_group_rules.keys().next().map(ToString::to_string));
        add("$metering_label_rule", snapshot.metering_label_rules.keys().next().map(ToString::to_string));
        add("$metering_label", snapshot.metering_labels.keys().next().map(ToString::to_string));
        add("$security_group", snapshot.security_groups.keys().next().map(ToString::to_string));
        add("$subnetpool", snapshot.subnet_pools.keys().next().map(ToString::to_string));
        add("$address_group", snapshot.address_groups.keys().next().map(ToString::to_string));
        add("$address_scope", snapshot.address_scopes.keys().next().map(ToString::to_string));
        add("$rbac_policy", snapshot.rbac_policies.keys().next().map(ToString::to_string));
        add("$network", snapshot.networks.keys().next_back().map(ToString::to_string));
        add("$subnet", snapshot.subnets.keys().next().map(ToString::to_string));
        add("$port", snapshot.ports.keys().next().map(ToString::to_string));
        add("$router", snapshot.routers.keys().next().map(ToString::to_string));
        add("$floatingip", snapshot.floating_ips.keys().next().map(ToString::to_string));
        Self(ids)
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, id)| text.replace(name.as_str(), id))
    }

    fn request(&self, case: &Case) -> Request<Body> {
        let pairs: Vec<String> =
            case.query.iter().map(|(key, value)| format!("{key}={}", encoded(&self.fill(value)))).collect();
        let path = format!("{}?{}", self.fill(&case.path), pairs.join("&"));
        let body = if case.body.is_null() { String::new() } else { self.fill(&case.body.to_string()) };
        let method = Method::from_bytes(case.method.as_bytes()).unwrap();
        let request = Request::builder().method(method).uri(path).header("host", "x");
        request.header("content-type", "application/json").body(Body::from(body)).unwrap()
    }
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}

/// Resident memory of this process.
fn rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
}

async fn send(api: &Api, external: &Value, case: &Case) {
    let request = Ids::of(api, external).request(case);
    let answer = api.send(request).await;
    assert!(answer.status.as_u16() < 500, "{} {} to {case:?}", answer.status, answer.body);
    if !answer.status.is_success() {
        let error = &answer.body["NeutronError"];
        assert!(error["type"].is_string() && error["message"].is_string(), "{} to {case:?}", answer.body);
    }
}

/// Goal: no request makes the server fault, and none breaks what the store promises. Method: random values for random
/// attributes in bodies that are else accepted, against a store that keeps what they leave.
#[tokio::test]
async fn no_request_is_a_fault_of_the_server() {
    let mut runner = runner(seed());
    let api = Api::new();
    let (external, _) = api.external().await;
    api.tenant("blue", "192.168.10.0/24").await;
    let cases = case();
    for number in 0..setting("NANBOKU_FUZZ_CASES", 3000) {
        let case = cases.new_tree(&mut runner).unwrap().current();
        send(&api, &external["id"], &case).await;
        if number % 500 == 0 {
            assert_eq!(api.store.snapshot().audit(), Vec::<String>::new(), "after {case:?}");
        }
    }
    assert_eq!(api.store.snapshot().audit(), Vec::<String>::new());
    assert!(api.store.snapshot().revision > 200, "most requests were refused: the bodies are too odd");
}

/// Goal: who asks for nonsense for ever costs no memory. Method: the same requests three times over, with a store that
/// holds nothing they could add to.
#[tokio::test]
async fn nonsense_takes_no_memory() {
    let mut runner = runner(seed());
    let api = Api::new();
    let nobody = Value::from("deadbeef-dead-4bee-8ade-deadbeefdead");
    let cases = case();
    let cases: Vec<Case> = std::iter::repeat_with(|| cases.new_tree(&mut runner).unwrap().current())
        .filter(|case| {
            let needs_others = ["subnets", "ports", "floatingips"].map(|path| format!("/v2.0/{path}"));
            // A list of groups begins with the default one.
            !case.path.contains("group") && (case.method != "POST" || needs_others.contains(&case.path))
        })
        .take(1000)
        .collect();
    let mut rss = Vec::new();
    for _ in 0..3 {
        for case in &cases {
            send(&api, &nobody, case).await;
        }
        rss.push(rss_mb());
    }
    assert_eq!(api.store.snapshot().revision, 0, "nothing was added");
    assert!(rss[2] - rss[1] < GROWTH_MB_MAX, "{rss:?}");
}
