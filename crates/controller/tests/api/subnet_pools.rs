//! Subnet pools and address scopes.

use crate::common::{Api, UNKNOWN, refusal, text};
use serde_json::{Value, json};

async fn pool(api: &Api, prefixes: Value, more: Value) -> Value {
    let mut attributes = json!({"name": "site", "prefixes": prefixes});
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    api.create("subnetpool", attributes).await
}

async fn subnet_of(api: &Api, pool: &Value, more: Value) -> Value {
    let network = api.create("network", json!({})).await;
    let mut attributes = json!({"network_id": network["id"], "ip_version": 4, "subnetpool_id": pool["id"]});
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    api.create("subnet", attributes).await
}

#[tokio::test]
async fn a_pool_has_neutrons_defaults_and_as_few_prefixes_as_can_be() {
    let api = Api::new();
    let prefixes = json!(["10.2.0.0/16", "10.0.0.0/17", "10.0.128.0/17"]);
    let made = pool(&api, prefixes, json!({})).await;
    let want = json!({
        "id": made["id"], "name": "site", "description": "", "prefixes": ["10.0.0.0/16", "10.2.0.0/16"],
        "ip_version": 4, "min_prefixlen": 8, "default_prefixlen": 8, "max_prefixlen": 32,
        "default_quota": null, "is_default": false, "address_scope_id": null, "shared": false,
        "project_id": "fake_project_id", "tenant_id": "fake_project_id", "tags": [],
        "created_at": "2026-11-22T06:00:00Z", "updated_at": "2026-11-22T06:00:00Z", "revision_number": 1,
    });
    assert_eq!(made, want);
    let six = pool(&api, json!(["fd00::/48"]), json!({})).await;
    let lens = ["ip_version", "min_prefixlen", "default_prefixlen", "max_prefixlen"].map(|key| &six[key]);
    assert_eq!(lens, [6, 64, 64, 128]);
}

#[tokio::test]
async fn subnets_get_the_lowest_free_prefixes_and_give_them_back() {
    let api = Api::new();
    let own = pool(&api, json!(["10.0.0.0/22"]), json!({"default_prefixlen": "24"})).await;
    let first = subnet_of(&api, &own, json!({})).await;
    let second = subnet_of(&api, &own, json!({"cidr": "10.0.2.0/24"})).await;
    let third = subnet_of(&api, &own, json!({"prefixlen": 25})).await;
    let cidrs = [&first, &second, &third].map(|subnet| text(&subnet["cidr"]).to_owned());
    assert_eq!(cidrs, ["10.0.0.0/24", "10.0.2.0/24", "10.0.1.0/25"]);
    assert_eq!((&first["subnetpool_id"], &first["gateway_ip"]), (&own["id"], &json!("10.0.0.1")));
    api.delete("subnet", &first["id"]).await;
    let again = subnet_of(&api, &own, json!({})).await;
    assert_eq!(again["cidr"], "10.0.0.0/24");
    let last = subnet_of(&api, &own, json!({})).await;
    assert_eq!(last["cidr"], "10.0.3.0/24", "the other half of 10.0.1.0/24 is too small");
}

#[tokio::test]
async fn the_default_pool_is_for_those_that_ask_for_it() {
    let api = Api::new();
    let network = api.create("network", json!({})).await;
    let asked = json!({"network_id": network["id"], "ip_version": 4, "use_default_subnetpool": true});
    let post = |body: &Value| ("POST", "/v2.0/subnets", json!({"subnet": body}));
    api.refuses(&[refusal("none", post(&asked), (400, "BadRequest", "No default subnetpool"))]).await;
    let more = json!({"is_default": true, "default_prefixlen": 26});
    let own = pool(&api, json!(["10.9.0.0/16"]), more).await;
    let subnet = api.create("subnet", asked.clone()).await;
    assert_eq!((&subnet["cidr"], &subnet["subnetpool_id"]), (&json!("10.9.0.0/26"), &own["id"]));
    let second = json!({"subnetpool": {"prefixes": ["10.8.0.0/16"], "is_default": true}});
    let only_one = ("POST", "/v2.0/subnetpools", second);
    let found = api.get("/v2.0/subnetpools?is_default=True").await;
    assert_eq!(found["subnetpools"].as_array().unwrap().len(), 1);
    api.refuses(&[refusal("two", only_one, (400, "InvalidInput", "Only one default"))]).await;
}

