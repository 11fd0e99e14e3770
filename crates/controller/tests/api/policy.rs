//! Who may do what. Goal: no path and no attribute is open to whom it should not be. Method: three projects (red, blue,
//! admin) whose tokens say themselves who has them; the router's own list of paths is walked.

use crate::common::{Answer, Api, UNKNOWN, text};
use controller::service::Service;
use serde_json::{Value, json};

/// Every path below `/v2.0` with its verbs. A path that is not here fails the test: add it, with what it needs.
const PATHS: &[(&str, &[&str])] = &[
    ("/v2.0/", &["GET"]),
    ("/v2.0/agents", &["GET"]),
    ("/v2.0/agents/{id}", &["GET", "PUT", "DELETE"]),
    ("/v2.0/extensions", &["GET"]),
    ("/v2.0/extensions/{alias}", &["GET"]),
    ("/v2.0/routers/{id}/{action}", &["PUT"]),
    ("/v2.0/floatingips/{id}/port_forwardings", &["GET", "POST"]),
    ("/v2.0/floatingips/{id}/port_forwardings/{forwarding}", &["GET", "PUT", "DELETE"]),
    ("/v2.0/quotas", &["GET"]),
    ("/v2.0/quotas/tenant", &["GET"]),
    ("/v2.0/quotas/project", &["GET"]),
    ("/v2.0/quotas/{id}", &["GET", "PUT", "DELETE"]),
    ("/v2.0/quotas/{id}/default", &["GET"]),
    ("/v2.0/quotas/{id}/details", &["GET"]),
    ("/v2.0/quotas/{id}/details.json", &["GET"]),
    ("/v2.0/network-ip-availabilities", &["GET"]),
    ("/v2.0/network-ip-availabilities/{id}", &["GET"]),
    ("/v2.0/availability_zones", &["GET"]),
    ("/v2.0/service-providers", &["GET"]),
    ("/v2.0/subnetpools/{id}/{action}", &["PUT"]),
    ("/nanboku/v1/capture", &["GET"]),
    ("/nanboku/v1/trace", &["POST"]),
    ("/v2.0/address-scopes", &["GET", "POST"]),
    ("/v2.0/address-scopes/{id}", &["GET", "PUT", "DELETE"]),
    ("/v2.0/address-groups", &["GET", "POST"]),
    ("/v2.0/address-groups/{id}", &["GET", "PUT", "DELETE"]),
    ("/v2.0/address-groups/{id}/{action}", &["PUT"]),
    ("/v2.0/rbac-policies", &["GET", "POST"]),
    ("/v2.0/rbac-policies/{id}", &["GET", "PUT", "DELETE"]),
    ("/v2.0/default-security-group-rules", &["GET", "POST"]),
    ("/v2.0/default-security-group-rules/{id}", &["GET", "DELETE"]),
    ("/v2.0/metering/metering-labels", &["GET", "POST"]),
    ("/v2.0/metering/metering-labels/{id}", &["GET", "DELETE"]),
    ("/v2.0/metering/metering-label-rules", &["GET", "POST"]),
    ("/v2.0/metering/metering-label-rules/{id}", &["GET", "DELETE"]),
    ("/v2.0/security-group-rules", &["GET", "POST"]),
    ("/v2.0/security-group-rules/{id}", &["GET", "DELETE"]),
];
/// What a reader reads of its own project only: refused for another one.
const OWN: [&str; 7] = [
    "/nanboku/v1/capture",
    "/nanboku/v1/trace",
    "/v2.0/quotas",
    "/v2.0/quotas/{id}",
    "/v2.0/quotas/{id}/default",
    "/v2.0/quotas/{id}/details",
    "/v2.0/quotas/{id}/details.json",
];
const TAGGED: [(&str, &str); 7] = [
    ("networks", "network"),
    ("subnets", "subnet"),
    ("ports", "port"),
    ("routers", "router"),
    ("floatingips", "floatingip"),
    ("security-groups", "security_group"),
    ("subnetpools", "subnetpool"),
];
const VERBS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

