//! Routers: gateway, interfaces, extra routes.

use crate::common::{Api, UNKNOWN, refusal, text};
use serde_json::{Value, json};

#[tokio::test]
async fn a_router_has_neutrons_defaults() {
    let api = Api::new();
    let router = api.create("router", json!({"name": "blue"})).await;
    let want = json!({
        "id": router["id"], "name": "blue", "description": "", "status": "ACTIVE", "admin_state_up": true,
        "external_gateway_info": null, "routes": [], "availability_zone_hints": [],
        "availability_zones": ["nova"], "flavor_id": null, "project_id": "fake_project_id",
        "tenant_id": "fake_project_id", "tags": [], "created_at": "2026-11-22T06:00:00Z",
        "updated_at": "2026-11-22T06:00:00Z", "revision_number": 1,
    });
    assert_eq!(router, want);
}

#[tokio::test]
async fn a_gateway_gets_an_address_and_a_port_of_nobody() {
    let api = Api::new();
    let (external, subnet) = api.external().await;
    let router = api.create("router", json!({})).await;
    let info = json!({"external_gateway_info": {"network_id": external["id"]}});
    let router = api.update("router", &router["id"], info.clone()).await;
    let gateway = &router["external_gateway_info"];
    assert_eq!(gateway["network_id"], external["id"]);
    assert_eq!(gateway["enable_snat"], true);
    assert_eq!(gateway["external_fixed_ips"][0]["subnet_id"], subnet["id"]);
    let path = format!("/v2.0/ports?device_id={}", text(&router["id"]));
    let ports = api.get(&path).await;
    let port = &ports["ports"][0];
    assert_eq!(port["device_owner"], "network:router_gateway");
    assert_eq!((&port["project_id"], &port["tenant_id"]), (&json!(""), &json!("")));
    assert_eq!(port["fixed_ips"], gateway["external_fixed_ips"]);

    let off = json!({"external_gateway_info": {"network_id": external["id"], "enable_snat": false}});
    let off = api.update("router", &router["id"], off).await;
    assert_eq!(off["external_gateway_info"]["enable_snat"], false);
    assert_eq!(off["external_gateway_info"]["external_fixed_ips"], gateway["external_fixed_ips"], "kept");
    let again = api.update("router", &router["id"], info).await;
    assert_eq!(again["external_gateway_info"]["enable_snat"], true, "back to the default");

    for nothing in [json!({}), Value::Null] {
        let cleared = api.update("router", &router["id"], json!({"external_gateway_info": nothing})).await;
        assert_eq!(cleared["external_gateway_info"], Value::Null);
        assert_eq!(api.get(&path).await["ports"], json!([]));
    }
}

#[tokio::test]
async fn several_snat_addresses_can_be_given_and_changed() {
    let api = Api::new();
    let (external, subnet) = api.external().await;
    let gateway = json!({
        "network_id": external["id"],
        "external_fixed_ips": [{"ip_address": "172.22.7.27"}, {"ip_address": "172.22.7.30"}],
    });
    let router = api.create("router", json!({"external_gateway_info": gateway})).await;
    let addresses = |router: &Value| -> Vec<String> {
        let ips = router["external_gateway_info"]["external_fixed_ips"].as_array().unwrap().clone();
        ips.iter().map(|ip| text(&ip["ip_address"]).to_owned()).collect()
    };
    assert_eq!(addresses(&router), ["172.22.7.27", "172.22.7.30"]);
    let gateway = json!({
        "network_id": external["id"],
        "external_fixed_ips": [
            {"ip_address": "172.22.7.31"},
            {"subnet_id": subnet["id"], "ip_address": "172.22.7.27"},
            {"subnet_id": subnet["id"]},
        ],
    });
    let router = api.update("router", &router["id"], json!({"external_gateway_info": gateway})).await;
    assert_eq!(addresses(&router), ["172.22.7.31", "172.22.7.27", "172.22.7.30"]);
}

