//! Bad input about the addresses of external networks: pools, gateways, SNAT addresses.

use crate::common::{Api, refusal, text};
use serde_json::{Value, json};

/// An external network of its own with that subnet.
async fn external(api: &Api, vlan: u16, subnet: Value) -> (Value, Value) {
    let network = json!({
        "router:external": true, "provider:network_type": "vlan", "provider:physical_network": "physnet1",
        "provider:segmentation_id": vlan,
    });
    let network = api.create("network", network).await;
    let mut attributes = json!({"network_id": network["id"], "ip_version": 4, "enable_dhcp": false});
    attributes.as_object_mut().unwrap().extend(subnet.as_object().unwrap().clone());
    let subnet = api.create("subnet", attributes).await;
    (network, subnet)
}

#[tokio::test]
async fn a_pool_without_addresses_gives_none() {
    let api = Api::new();
    let pool = json!([{"start": "203.0.113.5", "end": "203.0.113.5"}]);
    let cases = [
        ("the gateway alone", json!({"cidr": "192.0.2.1/32", "gateway_ip": "192.0.2.1"}), 0),
        ("no pool", json!({"cidr": "198.51.100.0/24", "allocation_pools": []}), 0),
        ("one address", json!({"cidr": "203.0.113.0/24", "allocation_pools": pool}), 1),
        ("two hosts", json!({"cidr": "192.0.2.8/31", "gateway_ip": "192.0.2.8"}), 1),
    ];
    for (vlan, (name, subnet, room)) in (100..).zip(cases) {
        let (network, _) = external(&api, vlan, subnet).await;
        let info = json!({"external_gateway_info": {"network_id": network["id"]}});
        for _ in 0..room {
            api.create("router", info.clone()).await;
        }
        let want = (409, "IpAddressGenerationFailure", text(&network["id"]));
        let floating = json!({"floatingip": {"floating_network_id": network["id"]}});
        api.refuses(&[
            refusal(name, ("POST", "/v2.0/routers", json!({"router": info})), want),
            refusal(name, ("POST", "/v2.0/floatingips", floating), want),
        ])
        .await;
    }
}

#[tokio::test]
async fn pools_and_gateways_keep_out_of_each_others_way() {
    let api = Api::new();
    let subnet = json!({
        "cidr": "172.22.7.0/24", "gateway_ip": "172.22.7.1",
        "allocation_pools": [{"start": "172.22.7.20", "end": "172.22.7.40"}],
    });
    let (network, subnet) = external(&api, 2207, subnet).await;
    let at =
        |address: &str| json!({"network_id": network["id"], "external_fixed_ips": [{"ip_address": address}]});
    api.create("router", json!({"external_gateway_info": at("172.22.7.99")})).await;
    let path = format!("/v2.0/subnets/{}", text(&subnet["id"]));
    let put = |change: Value| ("PUT", path.clone(), json!({"subnet": change}));
    let pool = |start: &str, end: &str| json!({"allocation_pools": [{"start": start, "end": end}]});
    let post = |info: Value| ("POST", "/v2.0/routers", json!({"router": {"external_gateway_info": info}}));
    let conflict = |address| (409, "GatewayConflictWithAllocationPools", address);
    api.refuses(&[
        refusal("pool over the gateway", put(pool("172.22.7.1", "172.22.7.9")), conflict("172.22.7.1")),
        refusal("gateway into the pool", put(json!({"gateway_ip": "172.22.7.30"})), conflict("172.22.7.30")),
        refusal(
            "gateway onto a SNAT address",
            put(json!({"gateway_ip": "172.22.7.99"})),
            (409, "GatewayIpInUse", "172.22.7.99"),
        ),
        refusal(
            "pool with the broadcast address",
            put(pool("172.22.7.250", "172.22.7.255")),
            (400, "OutOfBoundsAllocationPool", "172.22.7.250-172.22.7.255"),
        ),
        refusal("network address", post(at("172.22.7.0")), (400, "InvalidIpForSubnet", "172.22.7.0")),
        refusal("broadcast address", post(at("172.22.7.255")), (400, "InvalidIpForSubnet", "172.22.7.255")),
        refusal("the fabric's", post(at("172.22.7.1")), (400, "BadRequest", "is the same as the gateway IP")),
        refusal("no address", post(at("172.22.7")), (400, "HTTPBadRequest", "'172.22.7' is not a valid IP")),
    ])
    .await;
}

#[tokio::test]
async fn a_snat_address_in_use_is_refused_whoever_has_it() {
    let api = Api::new();
    let (network, subnet) = external(&api, 2207, json!({"cidr": "172.22.7.0/24"})).await;
    let fixed = |address: &str| json!([{"ip_address": address}]);
    let info = |addresses: Value| json!({"network_id": network["id"], "external_fixed_ips": addresses, "nanboku:snat_shared": true});
    let floating = json!({"floating_network_id": network["id"], "floating_ip_address": "172.22.7.30"});
    api.create("floatingip", floating).await;
    let port = json!({"network_id": network["id"], "fixed_ips": fixed("172.22.7.31")});
    api.create("port", port).await;
    let router = api.create("router", json!({"external_gateway_info": info(fixed("172.22.7.32"))})).await;
    let path = format!("/v2.0/routers/{}", text(&router["id"]));
    let post = |info: Value| ("POST", "/v2.0/routers", json!({"router": {"external_gateway_info": info}}));
    let put = |info: Value| ("PUT", path.clone(), json!({"router": {"external_gateway_info": info}}));
    let taken = |address| (409, "IpAddressAlreadyAllocated", address);
    // The same address, once with its subnet: two items, one address.
    let mut twice = fixed("172.22.7.40");
    let with_subnet = json!({"subnet_id": subnet["id"], "ip_address": "172.22.7.40"});
    twice.as_array_mut().unwrap().push(with_subnet);
    let alone = json!({"network_id": network["id"], "external_fixed_ips": fixed("172.22.7.32")});
    api.refuses(&[
        refusal("a floating IP's", post(info(fixed("172.22.7.30"))), taken("172.22.7.30")),
        refusal("a port's", post(info(fixed("172.22.7.31"))), taken("172.22.7.31")),
        refusal("a router's, not shared", post(alone), taken("172.22.7.32")),
        refusal("changed to a floating IP's", put(info(fixed("172.22.7.30"))), taken("172.22.7.30")),
        refusal("twice", post(info(twice)), taken("172.22.7.40")),
    ])
    .await;
}