fn paths() -> Vec<(String, &'static [&'static str])> {
    let mut paths: Vec<(String, &[&str])> =
        PATHS.iter().map(|(path, verbs)| ((*path).to_owned(), *verbs)).collect();
    for (collection, _) in TAGGED {
        paths.push((format!("/v2.0/{collection}"), &["GET", "POST"]));
        paths.push((format!("/v2.0/{collection}/{{id}}"), &["GET", "PUT", "DELETE"]));
        paths.push((format!("/v2.0/{collection}/{{id}}/tags"), &["GET", "PUT", "DELETE"]));
        paths.push((format!("/v2.0/{collection}/{{id}}/tags/{{tag}}"), &["GET", "PUT", "DELETE"]));
    }
    paths
}

fn filled(path: &str, id: &str) -> String {
    path.replace("{id}", id)
        .replace("{tag}", "blue")
        .replace("{action}", "add_router_interface")
        .replace("{alias}", "router")
        .replace("{forwarding}", UNKNOWN)
        .replace("{*path}", "ietf-nat:nat")
}

/// What makes a refusal known: in RESTCONF it has another form.
fn kind(answer: &Answer) -> &str {
    let restconf = &answer.body["ietf-restconf:errors"]["error"][0]["error-tag"];
    match restconf.as_str() {
        Some("access-denied") if answer.status == 403 => "PolicyNotAuthorized",
        other => other.or(answer.body["NeutronError"]["type"].as_str()).unwrap_or_default(),
    }
}

#[tokio::test]
async fn every_path_asks_who_is_there() {
    let api = Api::with_callers();
    let known = paths();
    for path in api::paths::<Service>() {
        if matches!(path.as_str(), "/" | "/v2.0" | "/.well-known/host-meta") {
            assert_eq!(api.call_as("", "GET", &path, Value::Null).await.status, 200, "{path}");
            continue;
        }
        let verbs = known.iter().find(|(known, _)| *known == path).map(|(_, verbs)| *verbs);
        let views = path.starts_with("/nanboku/v1/") || path.starts_with("/restconf");
        let administrative = views && verbs.is_none();
        assert!(verbs.is_some() || administrative, "{path} has no authorisation test");
        let target = filled(&path, UNKNOWN);
        for verb in VERBS {
            let status = async |token: &str| {
                let answer = api.call_as(token, verb, &target, json!({})).await;
                (answer.status.as_u16(), kind(&answer).to_owned())
            };
            let forbidden = (403, "PolicyNotAuthorized".to_owned());
            let (served, exists) =
                (status("a/admin").await.0 != 405, verbs.map(|verbs| verbs.contains(&verb)));
            assert_eq!(exists.unwrap_or(served), served, "{verb} {path}: served differs from the table");
            assert_eq!(status("").await.0, 401, "{verb} {path} without a token");
            assert_eq!(status("wrong").await.0, 401, "{verb} {path} with a wrong token");
            assert_eq!(status("red/unavailable").await.0, 503, "{verb} {path}");
            assert_eq!(
                status("red/gardener").await,
                forbidden,
                "{verb} {path} with a role that means nothing"
            );
            if administrative {
                assert_eq!(status("red/member").await, forbidden, "{verb} {path} as a member");
            } else if verb != "GET" {
                assert_eq!(status("red/reader").await, forbidden, "{verb} {path} as a reader");
            } else {
                let refused = status("red/reader").await.0 == 403;
                assert_eq!(refused, OWN.contains(&path.as_str()), "{verb} {path} as a reader");
            }
        }
    }
    let answer = api.call_as("", "GET", "/v2.0/networks", Value::Null).await;
    assert_eq!(answer.body["error"]["code"], 401);
    assert!(answer.headers.contains_key("www-authenticate"));
    assert_eq!(api.call_as("", "GET", "/v2.0/nothing", Value::Null).await.status, 401);
    assert_eq!(api.call_as("red/gardener", "GET", "/v2.0/nothing", Value::Null).await.status, 404);
}