#[tokio::test]
async fn wrong_gateways_are_refused() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (inside, _) = api.tenant("blue", "192.168.10.0/24").await;
    let (_, same) = api.tenant("same addresses as outside", "172.22.0.0/16").await;
    let taken = json!({"network_id": external["id"], "external_fixed_ips": [{"ip_address": "172.22.7.27"}]});
    api.create("router", json!({"external_gateway_info": taken})).await;
    let overlapping = api.create("router", json!({})).await;
    api.act(&overlapping["id"], "add_router_interface", json!({"subnet_id": same["id"]})).await;
    let path = format!("/v2.0/routers/{}", text(&overlapping["id"]));
    let post = |info: Value| ("POST", "/v2.0/routers", json!({"router": {"external_gateway_info": info}}));
    let at = |address: &str| json!({"network_id": external["id"], "external_fixed_ips": [{"ip_address": address}]});
    let put = json!({"router": {"external_gateway_info": {"network_id": external["id"]}}});
    api.refuses(&[
        refusal("unknown", post(json!({"network_id": UNKNOWN})), (404, "NetworkNotFound", UNKNOWN)),
        refusal(
            "inside",
            post(json!({"network_id": inside["id"]})),
            (400, "BadRequest", "is not an external network"),
        ),
        refusal("taken", post(at("172.22.7.27")), (409, "IpAddressAlreadyAllocated", "172.22.7.27")),
        refusal("outside", post(at("10.0.0.1")), (400, "InvalidIpForNetwork", "10.0.0.1")),
        refusal("the fabric's", post(at("172.22.7.1")), (400, "BadRequest", "is the same as the gateway IP")),
        refusal("no network", post(json!({"enable_snat": true})), (400, "HTTPBadRequest", "'network_id'")),
        refusal(
            "unknown key",
            post(json!({"network": 1})),
            (400, "HTTPBadRequest", "Unexpected key 'network'"),
        ),
        refusal("overlap", ("PUT", &path, put), (400, "BadRequest", "overlaps with cidr")),
        refusal(
            "routes at creation",
            ("POST", "/v2.0/routers", json!({"router": {"routes": []}})),
            (400, "HTTPBadRequest", "Attribute 'routes' not allowed in POST"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn routers_share_a_snat_address_if_all_of_them_say_so() {
    let api = Api::new();
    let (external, subnet) = api.external().await;
    let body = |project: &str, shared: bool| {
        json!({"project_id": project, "external_gateway_info": {
            "network_id": external["id"], "external_fixed_ips": [{"ip_address": "172.22.7.27"}],
            "nanboku:snat_shared": shared,
        }})
    };
    let first = api.create("router", body("blue", false)).await;
    assert_eq!(first["external_gateway_info"]["nanboku:snat_shared"], false);
    let post = |project, shared| ("POST", "/v2.0/routers", json!({"router": body(project, shared)}));
    let taken = (409, "IpAddressAlreadyAllocated", "172.22.7.27");
    api.refuses(&[
        refusal("the holder did not agree", post("blue", true), taken),
        refusal("nobody agreed", post("blue", false), taken),
    ])
    .await;
    let agree = json!({"network_id": external["id"], "nanboku:snat_shared": true});
    let first = api.update("router", &first["id"], json!({"external_gateway_info": agree})).await;
    assert_eq!(first["external_gateway_info"]["nanboku:snat_shared"], true);
    let second = api.create("router", body("blue", true)).await;
    let address = json!([{"subnet_id": subnet["id"], "ip_address": "172.22.7.27"}]);
    assert_eq!(second["external_gateway_info"]["external_fixed_ips"], address);
    api.refuses(&[refusal("not asked for", post("blue", false), taken)]).await;

    // Going through everything else with the shared address in place.
    let keep = json!({"network_id": external["id"], "external_fixed_ips": [{"ip_address": "172.22.7.27"}]});
    let kept = api.update("router", &second["id"], json!({"external_gateway_info": keep})).await;
    assert_eq!(kept["external_gateway_info"]["nanboku:snat_shared"], true, "not asked for: as it was");
    let fixed_ips = json!([{"ip_address": "172.22.7.27"}]);
    let floating = json!({"floating_network_id": external["id"], "floating_ip_address": "172.22.7.27"});
    let port = json!({"network_id": external["id"], "fixed_ips": fixed_ips});
    api.refuses(&[
        refusal("floating IP", ("POST", "/v2.0/floatingips", json!({"floatingip": floating})), taken),
        refusal("port", ("POST", "/v2.0/ports", json!({"port": port})), taken),
    ])
    .await;
    api.delete("router", &first["id"]).await;
    api.refuses(&[refusal("still held", post("blue", false), taken)]).await;
    api.delete("router", &second["id"]).await;
    api.create("router", body("green", false)).await;
}

#[tokio::test]
async fn the_nat_of_a_router_is_chosen_shown_and_kept() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let nat = |router: &Value| {
        let info = &router["external_gateway_info"];
        ["nanboku:filtering", "nanboku:ports_per_vm_max", "nanboku:snat_shared"].map(|key| info[key].clone())
    };
    let plain = api.create("router", json!({"external_gateway_info": {"network_id": external["id"]}})).await;
    assert_eq!(nat(&plain), [json!("address-and-port-dependent"), json!(16_384), json!(false)]);
    let chosen = json!({
        "network_id": external["id"], "nanboku:filtering": "endpoint-independent",
        "nanboku:ports_per_vm_max": "500",
    });
    let router = api.create("router", json!({"external_gateway_info": chosen})).await;
    let want = [json!("endpoint-independent"), json!(500), json!(false)];
    assert_eq!(nat(&router), want);
    let again = json!({"network_id": external["id"], "enable_snat": false});
    assert_eq!(
        nat(&api.update("router", &router["id"], json!({"external_gateway_info": again})).await),
        want
    );
    let back = json!({
        "network_id": external["id"], "nanboku:filtering": "address-and-port-dependent",
        "nanboku:ports_per_vm_max": 0,
    });
    let router = api.update("router", &router["id"], json!({"external_gateway_info": back})).await;
    assert_eq!(nat(&router), [json!("address-and-port-dependent"), json!(0), json!(false)]);
    assert_eq!(api.get("/v2.0/extensions/nanboku-nat").await["extension"]["alias"], "nanboku-nat");

    let with = |key: &str, value: Value| {
        let info = json!({"network_id": external["id"], key: value});
        ("POST", "/v2.0/routers", json!({"router": {"external_gateway_info": info}}))
    };
    let bad = |message| (400, "HTTPBadRequest", message);
    api.refuses(&[
        refusal(
            "filtering",
            with("nanboku:filtering", json!("none")),
            bad("'none' is not in ['address-and-port-dependent', 'address-dependent', 'endpoint-independent']"),
        ),
        refusal(
            "too many",
            with("nanboku:ports_per_vm_max", json!(200_000)),
            bad("'200000' is not between 1 and 131072, or 0 for no limit"),
        ),
        refusal(
            "negative",
            with("nanboku:ports_per_vm_max", json!(-1)),
            bad("'-1' is not between 1 and 131072"),
        ),
        refusal(
            "too fast",
            with("nanboku:mappings_per_second_max", json!(1_000_001)),
            bad("'1000001' is not between 1 and 1000000, or 0 for no limit"),
        ),
        refusal(
            "no number",
            with("nanboku:ports_per_vm_max", json!("many")),
            bad("'many' is not an integer"),
        ),
        refusal(
            "shared",
            with("nanboku:snat_shared", json!("perhaps")),
            bad("'perhaps' cannot be converted to boolean"),
        ),
    ])
    .await;
}

/// Off until the administrator says otherwise, and then it stays so.
#[tokio::test]
async fn rfc6888_req9a_port_control_is_the_administrators_to_allow() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let allowed = |router: &Value| router["external_gateway_info"]["nanboku:port_control"].clone();
    let info = |more: Value| {
        let mut info = json!({"network_id": external["id"]});
        info.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"external_gateway_info": info})
    };
    let router = api.create("router", info(json!({}))).await;
    assert_eq!(allowed(&router), json!(false));
    let on = api.update("router", &router["id"], info(json!({"nanboku:port_control": "true"}))).await;
    assert_eq!(allowed(&on), json!(true));
    let kept = api.update("router", &router["id"], info(json!({"enable_snat": true}))).await;
    assert_eq!(allowed(&kept), json!(true));
    let off = api.update("router", &router["id"], info(json!({"nanboku:port_control": false}))).await;
    assert_eq!(allowed(&off), json!(false));
    let perhaps = json!({"router": info(json!({"nanboku:port_control": "perhaps"}))});
    let said = "'perhaps' cannot be converted to boolean";
    api.refuses(&[refusal("perhaps", ("POST", "/v2.0/routers", perhaps), (400, "HTTPBadRequest", said))])
        .await;
}

