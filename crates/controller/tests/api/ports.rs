//! Ports.

use crate::common::{Api, UNKNOWN, refusal, text};
use serde_json::{Value, json};

#[tokio::test]
async fn a_port_has_neutrons_defaults() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let port = api.create("port", json!({"network_id": network["id"], "name": "vm_a"})).await;
    let mac = text(&port["mac_address"]);
    assert!(mac.starts_with("fa:16:3e:"), "{mac}");
    assert_eq!(port["fixed_ips"][0]["subnet_id"], subnet["id"]);
    let want = json!({
        "id": port["id"], "name": "vm_a", "description": "", "network_id": network["id"],
        "mac_address": mac, "admin_state_up": true, "status": "DOWN", "device_id": "", "device_owner": "",
        "fixed_ips": port["fixed_ips"], "security_groups": port["security_groups"], "allowed_address_pairs": [],
        "extra_dhcp_opts": [], "ip_allocation": "immediate", "port_security_enabled": true,
        "binding:vnic_type": "normal",
        "binding:host_id": "", "binding:profile": {}, "binding:vif_type": "unbound",
        "binding:vif_details": {}, "project_id": "fake_project_id", "tenant_id": "fake_project_id",
        "tags": [], "created_at": "2026-11-22T06:00:00Z", "updated_at": "2026-11-22T06:00:00Z",
        "revision_number": 1,
    });
    assert_eq!(port, want);
}

#[tokio::test]
async fn addresses_and_macs_can_be_given() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let attributes = json!({
        "network_id": network["id"], "mac_address": "FA-16-3E-00-00-0A",
        "fixed_ips": [
            {"ip_address": "192.168.10.5"},
            {"subnet_id": subnet["id"]},
            {"subnet_id": subnet["id"], "ip_address": "192.168.10.7"},
        ],
    });
    let port = api.create("port", attributes).await;
    assert_eq!(port["mac_address"], "fa:16:3e:00:00:0a");
    let ips = port["fixed_ips"].as_array().unwrap();
    assert_eq!((ips.len(), &ips[0]["ip_address"]), (3, &json!("192.168.10.5")));
    assert_eq!(ips[2]["ip_address"], "192.168.10.7");
    let none = api.create("port", json!({"network_id": network["id"], "fixed_ips": []})).await;
    assert_eq!(none["fixed_ips"], json!([]));
    let empty = api.create("network", json!({})).await;
    let without = api.create("port", json!({"network_id": empty["id"]})).await;
    assert_eq!(without["fixed_ips"], json!([]));
}