/// A VPC of the project red: network, subnet, port, router, floating IP, by collection.
struct Vpc {
    ids: Vec<(&'static str, String)>,
    external: Value,
}

impl Vpc {
    fn id(&self, collection: &str) -> &str {
        self.ids.iter().find(|(name, _)| *name == collection).map(|(_, id)| id.as_str()).unwrap()
    }
}

async fn external(api: &Api) -> Value {
    let network = json!({
        "name": "uplink", "router:external": true, "provider:network_type": "vlan",
        "provider:physical_network": "physnet1", "provider:segmentation_id": 2207,
    });
    let network = api.create_as("a/admin", "network", network).await;
    let subnet = json!({
        "network_id": network["id"], "ip_version": 4, "cidr": "172.22.7.0/24", "enable_dhcp": false,
    });
    api.create_as("a/admin", "subnet", subnet).await;
    network
}

async fn vpc(api: &Api) -> Vpc {
    let external = external(api).await;
    let red = "red/member";
    let network = api.create_as(red, "network", json!({"name": "red", "shared": false})).await;
    let subnet = json!({"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24"});
    let subnet = api.create_as(red, "subnet", subnet).await;
    let port = api.create_as(red, "port", json!({"network_id": network["id"]})).await;
    let gateway = json!({"external_gateway_info": {"network_id": external["id"]}});
    let router = api.create_as(red, "router", gateway).await;
    let path = format!("/v2.0/routers/{}/add_router_interface", text(&router["id"]));
    let answer = api.call_as(red, "PUT", &path, json!({"subnet_id": subnet["id"]})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let floating = json!({"floating_network_id": external["id"], "port_id": port["id"]});
    let floating = api.create_as(red, "floatingip", floating).await;
    let group = api.create_as(red, "security_group", json!({"name": "web"})).await;
    let pool = api.create_as(red, "subnetpool", json!({"prefixes": ["10.8.0.0/16"]})).await;
    let objects = [network, subnet, port, router, floating, group, pool];
    let ids = TAGGED.iter().zip(objects).map(|((collection, name), object)| {
        assert_eq!(object["project_id"], "red", "{name}");
        (*collection, text(&object["id"]).to_owned())
    });
    Vpc { ids: ids.collect(), external }
}

#[tokio::test]
async fn what_belongs_to_others_is_not_there() {
    let api = Api::with_callers();
    let vpc = vpc(&api).await;
    api.call_as("blue/member", "GET", "/v2.0/security-groups", Value::Null).await;
    let before = api.store.snapshot().revision;
    for (path, verbs) in paths() {
        let Some((collection, name)) =
            TAGGED.iter().find(|(name, _)| path.starts_with(&format!("/v2.0/{name}")))
        else {
            continue;
        };
        for verb in verbs.iter().filter(|verb| **verb != "POST") {
            let body = match path.rsplit('/').next() {
                Some("tags") => json!({"tags": []}),
                Some("{forwarding}") => json!({"port_forwarding": {"description": "mine now"}}),
                _ => json!({*name: {"description": "mine now"}}),
            };
            let target = filled(&path, vpc.id(collection));
            let answer = api.call_as("blue/member", verb, &target, body).await;
            if path.contains("{id}") {
                assert_eq!(answer.status, 404, "{verb} {target}: {}", answer.body);
                continue;
            }
            let list = answer.body[collection.replace('-', "_")].as_array().unwrap().clone();
            let own = list.iter().filter(|object| object["project_id"] == "red").count();
            assert_eq!(own, 0, "{target}: {list:?}");
        }
    }
    assert_eq!(api.store.snapshot().revision, before, "nothing changed");
    for (collection, _) in TAGGED {
        let path = format!("/v2.0/{collection}/{}", vpc.id(collection));
        for token in ["red/reader", "red/member", "blue/admin"] {
            assert_eq!(api.call_as(token, "GET", &path, Value::Null).await.status, 200, "{token} {path}");
        }
        let answer = api.call_as("red/reader", "DELETE", &path, Value::Null).await;
        assert_eq!(kind(&answer), "PolicyNotAuthorized", "{path}");
        let path = format!("/v2.0/{collection}?limit=1");
        let page = api.call_as("red/reader", "GET", &path, Value::Null).await;
        assert_eq!(
            page.body[collection.replace('-', "_")].as_array().unwrap().len(),
            1,
            "a page of what the caller sees"
        );
        let all = api.call_as("blue/admin", "GET", &format!("/v2.0/{collection}"), Value::Null).await;
        assert!(all.body.to_string().contains(vpc.id(collection)), "administrators see all of {collection}");
    }
    for collection in ["floatingips", "routers", "ports", "subnets", "networks"] {
        let path = format!("/v2.0/{collection}/{}", vpc.id(collection));
        if collection == "routers" {
            let body = json!({"subnet_id": vpc.id("subnets")});
            let action = format!("{path}/remove_router_interface");
            assert_eq!(api.call_as("red/member", "PUT", &action, body).await.status, 200);
        }
        let answer = api.call_as("red/member", "DELETE", &path, Value::Null).await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.body);
    }
}

/// Row 14 of the attacks (OSSA-2024-005): tags are checked as what they are on.
#[tokio::test]
async fn lesson_v14_tags_of_others_are_not_read_or_changed() {
    let api = Api::with_callers();
    let vpc = vpc(&api).await;
    for (collection, _) in TAGGED {
        let tags = format!("/v2.0/{collection}/{}/tags", vpc.id(collection));
        let own = format!("{tags}/own");
        assert_eq!(api.call_as("red/member", "PUT", &own, Value::Null).await.status, 201, "{own}");
        for (verb, path, body) in [
            ("GET", &tags, Value::Null),
            ("PUT", &tags, json!({"tags": ["theirs"]})),
            ("DELETE", &tags, Value::Null),
            ("GET", &own, Value::Null),
            ("DELETE", &own, Value::Null),
            ("PUT", &format!("{tags}/theirs"), Value::Null),
        ] {
            let answer = api.call_as("blue/member", verb, path, body.clone()).await;
            assert_eq!(answer.status, 404, "{verb} {path}: {}", answer.body);
            if verb != "GET" {
                let answer = api.call_as("red/reader", verb, path, body).await;
                assert_eq!(kind(&answer), "PolicyNotAuthorized", "{verb} {path}");
            }
        }
        let kept = api.call_as("red/member", "GET", &tags, Value::Null).await;
        assert_eq!(kept.body["tags"], json!(["own"]), "{collection}");
    }
}

#[tokio::test]
async fn some_attributes_are_for_administrators() {
    let api = Api::with_callers();
    let vpc = vpc(&api).await;
    let gateway = |extra: Value| {
        let mut info = json!({"network_id": vpc.external["id"]});
        info.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"external_gateway_info": info})
    };
    let cases = [
        ("network", json!({"shared": true}), "shared"),
        ("network", json!({"router:external": true}), "router:external"),
        ("network", json!({"is_default": true}), "is_default"),
        ("network", json!({"provider:network_type": "vlan"}), "provider:network_type"),
        ("network", json!({"provider:physical_network": "physnet1"}), "provider:physical_network"),
        ("network", json!({"provider:segmentation_id": 7}), "provider:segmentation_id"),
        ("network", json!({"nanboku:egress": "direct"}), "nanboku:egress"),
        ("port", json!({"binding:host_id": "node1"}), "binding:host_id"),
        ("port", json!({"binding:profile": {"a": 1}}), "binding:profile"),
        ("router", gateway(json!({"enable_snat": false})), "external_gateway_info:enable_snat"),
        (
            "router",
            gateway(json!({"nanboku:snat_shared": true})),
            "external_gateway_info:nanboku:snat_shared",
        ),
        (
            "router",
            gateway(json!({"external_fixed_ips": [{"ip_address": "172.22.7.9"}]})),
            "external_gateway_info:external_fixed_ips",
        ),
    ];
    let before = api.store.snapshot().revision;
    for (name, attributes, attribute) in cases {
        let mut created = attributes.clone();
        if name == "port" {
            created["network_id"] = json!(vpc.id("networks"));
        }
        let path = format!("/v2.0/{name}s");
        let answer = api.call_as("red/member", "POST", &path, json!({name: created})).await;
        let want = format!("rule:create_{name}:{attribute} is disallowed by policy");
        assert_eq!(
            (kind(&answer), &answer.body["NeutronError"]["message"]),
            ("PolicyNotAuthorized", &json!(want))
        );
        if attribute.starts_with("provider:") {
            continue;
        }
        let path = format!("{path}/{}", vpc.id(&format!("{name}s")));
        let answer = api.call_as("red/member", "PUT", &path, json!({name: attributes})).await;
        let want = format!("rule:update_{name}:{attribute} is disallowed by policy");
        assert_eq!((answer.status.as_u16(), &answer.body["NeutronError"]["message"]), (403, &json!(want)));
    }
    let address = json!({"floatingip": {"floating_network_id": vpc.external["id"], "floating_ip_address": "172.22.7.9"}});
    let answer = api.call_as("red/member", "POST", "/v2.0/floatingips", address).await;
    assert_eq!(kind(&answer), "PolicyNotAuthorized");
    let elsewhere = json!({"network": {"project_id": "blue"}});
    let answer = api.call_as("red/member", "POST", "/v2.0/networks", elsewhere.clone()).await;
    assert_eq!((answer.status.as_u16(), kind(&answer)), (400, "HTTPBadRequest"));
    assert_eq!(api.store.snapshot().revision, before, "nothing changed");
    let answer = api.call_as("red/admin", "POST", "/v2.0/networks", elsewhere).await;
    assert_eq!(answer.body["network"]["project_id"], "blue", "administrators act for others");
}

