//! IPv6 in the API, and what hosts are told of it.

use crate::common::{Api, refusal, text};
use crate::status::{host, put};
use controller::slices::slice_for;
use model::resource::Ipv6Mode;
use model::security::Ethertype;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Its automatic address in a prefix ends in `5054:ff:fe12:3456`.
const MAC: &str = "52:54:00:12:34:56";

async fn six(api: &Api, network: &Value, cidr: &str, more: Value) -> Value {
    let mut attributes = json!({"network_id": network["id"], "ip_version": 6, "cidr": cidr});
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    api.create("subnet", attributes).await
}

fn addresses(port: &Value) -> Vec<&str> {
    port["fixed_ips"].as_array().unwrap().iter().map(|ip| text(&ip["ip_address"])).collect()
}

#[tokio::test]
async fn an_ipv6_subnet_has_neutrons_defaults() {
    let api = Api::new();
    let network = api.create("network", json!({})).await;
    let subnet = six(&api, &network, "2001:DB8:0:1::5/64", json!({})).await;
    assert_eq!(subnet["cidr"], "2001:db8:0:1::/64");
    assert_eq!((&subnet["ip_version"], &subnet["gateway_ip"]), (&json!(6), &json!("2001:db8:0:1::1")));
    let pools = json!([{"start": "2001:db8:0:1::2", "end": "2001:db8:0:1:ffff:ffff:ffff:ffff"}]);
    assert_eq!(subnet["allocation_pools"], pools);
}