#[tokio::test]
async fn a_port_keeps_the_address_it_has_when_only_the_subnet_is_named() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let attributes = json!({"network_id": network["id"], "fixed_ips": [{"ip_address": "192.168.10.10"}]});
    let port = api.create("port", attributes).await;
    let change = json!({"fixed_ips": [{"ip_address": "192.168.10.77"}, {"subnet_id": subnet["id"]}]});
    let changed = api.update("port", &port["id"], change).await;
    assert_eq!(changed["fixed_ips"][0]["ip_address"], "192.168.10.77");
    assert_eq!(changed["fixed_ips"][1], port["fixed_ips"][0]);
    let change = json!({"fixed_ips": [{"ip_address": "192.168.10.77"}]});
    let changed = api.update("port", &port["id"], change).await;
    assert_eq!(changed["fixed_ips"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_ports_are_refused() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let (_, other) = api.tenant("green", "192.168.10.0/24").await;
    let taken = json!({"network_id": network["id"], "fixed_ips": [{"ip_address": "192.168.10.5"}]});
    let taken = api.create("port", taken).await;
    let post = |change: Value| {
        let mut attributes = json!({"network_id": network["id"]});
        attributes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ("POST", "/v2.0/ports", json!({"port": attributes}))
    };
    let ips = |ips: Value| post(json!({"fixed_ips": ips}));
    let one = format!("/v2.0/ports/{}", text(&taken["id"]));
    let unknown = format!("/v2.0/ports/{UNKNOWN}");
    let pairs = json!([{"ip_address": "10.0.0.0/24"}]);
    let bad = "HTTPBadRequest";
    api.refuses(&[
        refusal("unknown network", post(json!({"network_id": UNKNOWN})), (404, "NetworkNotFound", UNKNOWN)),
        refusal("network id", post(json!({"network_id": "blue"})), (400, bad, "'blue' is not a valid UUID")),
        refusal("taken", ips(json!([{"ip_address": "192.168.10.5"}])), (409, "IpAddressAlreadyAllocated", "192.168.10.5")),
        refusal("outside", ips(json!([{"ip_address": "10.0.0.5"}])), (400, "InvalidIpForNetwork", "10.0.0.5")),
        refusal(
            "outside its subnet",
            ips(json!([{"subnet_id": subnet["id"], "ip_address": "10.0.0.5"}])),
            (400, "InvalidIpForSubnet", "10.0.0.5"),
        ),
        refusal("broadcast", ips(json!([{"ip_address": "192.168.10.255"}])), (400, "InvalidIpForSubnet", "")),
        refusal("unknown subnet", ips(json!([{"subnet_id": UNKNOWN}])), (404, "SubnetNotFound", UNKNOWN)),
        refusal("other network's", ips(json!([{"subnet_id": other["id"]}])), (400, "InvalidInput", "invalid subnet")),
        refusal(
            "twice",
            ips(json!([{"ip_address": "192.168.10.9"}, {"subnet_id": subnet["id"], "ip_address": "192.168.10.9"}])),
            (409, "IpAddressAlreadyAllocated", "192.168.10.9"),
        ),
        refusal("empty entry", ips(json!([{}])), (400, bad, "Invalid input for fixed_ips.")),
        refusal("duplicate MAC", post(json!({"mac_address": taken["mac_address"]})), (409, "MacAddressInUse", "")),
        refusal("MAC", post(json!({"mac_address": "x"})), (400, bad, "'x' is not a valid MAC address")),
        refusal("multicast MAC", post(json!({"mac_address": "01:00:5e:00:00:01"})), (400, bad, "is not a valid MAC")),
        refusal(
            "unknown group",
            post(json!({"security_groups": [UNKNOWN]})),
            (404, "SecurityGroupNotFound", UNKNOWN),
        ),
        refusal(
            "pairs without security",
            post(json!({"port_security_enabled": false, "allowed_address_pairs": pairs})),
            (409, "AddressPairAndPortSecurityRequired", ""),
        ),
        refusal("vnic type", post(json!({"binding:vnic_type": "direct"})), (400, bad, "'direct' is not in")),
        refusal("read-only", ("PUT", &one, json!({"port": {"network_id": UNKNOWN}})), (400, bad, "read-only attribute network_id")),
        refusal("unknown", ("GET", &unknown, Value::Null), (404, "PortNotFound", UNKNOWN)),
        refusal("unknown", ("PUT", &unknown, json!({"port": {}})), (404, "PortNotFound", UNKNOWN)),
        refusal("unknown", ("DELETE", &unknown, Value::Null), (404, "PortNotFound", UNKNOWN)),
    ])
    .await;
}

#[tokio::test]
async fn an_exhausted_pool_is_a_conflict_until_an_address_comes_back() {
    let api = Api::new();
    let network = api.create("network", json!({})).await;
    let attributes = json!({
        "network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24",
        "allocation_pools": [{"start": "10.0.0.10", "end": "10.0.0.12"}],
    });
    let subnet = api.create("subnet", attributes).await;
    let mut ports = Vec::new();
    for _ in 0..3 {
        ports.push(api.create("port", json!({"network_id": network["id"]})).await);
    }
    let any = json!({"port": {"network_id": network["id"]}});
    let of_subnet =
        json!({"port": {"network_id": network["id"], "fixed_ips": [{"subnet_id": subnet["id"]}]}});
    let want = (409, "IpAddressGenerationFailure", "No more IP addresses available on network");
    api.refuses(&[
        refusal("any", ("POST", "/v2.0/ports", any), want),
        refusal("of the subnet", ("POST", "/v2.0/ports", of_subnet), want),
    ])
    .await;
    api.delete("port", &ports[1]["id"]).await;
    let port = api.create("port", json!({"network_id": network["id"]})).await;
    assert_eq!(port["fixed_ips"], ports[1]["fixed_ips"]);
    let outside_pool = json!({"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.200"}]});
    api.create("port", outside_pool).await;
}

#[tokio::test]
async fn ports_of_routers_and_floating_ips_are_not_deleted_directly() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (_, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    api.router(&external, &subnet).await;
    api.create("floatingip", json!({"floating_network_id": external["id"]})).await;
    for owner in ["network:router_interface", "network:router_gateway", "network:floatingip"] {
        let ports = api.get(&format!("/v2.0/ports?device_owner={owner}")).await;
        let path = format!("/v2.0/ports/{}", text(&ports["ports"][0]["id"]));
        let other = json!({"port": {"fixed_ips": []}});
        api.refuses(&[
            refusal(owner, ("DELETE", &path, Value::Null), (409, "ServicePortInUse", owner)),
            refusal(owner, ("PUT", &path, other), (400, "BadRequest", owner)),
        ])
        .await;
    }
}

