//! Networks.

use crate::common::{Api, UNKNOWN, refusal, text};
use serde_json::{Value, json};

#[tokio::test]
async fn a_network_has_neutrons_defaults() {
    let api = Api::new();
    let network = api.create("network", json!({"name": "blue", "description": "a VPC"})).await;
    let want = json!({
        "id": network["id"], "name": "blue", "description": "a VPC", "status": "ACTIVE",
        "admin_state_up": true, "mtu": 1450, "shared": false, "subnets": [], "router:external": false,
        "is_default": false, "port_security_enabled": true, "availability_zone_hints": [],
        "availability_zones": ["nova"], "ipv4_address_scope": null, "ipv6_address_scope": null,
        "l2_adjacency": true, "provider:network_type": "geneve", "provider:physical_network": null,
        "provider:segmentation_id": 1, "project_id": "fake_project_id", "tenant_id": "fake_project_id",
        "tags": [], "created_at": "2026-11-22T06:00:00Z", "updated_at": "2026-11-22T06:00:00Z",
        "revision_number": 1,
    });
    assert_eq!(network, want);
    let path = format!("/v2.0/networks/{}", text(&network["id"]));
    assert_eq!(api.get(&path).await, json!({"network": want}));
}

#[tokio::test]
async fn an_external_network_shows_its_place_and_how_it_is_used() {
    let api = Api::new();
    let (network, _) = api.external().await;
    assert_eq!(network["provider:network_type"], "vlan");
    assert_eq!(network["provider:physical_network"], "physnet1");
    assert_eq!(network["provider:segmentation_id"], 2207);
    assert_eq!(network["nanboku:egress"], "direct");
    assert_eq!(network["nanboku:block_size"], 1024);
    assert_eq!(network["mtu"], 1500);
    let changed = api.update("network", &network["id"], json!({"nanboku:egress": "gateway"})).await;
    assert_eq!(changed["nanboku:egress"], "gateway");
    let flat = json!({
        "router:external": "True", "provider:network_type": "flat", "provider:physical_network": "physnet1",
        "nanboku:block_size": 64,
    });
    let flat = api.create("network", flat).await;
    assert_eq!((&flat["provider:segmentation_id"], &flat["nanboku:block_size"]), (&Value::Null, &json!(64)));
}

#[tokio::test]
async fn values_come_as_the_command_line_sends_them() {
    let api = Api::new();
    let network = api.create("network", json!({"mtu": "1400", "admin_state_up": "False", "shared": 1})).await;
    assert_eq!((&network["mtu"], &network["admin_state_up"]), (&json!(1400), &json!(false)));
    assert_eq!(network["shared"], json!(true));
    assert_eq!(network["name"], "");
}

#[tokio::test]
async fn several_are_made_at_once_or_none() {
    let api = Api::new();
    let body = json!({"networks": [{"name": "a"}, {"name": "b"}]});
    let answer = api.call("POST", "/v2.0/networks", body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["networks"].as_array().unwrap().len(), 2);
    let twice = json!({"provider:network_type": "geneve", "provider:segmentation_id": 77});
    let body = json!({"networks": [twice, twice]});
    let refused = refusal(
        "the second fails",
        ("POST", "/v2.0/networks", body),
        (409, "TunnelIdInUse", "The tunnel ID 77 is in use"),
    );
    api.refuses(&[refused]).await;
    assert_eq!(api.store.snapshot().networks.len(), 2);
}

