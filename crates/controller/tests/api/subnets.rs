//! Subnets.

use crate::common::{Api, UNKNOWN, refusal, text};
use serde_json::{Value, json};

#[tokio::test]
async fn a_subnet_has_neutrons_defaults_and_its_network_a_new_revision() {
    let api = Api::new();
    let network = api.create("network", json!({"name": "blue"})).await;
    let attributes = json!({"network_id": network["id"], "ip_version": "4", "cidr": "10.45.0.5/24"});
    let subnet = api.create("subnet", attributes).await;
    let want = json!({
        "id": subnet["id"], "name": "", "description": "", "network_id": network["id"], "ip_version": 4,
        "cidr": "10.45.0.0/24", "gateway_ip": "10.45.0.1", "enable_dhcp": true,
        "allocation_pools": [{"start": "10.45.0.2", "end": "10.45.0.254"}], "dns_nameservers": [],
        "host_routes": [], "service_types": [], "subnetpool_id": null, "segment_id": null,
        "ipv6_ra_mode": null, "ipv6_address_mode": null, "shared": false, "router:external": false,
        "project_id": "fake_project_id", "tenant_id": "fake_project_id", "tags": [],
        "created_at": "2026-11-22T06:00:00Z", "updated_at": "2026-11-22T06:00:00Z", "revision_number": 1,
    });
    assert_eq!(subnet, want);
    let network = api.get(&format!("/v2.0/networks/{}", text(&network["id"]))).await;
    assert_eq!(network["network"]["subnets"], json!([subnet["id"]]));
    assert_eq!(network["network"]["revision_number"], 2);
}

#[tokio::test]
async fn pools_leave_the_gateway_out_wherever_it_is() {
    let api = Api::new();
    let table = [
        (
            json!("10.0.0.100"),
            json!([{"start": "10.0.0.1", "end": "10.0.0.99"}, {"start": "10.0.0.101", "end": "10.0.0.254"}]),
        ),
        (json!("10.0.0.254"), json!([{"start": "10.0.0.1", "end": "10.0.0.253"}])),
        (Value::Null, json!([{"start": "10.0.0.1", "end": "10.0.0.254"}])),
        (json!("10.9.9.9"), json!([{"start": "10.0.0.1", "end": "10.0.0.254"}])),
    ];
    for (gateway, pools) in table {
        let network = api.create("network", json!({})).await;
        let attributes = json!({
            "network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24", "gateway_ip": gateway,
        });
        let subnet = api.create("subnet", attributes).await;
        assert_eq!((&subnet["gateway_ip"], &subnet["allocation_pools"]), (&gateway, &pools));
    }
}

#[tokio::test]
async fn lists_keep_their_order_and_can_be_replaced() {
    let api = Api::new();
    let (_, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let change = json!({
        "dns_nameservers": ["8.8.8.8", "1.1.1.1"], "name": "first",
        "host_routes": [{"destination": "10.1.0.0/16", "nexthop": "192.168.10.9"}],
        "allocation_pools": [{"start": "192.168.10.50", "end": "192.168.10.60"}],
    });
    let changed = api.update("subnet", &subnet["id"], change.clone()).await;
    for (key, value) in change.as_object().unwrap() {
        assert_eq!(&changed[key], value);
    }
    assert_eq!(changed["revision_number"], 2);
    let same = api.update("subnet", &subnet["id"], change).await;
    assert_eq!(same["revision_number"], 2, "nothing changed");
}

#[tokio::test]
async fn wrong_subnets_are_refused() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let post = |change: Value| {
        let mut attributes = json!({"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24"});
        attributes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ("POST", "/v2.0/subnets", json!({"subnet": attributes}))
    };
    let one = format!("/v2.0/subnets/{}", text(&subnet["id"]));
    let unknown = format!("/v2.0/subnets/{UNKNOWN}");
    let (bad, input) = ("HTTPBadRequest", "InvalidInput");
    let no_network = json!({"subnet": {"ip_version": 4, "cidr": "10.0.0.0/24"}});
    let no_cidr = json!({"subnet": {"network_id": network["id"], "ip_version": 4}});
    api.refuses(&[
        refusal("unknown network", post(json!({"network_id": UNKNOWN})), (404, "NetworkNotFound", UNKNOWN)),
        refusal(
            "no network",
            ("POST", "/v2.0/subnets", no_network),
            (400, bad, "Failed to parse request. Required attribute 'network_id' not specified"),
        ),
        refusal("no cidr", ("POST", "/v2.0/subnets", no_cidr), (400, "BadRequest", "Bad subnets request")),
        refusal(
            "overlap",
            post(json!({"cidr": "192.168.0.0/16"})),
            (400, input, "overlaps with another subnet"),
        ),
        refusal("inside", post(json!({"cidr": "192.168.10.64/26"})), (400, input, "overlaps")),
        refusal("not a cidr", post(json!({"cidr": "ten"})), (400, bad, "Invalid input for cidr.")),
        refusal("v6 cidr", post(json!({"cidr": "2001:db8::/64"})), (400, input, "ip_version '4'")),
        refusal("v5", post(json!({"ip_version": 5})), (400, bad, "Invalid input for ip_version.")),
        refusal("all", post(json!({"cidr": "0.0.0.0/0"})), (400, input, "0 is not allowed")),
        refusal(
            "/32 with DHCP",
            post(json!({"cidr": "10.0.0.1/32"})),
            (400, input, "incompatible with DHCP"),
        ),
        refusal(
            "other cidr",
            ("PUT", &one, json!({"subnet": {"cidr": "10.0.0.0/8"}})),
            (400, bad, "Cannot update read-only attribute cidr"),
        ),
        refusal("unknown", ("GET", &unknown, Value::Null), (404, "SubnetNotFound", UNKNOWN)),
        refusal("unknown", ("DELETE", &unknown, Value::Null), (404, "SubnetNotFound", UNKNOWN)),
    ])
    .await;
}