#[tokio::test]
async fn members_do_not_see_how_it_is_made() {
    let api = Api::with_callers();
    let vpc = vpc(&api).await;
    let cases = [
        ("networks", vec!["provider:network_type", "provider:physical_network", "provider:segmentation_id"]),
        ("ports", vec!["binding:host_id", "binding:profile", "binding:vif_type", "binding:vif_details"]),
    ];
    for (collection, hidden) in cases {
        let path = format!("/v2.0/{collection}/{}", vpc.id(collection));
        let name = collection.trim_end_matches('s');
        let change = json!({name: {"name": "new"}});
        let answers = [
            api.call_as("red/member", "GET", &path, Value::Null).await.body[name].clone(),
            api.call_as("red/member", "PUT", &path, change).await.body[name].clone(),
            api.call_as("red/member", "GET", &format!("/v2.0/{collection}"), Value::Null).await.body
                [collection][0]
                .clone(),
        ];
        let admin = api.call_as("x/admin", "GET", &path, Value::Null).await.body[name].clone();
        for attribute in hidden {
            assert!(admin.get(attribute).is_some(), "{attribute}");
            for answer in &answers {
                assert!(
                    answer.get("id").is_some() && answer.get(attribute).is_none(),
                    "{attribute}: {answer}"
                );
            }
        }
    }
    let path = "/v2.0/networks?provider:segmentation_id=2207";
    let guess = api.call_as("red/member", "GET", path, Value::Null).await;
    assert_eq!(guess.body["networks"], json!([]), "filters do not tell either");
    let agents = api.call_as("red/member", "GET", "/v2.0/agents", Value::Null).await;
    assert_eq!((agents.status.as_u16(), &agents.body["agents"]), (200, &json!([])));
}

