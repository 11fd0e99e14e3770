//! Quotas and what else follows from what there is. Goal: nobody gets more than its quota, by whatever way.

use crate::common::{Answer, Api, text};
use serde_json::{Value, json};

fn kind(answer: &Answer) -> &str {
    answer.body["NeutronError"]["type"].as_str().unwrap_or_default()
}

async fn limit(api: &Api, quota: Value) {
    let answer = api.call_as("a/admin", "PUT", "/v2.0/quotas/red", json!({"quota": quota})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_project_gets_what_its_quota_says_and_no_more() {
    let api = Api::with_callers();
    let (red, admin) = ("red/member", "a/admin");
    let external = json!({
        "router:external": true, "provider:network_type": "flat", "provider:physical_network": "physnet1",
    });
    let external = api.create_as(admin, "network", external).await;
    let addresses = json!({"network_id": external["id"], "ip_version": 4, "cidr": "172.22.7.0/24"});
    api.create_as(admin, "subnet", addresses).await;
    limit(&api, json!({"network": 1, "subnet": 1, "port": 2, "router": "1", "floatingip": 1})).await;

    let network = api.create_as(red, "network", json!({"name": "one"})).await;
    let on = |more: Value| {
        let mut body = json!({"network_id": network["id"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let subnet = api.create_as(red, "subnet", on(json!({"ip_version": 4, "cidr": "10.0.0.0/24"}))).await;
    api.create_as(red, "port", on(json!({}))).await;
    let router = api.create_as(red, "router", json!({"name": "one"})).await;
    api.create_as(red, "floatingip", json!({"floating_network_id": external["id"]})).await;
    let port = api.create_as(red, "port", on(json!({}))).await;

    let before = api.store.snapshot().revision;
    let interface = format!("/v2.0/routers/{}/add_router_interface", text(&router["id"]));
    let cases = [
        ("POST", "/v2.0/networks", json!({"network": {}}), "network"),
        ("POST", "/v2.0/networks", json!({"networks": [{}, {}]}), "network"),
        (
            "POST",
            "/v2.0/subnets",
            json!({"subnet": on(json!({"ip_version": 4, "cidr": "10.1.0.0/24"}))}),
            "subnet",
        ),
        ("POST", "/v2.0/ports", json!({"port": on(json!({}))}), "port"),
        ("PUT", &interface, json!({"subnet_id": subnet["id"]}), "port"),
        ("POST", "/v2.0/routers", json!({"router": {}}), "router"),
        (
            "POST",
            "/v2.0/floatingips",
            json!({"floatingip": {"floating_network_id": external["id"]}}),
            "floatingip",
        ),
    ];
    for (verb, path, body, what) in cases {
        let answer = api.call_as(red, verb, path, body).await;
        assert_eq!(
            (answer.status.as_u16(), kind(&answer)),
            (409, "OverQuota"),
            "{verb} {path}: {}",
            answer.body
        );
        let want = format!("Quota exceeded for resources: ['{what}'].");
        assert_eq!(answer.body["NeutronError"]["message"], want);
    }
    let for_red = json!({"network": {"project_id": "red"}});
    let answer = api.call_as(admin, "POST", "/v2.0/networks", for_red).await;
    assert_eq!(kind(&answer), "OverQuota", "also when an administrator makes it for the project");
    assert_eq!(api.store.snapshot().revision, before, "nothing is left of a refusal");

    let path = format!("/v2.0/ports/{}", text(&port["id"]));
    assert_eq!(api.call_as(red, "DELETE", &path, Value::Null).await.status, 204);
    let answer = api.call_as(red, "PUT", &interface, json!({"subnet_id": subnet["id"]})).await;
    assert_eq!(answer.status, 200, "there is room again: {}", answer.body);
}

#[tokio::test]
async fn quotas_are_read_by_their_project_and_set_by_administrators() {
    let api = Api::with_callers();
    let red = async |verb: &str, path: &str, body: Value| api.call_as("red/member", verb, path, body).await;
    let quota = red("GET", "/v2.0/quotas/red", Value::Null).await;
    let defaults = json!({
        "network": 100, "subnet": 100, "port": 500, "router": 10, "floatingip": 50, "subnetpool": -1,
        "security_group": 10, "security_group_rule": 100, "rbac_policy": 10,
    });
    assert_eq!(quota.body, json!({"quota": defaults}));
    assert_eq!(red("GET", "/v2.0/quotas/red/default", Value::Null).await.body, json!({"quota": defaults}));
    let own = red("GET", "/v2.0/quotas/tenant", Value::Null).await;
    assert_eq!(own.body, json!({"tenant": {"tenant_id": "red"}}));
    assert_eq!(kind(&red("GET", "/v2.0/quotas/blue", Value::Null).await), "PolicyNotAuthorized");
    let more = json!({"quota": {"network": 1000}});
    assert_eq!(kind(&red("PUT", "/v2.0/quotas/red", more).await), "PolicyNotAuthorized");
    assert_eq!(kind(&red("DELETE", "/v2.0/quotas/red", Value::Null).await), "PolicyNotAuthorized");

    for name in ["one", "two"] {
        api.create_as("red/member", "network", json!({"name": name})).await;
    }
    let details = red("GET", "/v2.0/quotas/red/details", Value::Null).await;
    assert_eq!(details.body["quota"]["network"], json!({"limit": 100, "used": 2, "reserved": 0}));
    let put =
        async |quota: Value| api.call_as("a/admin", "PUT", "/v2.0/quotas/red", json!({"quota": quota})).await;
    let cases = [
        (json!({"network": 1, "check_limit": true}), "below the 2 that are in use"),
        (json!({"network": "many"}), "'many' is not an integer"),
        (json!({"network": -2}), "'-2' is not between -1 and 2147483647"),
        (json!({"cats": 9}), "Unrecognized attribute(s) 'cats'"),
    ];
    for (quota, want) in cases {
        let answer = put(quota).await;
        let said = answer.body["NeutronError"]["message"].as_str().unwrap();
        assert_eq!(answer.status, 400, "{said}");
        assert!(said.contains(want), "{said}");
    }
    assert_eq!(
        put(json!({"network": 1})).await.body["quota"]["network"],
        1,
        "below what is there: no more come"
    );
    assert_eq!(put(json!({"network": -1})).await.body["quota"]["network"], -1);
    let all = api.call_as("a/admin", "GET", "/v2.0/quotas", Value::Null).await;
    assert_eq!(
        (&all.body["quotas"][0]["project_id"], all.body["quotas"].as_array().unwrap().len()),
        (&json!("red"), 1)
    );
    assert_eq!(api.call_as("a/admin", "DELETE", "/v2.0/quotas/red", Value::Null).await.status, 204);
    assert_eq!(red("GET", "/v2.0/quotas/red", Value::Null).await.body, json!({"quota": defaults}));
}

#[tokio::test]
async fn addresses_left_are_counted_per_network() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "10.0.0.0/24").await;
    api.create("port", json!({"network_id": network["id"]})).await;
    let list = api.get("/v2.0/network-ip-availabilities?ip_version=4").await;
    let view = &list["network_ip_availabilities"][0];
    assert_eq!((&view["total_ips"], &view["used_ips"]), (&json!(253), &json!(1)));
    assert_eq!(view["subnet_ip_availability"][0]["subnet_id"], subnet["id"]);
    let path = format!("/v2.0/network-ip-availabilities/{}", text(&network["id"]));
    assert_eq!(api.get(&path).await["network_ip_availability"], *view);
    let none = api.get("/v2.0/network-ip-availabilities?network_name=red").await;
    assert_eq!(none["network_ip_availabilities"], json!([]));
    let bad = api.call("GET", "/v2.0/network-ip-availabilities?x=1", Value::Null).await;
    assert_eq!(bad.status, 400);
    let providers = api.get("/v2.0/service-providers").await;
    assert_eq!(providers["service_providers"][0]["service_type"], "L3_ROUTER_NAT");
    let members = Api::with_callers();
    members.create_as("red/member", "network", json!({})).await;
    let answer = members.call_as("red/member", "GET", "/v2.0/network-ip-availabilities", Value::Null).await;
    assert_eq!(answer.body["network_ip_availabilities"], json!([]), "for administrators");
}

#[tokio::test]
async fn networks_and_routers_are_in_the_one_zone_there_is() {
    let api = Api::new();
    let zones = api.get("/v2.0/availability_zones?resource=router").await;
    assert_eq!(
        zones["availability_zones"],
        json!([{"name": "nova", "resource": "router", "state": "available"}])
    );
    for alias in ["availability_zone", "network_availability_zone", "router_availability_zone"] {
        assert_eq!(api.get(&format!("/v2.0/extensions/{alias}")).await["extension"]["alias"], alias);
    }
    for kind in ["network", "router"] {
        let made = api.create(kind, json!({"availability_zone_hints": ["nova"]})).await;
        assert_eq!(made["availability_zone_hints"], json!(["nova"]), "{kind}");
        assert_eq!(made["availability_zones"], json!(["nova"]), "{kind}");
        let path = format!("/v2.0/{kind}s");
        for (hints, status, why) in [
            (json!(["mars"]), 404, "AvailabilityZoneNotFound"),
            (json!(["nova", "nova"]), 400, "HTTPBadRequest"),
            (json!("nova"), 400, "HTTPBadRequest"),
        ] {
            let body = json!({kind: {"name": "none", "availability_zone_hints": hints}});
            let answer = api.call("POST", &path, body).await;
            assert_eq!(answer.status, status, "{kind}: {}", answer.body);
            assert_eq!(answer.body["NeutronError"]["type"], why, "{kind}");
        }
        let body = json!({kind: {"availability_zone_hints": []}});
        let answer = api.call("PUT", &format!("{path}/{}", text(&made["id"])), body).await;
        assert_eq!(answer.status, 400, "a hint is for the beginning: {}", answer.body);
        assert_eq!(api.get(&format!("{path}?name=none")).await[format!("{kind}s")], json!([]), "{kind}");
    }
}

#[tokio::test]
async fn the_operator_decides_what_a_project_has_by_default() {
    let api = Api::with_quota_of_ports(1);
    let network = api.create("network", json!({"project_id": "red"})).await;
    let port = json!({"network_id": network["id"], "project_id": "red"});
    api.create("port", port.clone()).await;
    let answer = api.call("POST", "/v2.0/ports", json!({"port": port})).await;
    assert_eq!((answer.status.as_u16(), &answer.body["NeutronError"]["type"]), (409, &json!("OverQuota")));
    let default = api.get("/v2.0/quotas/red/default").await;
    assert_eq!((&default["quota"]["port"], &default["quota"]["network"]), (&json!(1), &json!(100)));
    assert_eq!(api.get("/v2.0/quotas/red").await["quota"]["port"], 1);
}