#[tokio::test]
async fn wrong_pools_and_gateways_are_refused() {
    let api = Api::new();
    let network = api.create("network", json!({})).await;
    let post = |change: Value| {
        let mut attributes = json!({"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24"});
        attributes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ("POST", "/v2.0/subnets", json!({"subnet": attributes}))
    };
    let pool = |start: &str, end: &str| json!({"start": start, "end": end});
    let (bad, input) = ("HTTPBadRequest", "InvalidInput");
    api.refuses(&[
        refusal(
            "pool outside",
            post(json!({"allocation_pools": [pool("10.0.0.9", "10.0.1.9")]})),
            (400, "OutOfBoundsAllocationPool", "10.0.0.9-10.0.1.9"),
        ),
        refusal(
            "pool upside down",
            post(json!({"allocation_pools": [pool("10.0.0.9", "10.0.0.8")]})),
            (400, "InvalidAllocationPool", "10.0.0.9-10.0.0.8"),
        ),
        refusal(
            "pools overlap",
            post(
                json!({"allocation_pools": [pool("10.0.0.20", "10.0.0.30"), pool("10.0.0.9", "10.0.0.20")]}),
            ),
            (409, "OverlappingAllocationPools", "10.0.0.9-10.0.0.20"),
        ),
        refusal(
            "gateway in a pool",
            post(json!({"allocation_pools": [pool("10.0.0.1", "10.0.0.30")]})),
            (409, "GatewayConflictWithAllocationPools", "10.0.0.1"),
        ),
        refusal(
            "broken pool",
            post(json!({"allocation_pools": [{"start": "10.0.0.1"}]})),
            (400, bad, "Invalid input for allocation_pools."),
        ),
        refusal("gateway", post(json!({"gateway_ip": "10.0.0.255"})), (400, input, "Gateway is not valid")),
        refusal(
            "gateway text",
            post(json!({"gateway_ip": "x"})),
            (400, bad, "Invalid input for gateway_ip."),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_subnet_in_use_stays() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let port = api.create("port", json!({"network_id": network["id"]})).await;
    let router = api.create("router", json!({})).await;
    api.act(&router["id"], "add_router_interface", json!({"subnet_id": subnet["id"]})).await;
    let path = format!("/v2.0/subnets/{}", text(&subnet["id"]));
    let gateway = json!({"subnet": {"gateway_ip": "192.168.10.254"}});
    api.refuses(&[
        refusal(
            "ports",
            ("DELETE", &path, Value::Null),
            (409, "SubnetInUse", "One or more ports have an IP"),
        ),
        refusal("gateway", ("PUT", &path, gateway), (409, "GatewayIpInUse", "192.168.10.1")),
    ])
    .await;
    api.act(&router["id"], "remove_router_interface", json!({"subnet_id": subnet["id"]})).await;
    api.delete("port", &port["id"]).await;
    api.delete("subnet", &subnet["id"]).await;
}