#[tokio::test]
async fn wrong_networks_are_refused() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let post = |attributes: Value| ("POST", "/v2.0/networks", json!({"network": attributes}));
    let one = format!("/v2.0/networks/{}", text(&external["id"]));
    let unknown = format!("/v2.0/networks/{UNKNOWN}");
    let bad = "HTTPBadRequest";
    api.refuses(&[
        refusal("unknown attribute", post(json!({"x": 1})), (400, bad, "Unrecognized attribute(s) 'x'")),
        refusal("read-only", post(json!({"id": UNKNOWN})), (400, bad, "Attribute 'id' not allowed in POST")),
        refusal(
            "status",
            post(json!({"status": "UP"})),
            (400, bad, "Attribute 'status' not allowed in POST"),
        ),
        refusal(
            "boolean",
            post(json!({"shared": "maybe"})),
            (400, bad, "Invalid input for shared. Reason: 'maybe' cannot be converted to boolean."),
        ),
        refusal("name", post(json!({"name": 7})), (400, bad, "Invalid input for name. Reason: '7' is not a")),
        refusal(
            "long name",
            post(json!({"name": "x".repeat(256)})),
            (400, bad, "exceeds maximum length of 255"),
        ),
        refusal("mtu", post(json!({"mtu": 67})), (400, bad, "Invalid input for mtu.")),
        refusal("too big", post(json!({"mtu": 1451})), (400, "InvalidInput", "maximum is 1450")),
        refusal("owners", post(json!({"project_id": "a", "tenant_id": "b"})), (400, bad, "do not match")),
        refusal("unknown id", ("GET", &unknown, Value::Null), (404, "NetworkNotFound", UNKNOWN)),
        refusal("a name", ("GET", "/v2.0/networks/blue", Value::Null), (404, "NetworkNotFound", "blue")),
        refusal("delete", ("DELETE", &unknown, Value::Null), (404, "NetworkNotFound", UNKNOWN)),
        refusal("update", ("PUT", &unknown, json!({"network": {}})), (404, "NetworkNotFound", UNKNOWN)),
        refusal(
            "fixed attribute",
            ("PUT", &one, json!({"network": {"id": UNKNOWN}})),
            (400, bad, "Cannot update read-only attribute id"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn places_that_are_wrong_or_taken_are_refused() {
    let api = Api::new();
    api.external().await;
    let post = |attributes: Value| ("POST", "/v2.0/networks", json!({"network": attributes}));
    let vlan = |vlan: Value| {
        json!({
            "router:external": true, "provider:network_type": "vlan",
            "provider:physical_network": "physnet1", "provider:segmentation_id": vlan,
        })
    };
    api.refuses(&[
        refusal("vlan taken", post(vlan(json!(2207))), (409, "VlanIdInUse", "VLAN 2207 on physical network")),
        refusal("vlan 0", post(vlan(json!(0))), (400, "InvalidInput", "segmentation_id out of range")),
        refusal("vlan 4095", post(vlan(json!(4095))), (400, "InvalidInput", "segmentation_id out of range")),
        refusal("vlan missing", post(vlan(Value::Null)), (400, "InvalidInput", "segmentation_id required")),
        refusal(
            "block size",
            post(json!({"nanboku:block_size": 1000})),
            (400, "HTTPBadRequest", "'1000' is not a power of two between 64 and 4096"),
        ),
        refusal(
            "block size of a tenant network",
            post(json!({"nanboku:block_size": 1024})),
            (400, "InvalidInput", "nanboku:block_size is only for networks of type flat and vlan"),
        ),
        refusal(
            "egress inside",
            post(json!({"nanboku:egress": "direct"})),
            (400, "InvalidInput", "nanboku:egress"),
        ),
        refusal(
            "other overlay",
            post(json!({"provider:network_type": "vxlan"})),
            (400, "InvalidInput", "network_type value 'vxlan' not supported"),
        ),
        refusal(
            "provider inside",
            post(json!({"provider:network_type": "flat", "provider:physical_network": "p"})),
            (400, "InvalidInput", "must be router:external"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_network_in_use_stays_and_takes_its_subnets_with_it_when_it_goes() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    let port = api.create("port", json!({"network_id": network["id"]})).await;
    let path = format!("/v2.0/networks/{}", text(&network["id"]));
    let in_use = refusal("in use", ("DELETE", &path, Value::Null), (409, "NetworkInUse", text(&port["id"])));
    api.refuses(&[in_use]).await;
    api.delete("port", &port["id"]).await;
    api.delete("network", &network["id"]).await;
    assert!(api.store.snapshot().subnets.is_empty());
    let gone = refusal("gone", ("DELETE", &path, Value::Null), (404, "NetworkNotFound", ""));
    api.refuses(&[gone]).await;
}

#[tokio::test]
async fn an_external_network_with_a_gateway_stays_external() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let gateway = json!({"network_id": external["id"]});
    api.create("router", json!({"external_gateway_info": gateway})).await;
    let path = format!("/v2.0/networks/{}", text(&external["id"]));
    let body = json!({"network": {"router:external": false}});
    api.refuses(&[refusal("in use", ("PUT", &path, body), (409, "ExternalNetworkInUse", ""))]).await;
}

#[tokio::test]
async fn impossible_block_sizes_are_refused_and_a_size_is_for_ever() {
    let api = Api::new();
    let with_size = |size: Value| {
        let attributes = json!({
            "router:external": true, "provider:network_type": "flat",
            "provider:physical_network": "physnet9", "nanboku:block_size": size,
        });
        ("POST", "/v2.0/networks", json!({"network": attributes}))
    };
    for size in [
        json!(0),
        json!(1),
        json!(32),
        json!(63),
        json!(8192),
        json!(65536),
        json!(-64),
        json!(1.5),
        json!("many"),
        json!([]),
    ] {
        let name = format!("block size {size}");
        api.refuses(&[refusal(&name, with_size(size), (400, "HTTPBadRequest", "nanboku:block_size"))]).await;
    }
    let (method, path, body) = with_size(json!(4096));
    let network = api.call(method, path, body).await.body["network"].clone();
    assert_eq!(network["nanboku:block_size"], 4096);
    let path = format!("/v2.0/networks/{}", text(&network["id"]));
    let change = json!({"network": {"nanboku:block_size": 64}});
    api.refuses(&[refusal("change", ("PUT", &path, change), (400, "HTTPBadRequest", "nanboku:block_size"))])
        .await;
}