#[tokio::test]
async fn shared_and_external_networks_are_seen_and_used_but_not_changed() {
    let api = Api::with_callers();
    let external = external(&api).await;
    let shared = api.create_as("a/admin", "network", json!({"name": "shared", "shared": true})).await;
    let subnet = json!({"network_id": shared["id"], "ip_version": 4, "cidr": "10.9.0.0/24"});
    let subnet = api.create_as("a/admin", "subnet", subnet).await;
    let red = "red/member";
    for (path, name) in [
        (format!("/v2.0/networks/{}", text(&shared["id"])), "network"),
        (format!("/v2.0/networks/{}", text(&external["id"])), "network"),
        (format!("/v2.0/subnets/{}", text(&subnet["id"])), "subnet"),
    ] {
        assert_eq!(api.call_as(red, "GET", &path, Value::Null).await.status, 200, "{path}");
        for (verb, body) in [("PUT", json!({name: {"name": "x"}})), ("DELETE", Value::Null)] {
            let answer = api.call_as(red, verb, &path, body).await;
            assert_eq!(kind(&answer), "PolicyNotAuthorized", "{verb} {path}");
        }
    }
    let on = |network: &Value, more: Value| {
        let mut port = json!({"network_id": network["id"]});
        port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"port": port})
    };
    let post = async |body: Value| api.call_as(red, "POST", "/v2.0/ports", body).await;
    assert_eq!(post(on(&shared, json!({}))).await.status, 201);
    assert_eq!(post(on(&shared, json!({"fixed_ips": [{"subnet_id": subnet["id"]}]}))).await.status, 201);
    for more in [
        json!({"fixed_ips": [{"ip_address": "10.9.0.7"}]}),
        json!({"mac_address": "fa:16:3e:00:00:01"}),
        json!({"allowed_address_pairs": [{"ip_address": "10.9.0.9"}]}),
        json!({"port_security_enabled": false, "device_id": "x"}),
        json!({"device_owner": "network:dhcp"}),
    ] {
        let answer = post(on(&shared, more.clone())).await;
        assert_eq!(answer.status, 403, "{more}: {}", answer.body);
    }
    assert_eq!(
        kind(&post(on(&external, json!({}))).await),
        "PolicyNotAuthorized",
        "no VM on the provider's VLAN"
    );
    let more = json!({"subnet": {"network_id": shared["id"], "ip_version": 4, "cidr": "10.8.0.0/24"}});
    let answer = api.call_as(red, "POST", "/v2.0/subnets", more).await;
    assert_eq!(kind(&answer), "PolicyNotAuthorized");
    let router = api.create_as(red, "router", json!({"name": "r"})).await;
    let path = format!("/v2.0/routers/{}/add_router_interface", text(&router["id"]));
    let answer = api.call_as(red, "PUT", &path, json!({"subnet_id": subnet["id"]})).await;
    assert_eq!(
        (answer.status.as_u16(), kind(&answer)),
        (400, "BadRequest"),
        "its gateway address is not ours"
    );
}