#[tokio::test]
async fn wrong_pools_and_wrong_wishes_are_refused() {
    let api = Api::new();
    let own = pool(&api, json!(["10.0.0.0/22"]), json!({"min_prefixlen": 24, "default_quota": 512})).await;
    let taken = subnet_of(&api, &own, json!({})).await;
    let network = api.create("network", json!({})).await;
    let make = |body: Value| ("POST", "/v2.0/subnetpools", json!({"subnetpool": body}));
    let ask = |more: Value| {
        let mut body = json!({"network_id": network["id"], "ip_version": 4, "subnetpool_id": own["id"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("POST", "/v2.0/subnets", json!({"subnet": body}))
    };
    let one = format!("/v2.0/subnetpools/{}", text(&own["id"]));
    let put = |body: Value| ("PUT", one.as_str(), json!({"subnetpool": body}));
    let act = |action: &str, body: Value| ("PUT", format!("{one}/{action}"), body);
    let other = (
        "POST",
        "/v2.0/subnets",
        json!({"subnet": {
        "network_id": taken["network_id"], "ip_version": 4, "cidr": "192.168.0.0/24"}}),
    );
    let unknown = json!({"subnetpool_id": UNKNOWN});
    let both = json!({"cidr": "10.0.1.0/24", "prefixlen": 24});
    let gone = json!({"prefixes": ["10.0.0.0/24"]});
    let (bounds, bad) = ("IllegalSubnetPoolPrefixBounds", "BadRequest");
    api.refuses(&[
        refusal("none", make(json!({"prefixes": []})), (400, "EmptySubnetPoolPrefixList", "Empty")),
        refusal(
            "two",
            make(json!({"prefixes": ["10.0.0.0/8", "fd00::/8"]})),
            (400, "PrefixVersionMismatch", "mix"),
        ),
        refusal("len", make(json!({"prefixes": ["10.0.0.0/8"], "max_prefixlen": 33})), (400, bounds, "33")),
        refusal(
            "min",
            put(json!({"min_prefixlen": 30, "max_prefixlen": 28})),
            (400, bounds, "min_prefixlen=30"),
        ),
        refusal(
            "shrink",
            put(json!({"prefixes": ["10.0.0.0/24"]})),
            (400, "IllegalSubnetPoolPrefixUpdate", "subset"),
        ),
        refusal("scope", put(json!({"address_scope_id": UNKNOWN})), (404, "AddressScopeNotFound", UNKNOWN)),
        refusal(
            "delete",
            ("DELETE", one.as_str(), Value::Null),
            (400, "SubnetPoolDeleteError", "allocations"),
        ),
        refusal("pool", ask(unknown), (404, "SubnetPoolNotFound", UNKNOWN)),
        refusal(
            "version",
            ask(json!({"ip_version": 6})),
            (400, bad, "Cannot allocate IPv6 subnet from IPv4 subnet pool"),
        ),
        refusal("large", ask(json!({"prefixlen": 23})), (400, "MinPrefixSubnetAllocationError", "24")),
        refusal("taken", ask(json!({"cidr": "10.0.0.0/25"})), (409, "SubnetAllocationError", "requested")),
        refusal("outside", ask(json!({"cidr": "10.9.0.0/25"})), (409, "SubnetAllocationError", "requested")),
        refusal("both", ask(both), (400, bad, "together")),
        refusal("affinity", other, (400, "NetworkSubnetPoolAffinityError", "same subnet pool")),
        refusal("used", act("remove_prefixes", gone), (400, "IllegalSubnetPoolPrefixUpdate", "in use")),
        refusal("action", act("shake", json!({})), (404, "HTTPNotFound", "could not be found")),
    ])
    .await;
    subnet_of(&api, &own, json!({})).await;
    api.refuses(&[refusal("quota", ask(json!({})), (409, "SubnetPoolQuotaExceeded", "quota"))]).await;
}

#[tokio::test]
async fn prefixes_come_and_go_and_subnets_that_are_there_join() {
    let api = Api::new();
    let own = pool(&api, json!(["10.0.0.0/24"]), json!({"min_prefixlen": 24})).await;
    let act = async |action: &str, body: Value| {
        let path = format!("/v2.0/subnetpools/{}/{action}", text(&own["id"]));
        let answer = api.call("PUT", &path, body).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
        answer.body["prefixes"].clone()
    };
    let more = act("add_prefixes", json!({"prefixes": ["10.0.1.0/24"]})).await;
    assert_eq!(more, json!(["10.0.0.0/23"]));
    let less = act("remove_prefixes", json!({"prefixes": ["10.0.0.64/26"]})).await;
    assert_eq!(less, json!(["10.0.0.0/26", "10.0.0.128/25", "10.0.1.0/24"]));
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let joined = act("onboard_network_subnets", json!({"network_id": network["id"]})).await;
    assert!(joined.as_array().unwrap().contains(&json!("192.168.10.0/24")), "{joined}");
    let path = format!("/v2.0/subnets/{}", text(&subnet["id"]));
    assert_eq!(api.get(&path).await["subnet"]["subnetpool_id"], own["id"]);
}

#[tokio::test]
async fn pools_of_one_scope_have_no_address_in_common() {
    let api = Api::new();
    let scope = api.create("address_scope", json!({"name": "corp", "ip_version": 4})).await;
    let want = json!({
        "id": scope["id"], "name": "corp", "ip_version": 4, "shared": false,
        "project_id": "fake_project_id", "tenant_id": "fake_project_id",
    });
    assert_eq!(scope, want);
    let within = json!({"address_scope_id": scope["id"]});
    let own = pool(&api, json!(["10.0.0.0/16"]), within.clone()).await;
    let subnet = subnet_of(&api, &own, json!({"prefixlen": 24})).await;
    let network = format!("/v2.0/networks/{}", text(&subnet["network_id"]));
    assert_eq!(api.get(&network).await["network"]["ipv4_address_scope"], scope["id"]);
    let one = format!("/v2.0/address-scopes/{}", text(&scope["id"]));
    let make = |prefix: &str| {
        let body = json!({"prefixes": [prefix], "address_scope_id": scope["id"]});
        ("POST", "/v2.0/subnetpools", json!({"subnetpool": body}))
    };
    let version = "IllegalSubnetPoolIpVersionAssociationToAddressScope";
    api.refuses(&[
        refusal("overlap", make("10.0.5.0/24"), (409, "AddressScopePrefixConflict", "unique")),
        refusal("version", make("fd00::/48"), (400, version, "is not 4")),
        refusal("in use", ("DELETE", one.as_str(), Value::Null), (409, "AddressScopeInUse", "subnet pools")),
    ])
    .await;
    let shared = api.update("address_scope", &scope["id"], json!({"shared": true})).await;
    assert_eq!(shared["shared"], true);
    let back = ("PUT", one.as_str(), json!({"address_scope": {"shared": false}}));
    api.refuses(&[refusal("unshare", back, (400, "AddressScopeUpdateError", "unshared"))]).await;
    api.update("subnetpool", &own["id"], json!({"address_scope_id": null})).await;
    api.delete("address_scope", &scope["id"]).await;
}

#[tokio::test]
async fn pools_of_others_are_there_when_they_are_shared() {
    let api = Api::with_callers();
    let body = json!({"prefixes": ["10.0.0.0/16"], "default_prefixlen": 24});
    let private = api.create_as("a/admin", "subnetpool", body.clone()).await;
    let mut body = body;
    body["shared"] = json!(true);
    let shared = api.create_as("a/admin", "subnetpool", body.clone()).await;
    let network = api.create_as("red/member", "network", json!({})).await;
    let ask =
        |pool: &Value| json!({"network_id": network["id"], "ip_version": 4, "subnetpool_id": pool["id"]});
    let answer = api.call_as("red/member", "POST", "/v2.0/subnets", json!({"subnet": ask(&private)})).await;
    assert_eq!(answer.status, 404, "{}", answer.body);
    let hidden = json!({"subnetpool": {"is_default": true}});
    let path = format!("/v2.0/subnetpools/{}", text(&private["id"]));
    assert_eq!(api.call_as("a/admin", "PUT", &path, hidden).await.status, 200);
    let default = json!({"network_id": network["id"], "ip_version": 4, "use_default_subnetpool": true});
    let answer = api.call_as("red/member", "POST", "/v2.0/subnets", json!({"subnet": default})).await;
    assert_eq!(answer.status, 404, "neither as the default: {}", answer.body);
    let subnet = api.create_as("red/member", "subnet", ask(&shared)).await;
    assert_eq!(subnet["cidr"], "10.0.0.0/24");
    let answer = api.call_as("red/member", "POST", "/v2.0/subnetpools", json!({"subnetpool": body})).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
}