#[tokio::test]
async fn nobody_smuggles_a_port_into_a_router() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.create("router", json!({})).await;
    api.act(&router["id"], "add_router_interface", json!({"subnet_id": subnet["id"]})).await;
    let role = json!({"device_owner": "network:router_interface", "device_id": router["id"]});
    let mut attributes = role.clone();
    attributes["network_id"] = network["id"].clone();
    let port = api.create("port", json!({"network_id": network["id"]})).await;
    let path = format!("/v2.0/ports/{}", text(&port["id"]));
    api.refuses(&[
        refusal(
            "create",
            ("POST", "/v2.0/ports", json!({"port": attributes})),
            (400, "BadRequest", "router"),
        ),
        refusal("update", ("PUT", &path, json!({"port": role})), (400, "BadRequest", "router")),
    ])
    .await;
}

#[tokio::test]
async fn address_pairs_are_shown_with_the_ports_own_mac() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    let pairs = json!([
        {"ip_address": "10.1.1.1"},
        {"ip_address": "10.2.0.0/16", "mac_address": "fa:16:3e:00:00:99"},
    ]);
    let port = api.create("port", json!({"network_id": network["id"], "allowed_address_pairs": pairs})).await;
    let want = json!([
        {"ip_address": "10.1.1.1", "mac_address": port["mac_address"]},
        {"ip_address": "10.2.0.0/16", "mac_address": "fa:16:3e:00:00:99"},
    ]);
    assert_eq!(port["allowed_address_pairs"], want);
}

#[tokio::test]
async fn dhcp_options_are_set_one_by_one() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    let options = json!([
        {"opt_name": "bootfile-name", "opt_value": "pxelinux.0"},
        {"opt_name": "dns-server", "opt_value": "2001:db8::1", "ip_version": "6"},
    ]);
    let port = api.create("port", json!({"network_id": network["id"], "extra_dhcp_opts": options})).await;
    let want = json!([
        {"opt_name": "bootfile-name", "opt_value": "pxelinux.0", "ip_version": 4},
        {"opt_name": "dns-server", "opt_value": "2001:db8::1", "ip_version": 6},
    ]);
    assert_eq!(port["extra_dhcp_opts"], want);
    let change = json!([
        {"opt_name": "bootfile-name", "opt_value": "grub.efi"},
        {"opt_name": "dns-server", "opt_value": null, "ip_version": 6},
        {"opt_name": "66", "opt_value": "192.168.10.9"},
        {"opt_name": "server-ip-address", "opt_value": "2001:db8::9"},
    ]);
    let port = api.update("port", &port["id"], json!({"extra_dhcp_opts": change})).await;
    let want = json!([
        {"opt_name": "bootfile-name", "opt_value": "grub.efi", "ip_version": 4},
        {"opt_name": "66", "opt_value": "192.168.10.9", "ip_version": 4},
        {"opt_name": "server-ip-address", "opt_value": "2001:db8::9", "ip_version": 4},
    ]);
    assert_eq!(port["extra_dhcp_opts"], want);
    let nameless = json!({"port": {"network_id": network["id"], "extra_dhcp_opts": [{"opt_value": "x"}]}});
    let refused = (400, "HTTPBadRequest", "opt_name");
    api.refuses(&[refusal("nameless", ("POST", "/v2.0/ports", nameless), refused)]).await;
    for (name, value, version, message) in [
        ("colour", "red", 4, "'colour' is no DHCP option; give a name such as 'bootfile-name'"),
        ("0", "x", 4, "'0' is no DHCP option"),
        ("54", "10.0.0.1", 4, "option 54 belongs to the exchange itself"),
        ("mtu", "large", 4, "'large' is no value of option 'mtu': it must be a number from 0 to 65535"),
        ("mtu", "1400", 6, "'mtu' is no DHCPv6 option; give a name such as 'bootfile-url'"),
        (
            "dns-server",
            "8.8.8.8",
            6,
            "'8.8.8.8' is no value of option 'dns-server': it must be IPv6 addresses",
        ),
    ] {
        let options = json!([{"opt_name": name, "opt_value": value, "ip_version": version}]);
        let body = json!({"port": {"network_id": network["id"], "extra_dhcp_opts": options}});
        let refused = (400, "HTTPBadRequest", message);
        api.refuses(&[refusal(name, ("POST", "/v2.0/ports", body), refused)]).await;
    }
    let gone = json!([{"opt_name": "colour", "opt_value": null}]);
    api.update("port", &port["id"], json!({"extra_dhcp_opts": gone})).await;
}