#[tokio::test]
async fn things_of_others_cannot_be_named() {
    let api = Api::with_callers();
    let vpc = vpc(&api).await;
    let blue = "blue/member";
    let router = api.create_as(blue, "router", json!({"name": "blue"})).await;
    let interface = format!("/v2.0/routers/{}/add_router_interface", text(&router["id"]));
    let own = format!("/v2.0/routers/{}", text(&router["id"]));
    let (network, port, subnet) = (vpc.id("networks"), vpc.id("ports"), vpc.id("subnets"));
    let external = &vpc.external["id"];
    let cases = [
        ("POST", "/v2.0/ports", json!({"port": {"network_id": network}}), "NetworkNotFound"),
        (
            "POST",
            "/v2.0/subnets",
            json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.1.0.0/24"}}),
            "NetworkNotFound",
        ),
        (
            "POST",
            "/v2.0/floatingips",
            json!({"floatingip": {"floating_network_id": external, "port_id": port}}),
            "PortNotFound",
        ),
        (
            "POST",
            "/v2.0/floatingips",
            json!({"floatingip": {"floating_network_id": network}}),
            "NetworkNotFound",
        ),
        (
            "POST",
            "/v2.0/routers",
            json!({"router": {"external_gateway_info": {"network_id": network}}}),
            "NetworkNotFound",
        ),
        (
            "PUT",
            &own,
            json!({"router": {"external_gateway_info": {"network_id": network}}}),
            "NetworkNotFound",
        ),
        ("PUT", &interface, json!({"subnet_id": subnet}), "SubnetNotFound"),
        ("PUT", &interface, json!({"port_id": port}), "PortNotFound"),
    ];
    let before = api.store.snapshot().revision;
    for (verb, path, body, want) in cases {
        let answer = api.call_as(blue, verb, path, body.clone()).await;
        assert_eq!((answer.status.as_u16(), kind(&answer)), (404, want), "{verb} {path} {body}");
    }
    assert_eq!(api.store.snapshot().revision, before, "nothing changed");
}