#[tokio::test]
async fn guests_have_an_address_of_each_version_and_every_automatic_one() {
    let api = Api::new();
    let (network, _) = api.tenant("dual", "10.0.0.0/24").await;
    six(&api, &network, "2001:db8:1::/64", json!({"ipv6_address_mode": "dhcpv6-stateful"})).await;
    six(&api, &network, "2001:db8:2::/64", json!({"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}))
        .await;
    let port = api.create("port", json!({"network_id": network["id"], "mac_address": MAC})).await;
    let all = addresses(&port);
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[0].starts_with("10.0.0.") && all[1].starts_with("2001:db8:1:"), "{all:?}");
    assert_eq!(all[2], "2001:db8:2:0:5054:ff:fe12:3456");
    let moved = json!({"mac_address": "52:54:00:12:34:57"});
    let port = api.update("port", &port["id"], moved).await;
    assert_eq!(addresses(&port)[2], "2001:db8:2:0:5054:ff:fe12:3457");
    let none = json!({"network_id": network["id"], "fixed_ips": []});
    let port = api.create("port", none).await;
    assert_eq!(addresses(&port).len(), 1, "automatic addresses come by themselves");
}

#[tokio::test]
async fn a_new_subnet_with_automatic_addresses_gives_them_to_the_ports_that_are_there() {
    let api = Api::new();
    let (network, _) = api.tenant("dual", "10.0.0.0/24").await;
    let port = api.create("port", json!({"network_id": network["id"], "mac_address": MAC})).await;
    let subnet = six(&api, &network, "2001:db8::/64", json!({"ipv6_address_mode": "slaac"})).await;
    let path = format!("/v2.0/ports/{}", text(&port["id"]));
    assert_eq!(addresses(&api.get(&path).await["port"])[1], "2001:db8::5054:ff:fe12:3456");
    api.delete("subnet", &subnet["id"]).await;
    assert_eq!(addresses(&api.get(&path).await["port"]).len(), 1, "they go with it");
}

#[tokio::test]
async fn what_does_not_fit_ipv6_is_refused() {
    let api = Api::new();
    let (network, _) = api.tenant("dual", "10.0.0.0/24").await;
    let auto = six(&api, &network, "2001:db8:2::/64", json!({"ipv6_address_mode": "slaac"})).await;
    let post = |more: Value| {
        let mut body = json!({"network_id": network["id"], "ip_version": 6, "cidr": "2001:db8:9::/64"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("POST", "/v2.0/subnets", json!({"subnet": body}))
    };
    let modes = |ra: &str, address: &str| json!({"ipv6_ra_mode": ra, "ipv6_address_mode": address});
    let mut four = modes("slaac", "slaac");
    four["ip_version"] = json!(4);
    four["cidr"] = json!("10.9.0.0/24");
    let asked = json!({"port": {"network_id": network["id"], "mac_address": MAC, "fixed_ips": [
        {"subnet_id": auto["id"], "ip_address": "2001:db8:2::77"}]}});
    let input = "InvalidInput";
    api.refuses(&[
        refusal("modes", post(modes("slaac", "dhcpv6-stateful")), (400, input, "must be the same")),
        refusal("word", post(modes("slaac", "rumour")), (400, "HTTPBadRequest", "ipv6_address_mode")),
        refusal("four", post(four), (400, input, "not valid when ip_version is 4")),
        refusal("version", post(json!({"cidr": "10.9.0.0/24"})), (400, input, "ip_version")),
        refusal("gateway", post(json!({"gateway_ip": "10.9.0.1"})), (400, input, "another IP version")),
        refusal(
            "no dhcp",
            post(json!({"enable_dhcp": false, "ipv6_ra_mode": "slaac"})),
            (400, input, "enable_dhcp"),
        ),
        refusal(
            "length",
            post(json!({"cidr": "2001:db8:9::/80", "ipv6_address_mode": "slaac"})),
            (400, input, "/64"),
        ),
        refusal(
            "chosen",
            ("POST", "/v2.0/ports", asked),
            (400, "AllocationOnAutoAddressSubnet", "automatic"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn ipv6_subnets_of_a_network_share_a_routers_port() {
    let api = Api::new();
    let network = api.create("network", json!({})).await;
    let first = six(&api, &network, "2001:db8:1::/64", json!({})).await;
    let second = six(&api, &network, "2001:db8:2::/64", json!({"ipv6_ra_mode": "slaac"})).await;
    let router = api.create("router", json!({})).await;
    let on = |subnet: &Value| json!({"subnet_id": subnet["id"]});
    let one = api.act(&router["id"], "add_router_interface", on(&first)).await;
    let two = api.act(&router["id"], "add_router_interface", on(&second)).await;
    assert_eq!(one["port_id"], two["port_id"]);
    let path = format!("/v2.0/ports/{}", text(&one["port_id"]));
    assert_eq!(addresses(&api.get(&path).await["port"]), ["2001:db8:1::1", "2001:db8:2::1"]);
    api.act(&router["id"], "remove_router_interface", on(&first)).await;
    assert_eq!(addresses(&api.get(&path).await["port"]), ["2001:db8:2::1"]);
    api.act(&router["id"], "remove_router_interface", on(&second)).await;
    assert_eq!(api.call("GET", &path, Value::Null).await.status, 404);
}

/// Goal: a host is told all there is of IPv6; one whose agent cannot read it, nothing. Method: an interface, a route, a
/// rule, a member and a way out of each version.
#[tokio::test]
async fn hosts_are_told_of_both_versions() {
    let api = Api::new();
    let (network, subnet) = api.tenant("dual", "10.0.0.0/24").await;
    let modes =
        json!({"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac", "dns_nameservers": ["2001:db8::53"]});
    let other = six(&api, &network, "2001:db8::/64", modes).await;
    let router = api.create("router", json!({})).await;
    for subnet in [&subnet, &other] {
        api.act(&router["id"], "add_router_interface", json!({"subnet_id": subnet["id"]})).await;
    }
    let routes = json!([{"destination": "2001:db8:9::/48", "nexthop": "2001:db8::9"}]);
    api.update("router", &router["id"], json!({"routes": routes})).await;
    let host = host("ahv01", 1);
    put(&api, host.clone());
    let bound = json!({"network_id": network["id"], "binding:host_id": "ahv01", "mac_address": MAC});
    let port = api.create("port", bound).await;
    assert_eq!(addresses(&port).len(), 2);
    let mut slice = slice_for(&api.store.snapshot(), host.id);
    let (told, router) = (slice.ports.values().next().unwrap(), slice.routers.values().next().unwrap());
    let automatic: IpAddr = "2001:db8::5054:ff:fe12:3456".parse().unwrap();
    assert_eq!(told.addresses[1], automatic);
    assert_eq!((router.interfaces.len(), router.routes.len()), (2, 1));
    let subnets = &slice.networks.values().next().unwrap().subnets;
    let subnet = subnets.values().find(|subnet| subnet.cidr.to_string() == "2001:db8::/64").unwrap();
    assert_eq!(subnet.ipv6_ra_mode, Some(Ipv6Mode::Slaac));
    assert_eq!(subnet.dhcp.as_ref().unwrap().dns_nameservers, ["2001:db8::53".parse::<IpAddr>().unwrap()]);
    let of =
        |ethertype| slice.security_group_rules.values().filter(|rule| rule.ethertype == ethertype).count();
    assert_eq!((of(Ethertype::Ipv4), of(Ethertype::Ipv6)), (2, 2), "of the default group");
    assert!(slice.members.keys().any(|member| member.addresses == automatic.into()));
    slice.retain_ipv4();
    assert_eq!((slice.ports.len(), slice.networks.len(), slice.routers.len()), (1, 1, 1));
    let text = serde_json::to_string(&slice).unwrap();
    assert!(!text.contains("2001:db8") && !text.contains("IPv6"), "{text}");
}