/// RFC 6888 REQ-6: where addresses stay as they are is the administrator's to say, and refused where it cannot be.
#[tokio::test]
async fn rfc6888_req6_untranslated_destinations_are_chosen_shown_kept_and_checked() {
    const KEY: &str = "nanboku:untranslated_destinations";
    let api = Api::new();
    let (external, _) = api.external().await;
    let (_, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let (_, equal) = api.tenant("green", "192.168.0.0/16").await;
    let info = |list: Value| json!({"external_gateway_info": {"network_id": external["id"], KEY: list}});
    let shown = |router: &Value| router["external_gateway_info"][KEY].clone();
    let plain = json!({"external_gateway_info": {"network_id": external["id"]}});
    let router = api.router(&external, &subnet).await;
    assert_eq!(shown(&api.update("router", &router["id"], plain.clone()).await), json!([]));
    let set = api.update("router", &router["id"], info(json!(["10.1.2.3/8", "203.0.113.0/24"]))).await;
    assert_eq!(shown(&set), json!(["10.0.0.0/8", "203.0.113.0/24"]));
    let kept = api.update("router", &router["id"], plain.clone()).await;
    assert_eq!(shown(&kept), json!(["10.0.0.0/8", "203.0.113.0/24"]), "kept");

    let other = api.create("router", info(json!(["10.0.0.0/8"]))).await;
    let third = api.create("router", plain).await;
    api.act(&third["id"], "add_router_interface", json!({"subnet_id": equal["id"]})).await;
    let (other, third) = (text(&other["id"]), text(&third["id"]));
    let path = format!("/v2.0/routers/{third}");
    let add = format!("/v2.0/routers/{other}/add_router_interface");
    let put = |list: Value| ("PUT", path.clone(), json!({"router": info(list)}));
    let bad = |message| (400, "HTTPBadRequest", message);
    let ambiguous = (400, "BadRequest", "overlaps with cidr 192.168.10.0/24 of subnet");
    api.refuses(&[
        refusal("no list", put(json!("10.0.0.0/8")), bad("'10.0.0.0/8' is not a list")),
        refusal("no prefix", put(json!(["10.0.0.0/33"])), bad("'10.0.0.0/33' is not a valid IP subnet")),
        refusal("IPv6", put(json!(["2001:db8::/32"])), bad("IPv6 is never translated")),
        refusal("twice", put(json!(["10.0.0.0/8", "10.0.0.0/8"])), bad("Duplicate items in the list")),
        refusal("equal addresses", put(json!(["10.0.0.0/8"])), ambiguous),
    ])
    .await;
    let by_subnet = json!({"subnet_id": equal["id"]});
    api.act(&json!(third), "remove_router_interface", by_subnet.clone()).await;
    api.refuses(&[refusal("an interface with equal addresses", ("PUT", &add, by_subnet.clone()), ambiguous)])
        .await;
    api.update("router", &router["id"], info(json!([]))).await;
    api.act(&json!(other), "add_router_interface", by_subnet).await;
}

#[tokio::test]
async fn an_exhausted_external_pool_leaves_no_router_behind() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let body = json!({"floating_network_id": external["id"]});
    for _ in 27..=40 {
        api.create("floatingip", body.clone()).await;
    }
    let want = (409, "IpAddressGenerationFailure", "");
    let router = json!({"router": {"external_gateway_info": {"network_id": external["id"]}}});
    api.refuses(&[
        refusal("gateway", ("POST", "/v2.0/routers", router), want),
        refusal("floating IP", ("POST", "/v2.0/floatingips", json!({"floatingip": body})), want),
    ])
    .await;
    assert!(api.store.snapshot().routers.is_empty());
}

#[tokio::test]
async fn an_interface_by_subnet_has_the_gateways_address() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.create("router", json!({})).await;
    let added = api.act(&router["id"], "add_router_interface", json!({"subnet_id": subnet["id"]})).await;
    let want = json!({
        "id": router["id"], "project_id": "fake_project_id", "port_id": added["port_id"],
        "network_id": network["id"], "subnet_id": subnet["id"], "subnet_ids": [subnet["id"]],
    });
    assert_eq!(added, want);
    let port = api.get(&format!("/v2.0/ports/{}", text(&added["port_id"]))).await["port"].clone();
    assert_eq!(port["device_owner"], "network:router_interface");
    assert_eq!((&port["device_id"], &port["status"]), (&router["id"], &json!("ACTIVE")));
    assert_eq!(port["fixed_ips"][0]["ip_address"], "192.168.10.1");
    assert_eq!(port["project_id"], "fake_project_id");
    let shown = api.get(&format!("/v2.0/routers/{}", text(&router["id"]))).await;
    assert_eq!(shown["router"]["revision_number"], 2);
    let removed = api.act(&router["id"], "remove_router_interface", json!({"subnet_id": subnet["id"]})).await;
    assert_eq!(removed, want);
    assert!(api.store.snapshot().ports.is_empty());
}

#[tokio::test]
async fn an_interface_by_port_takes_the_port_over() {
    let api = Api::new();
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.create("router", json!({})).await;
    let attributes = json!({"network_id": network["id"], "fixed_ips": [{"ip_address": "192.168.10.77"}]});
    let port = api.create("port", attributes).await;
    let added = api.act(&router["id"], "add_router_interface", json!({"port_id": port["id"]})).await;
    assert_eq!((&added["port_id"], &added["subnet_id"]), (&port["id"], &subnet["id"]));
    let both = json!({"port_id": port["id"], "subnet_id": subnet["id"]});
    api.act(&router["id"], "remove_router_interface", both).await;
    assert!(api.store.snapshot().ports.is_empty());
}

#[tokio::test]
async fn wrong_interfaces_are_refused() {
    let api = Api::new();
    let (external, outside) = api.external().await;
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let (_, overlapping) = api.tenant("overlapping", "192.168.0.0/16").await;
    let (_, other) = api.tenant("other", "10.0.0.0/24").await;
    let router = api.router(&external, &subnet).await;
    let second = api.create("router", json!({})).await;
    let lone =
        json!({"network_id": network["id"], "ip_version": 4, "cidr": "10.5.0.0/24", "gateway_ip": null});
    let lone = api.create("subnet", lone).await;
    let add = format!("/v2.0/routers/{}/add_router_interface", text(&router["id"]));
    let remove = format!("/v2.0/routers/{}/remove_router_interface", text(&router["id"]));
    let second = format!("/v2.0/routers/{}/add_router_interface", text(&second["id"]));
    let unknown = format!("/v2.0/routers/{UNKNOWN}/add_router_interface");
    let by = |key: &str, id: &Value| json!({key: id});
    let unknown_id = json!(UNKNOWN);
    let bad = |message| (400, "BadRequest", message);
    let both = json!({"subnet_id": subnet["id"], "port_id": UNKNOWN});
    api.refuses(&[
        refusal("nothing", ("PUT", &add, json!({})), bad("Either subnet_id or port_id must be specified")),
        refusal("both", ("PUT", &add, both), bad("Cannot specify both")),
        refusal("a name", ("PUT", &add, json!({"subnet_id": "blue"})), bad("is not a UUID")),
        refusal(
            "again",
            ("PUT", &add, by("subnet_id", &subnet["id"])),
            bad("Router already has a port on subnet"),
        ),
        refusal("overlap", ("PUT", &add, by("subnet_id", &overlapping["id"])), bad("overlaps with cidr")),
        refusal("no gateway", ("PUT", &add, by("subnet_id", &lone["id"])), bad("must have a gateway IP")),
        refusal("external", ("PUT", &add, by("subnet_id", &outside["id"])), bad("external_gateway_info")),
        refusal(
            "unknown subnet",
            ("PUT", &add, by("subnet_id", &unknown_id)),
            (404, "SubnetNotFound", UNKNOWN),
        ),
        refusal(
            "unknown router",
            ("PUT", &unknown, by("subnet_id", &other["id"])),
            (404, "RouterNotFound", UNKNOWN),
        ),
        refusal(
            "gateway address in use",
            ("PUT", &second, by("subnet_id", &subnet["id"])),
            (409, "IpAddressAlreadyAllocated", "192.168.10.1"),
        ),
        refusal(
            "not there",
            ("PUT", &remove, by("subnet_id", &other["id"])),
            (404, "RouterInterfaceNotFoundForSubnet", text(&other["id"])),
        ),
        refusal(
            "no such action",
            ("PUT", add.replace("add_", "addle_"), json!({})),
            (404, "HTTPNotFound", ""),
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_interfaces_by_port_are_refused() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.create("router", json!({})).await;
    let port = |attributes: Value| {
        let mut all = json!({"network_id": network["id"]});
        all.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
        api.create("port", all)
    };
    let ips = json!([{"ip_address": "192.168.10.5"}, {"ip_address": "192.168.10.6"}]);
    let two = port(json!({"fixed_ips": ips})).await;
    let none = port(json!({"fixed_ips": []})).await;
    let used = port(json!({"device_id": "vm"})).await;
    let add = format!("/v2.0/routers/{}/add_router_interface", text(&router["id"]));
    let remove = format!("/v2.0/routers/{}/remove_router_interface", text(&router["id"]));
    let by = |key: &str, id: &Value| json!({key: id});
    let unknown_id = json!(UNKNOWN);
    let bad = |message| (400, "BadRequest", message);
    api.refuses(&[
        refusal("two addresses", ("PUT", &add, by("port_id", &two["id"])), bad("multiple IPv4 subnets")),
        refusal("no address", ("PUT", &add, by("port_id", &none["id"])), bad("at least one fixed IP")),
        refusal("a VM's", ("PUT", &add, by("port_id", &used["id"])), (409, "PortInUse", "vm")),
        refusal("unknown port", ("PUT", &add, by("port_id", &unknown_id)), (404, "PortNotFound", UNKNOWN)),
        refusal(
            "not an interface",
            ("PUT", &remove, by("port_id", &two["id"])),
            (404, "RouterInterfaceNotFound", text(&two["id"])),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_router_in_use_stays() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.router(&external, &subnet).await;
    let port = api.create("port", json!({"network_id": network["id"]})).await;
    let body = json!({"floating_network_id": external["id"], "port_id": port["id"]});
    let floating_ip = api.create("floatingip", body).await;
    let path = format!("/v2.0/routers/{}", text(&router["id"]));
    let remove = format!("{path}/remove_router_interface");
    let by_subnet = json!({"subnet_id": subnet["id"]});
    let clear = json!({"router": {"external_gateway_info": null}});
    api.refuses(&[
        refusal("interfaces", ("DELETE", &path, Value::Null), (409, "RouterInUse", "still has ports")),
        refusal(
            "floating IP",
            ("PUT", &remove, by_subnet.clone()),
            (409, "RouterInterfaceInUseByFloatingIP", ""),
        ),
        refusal("gateway", ("PUT", &path, clear), (409, "RouterExternalGatewayInUseByFloatingIp", "")),
    ])
    .await;
    api.delete("floatingip", &floating_ip["id"]).await;
    let routes = json!([{"destination": "10.9.0.0/16", "nexthop": "192.168.10.9"}]);
    api.update("router", &router["id"], json!({"routes": routes})).await;
    let in_use =
        refusal("route", ("PUT", &remove, by_subnet.clone()), (409, "RouterInterfaceInUseByRoute", ""));
    api.refuses(&[in_use]).await;
    api.update("router", &router["id"], json!({"routes": []})).await;
    api.act(&router["id"], "remove_router_interface", by_subnet).await;
    api.delete("router", &router["id"]).await;
    let left: Vec<_> = api.store.snapshot().ports.values().map(|port| port.id.to_string()).collect();
    assert_eq!(left, [text(&port["id"])], "the gateway port went with its router");
}

#[tokio::test]
async fn extra_routes_are_replaced_added_and_removed() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (_, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.router(&external, &subnet).await;
    let route =
        |third: u8, next_hop: &str| json!({"destination": format!("10.{third}.0.0/16"), "nexthop": next_hop});
    let (a, b) = (route(1, "192.168.10.9"), route(2, "172.22.7.99"));
    let list = |routes: &[&Value]| json!({"router": {"routes": routes}});
    let set = api.update("router", &router["id"], json!({"routes": [a]})).await;
    assert_eq!(set["routes"], json!([a]));
    let added = api.act(&router["id"], "add_extraroutes", list(&[&a, &b])).await;
    assert_eq!(added["router"]["routes"], json!([a, b]));
    let removed = api.act(&router["id"], "remove_extraroutes", list(&[&a])).await;
    assert_eq!(removed["router"]["routes"], json!([b]));
    let path = format!("/v2.0/routers/{}", text(&router["id"]));
    let put = |route: Value| ("PUT", path.clone(), json!({"router": {"routes": [route]}}));
    let many: Vec<Value> = (0..31).map(|i| route(i, "192.168.10.9")).collect();
    let own = route(1, "192.168.10.1");
    api.refuses(&[
        refusal("own", put(own), (400, "InvalidRoutes", "the nexthop is used by router")),
        refusal(
            "elsewhere",
            put(route(1, "10.77.0.1")),
            (400, "InvalidRoutes", "is not connected with router"),
        ),
        refusal(
            "no next hop",
            put(json!({"destination": "10.0.0.0/8"})),
            (400, "HTTPBadRequest", "'nexthop'"),
        ),
        refusal(
            "not a cidr",
            put(json!({"destination": "x", "nexthop": "10.0.0.1"})),
            (400, "HTTPBadRequest", "'x'"),
        ),
        refusal(
            "too many",
            ("PUT", &path, json!({"router": {"routes": many}})),
            (400, "RoutesExhausted", "exceeds the maximum 30"),
        ),
        refusal(
            "no list",
            ("PUT", format!("{path}/add_extraroutes"), json!({"router": {}})),
            (400, "HTTPBadRequest", "routes"),
        ),
    ])
    .await;
}
