//! Floating IPs.

use crate::common::{Api, UNKNOWN, refusal, text};
use serde_json::{Value, json};

struct World {
    api: Api,
    external: Value,
    subnet: Value,
    port: Value,
    router: Value,
}

async fn world() -> World {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.router(&external, &subnet).await;
    let attributes =
        json!({"network_id": network["id"], "name": "vm_a", "fixed_ips": [{"ip_address": "192.168.10.5"}]});
    let port = api.create("port", attributes).await;
    World { api, external, subnet, port, router }
}

#[tokio::test]
async fn a_floating_ip_comes_with_a_port_that_holds_its_address() {
    let World { api, external, port, router, .. } = world().await;
    let body = json!({"floating_network_id": external["id"], "floating_ip_address": "172.22.7.33"});
    let floating_ip = api.create("floatingip", body).await;
    let want = json!({
        "id": floating_ip["id"], "floating_network_id": external["id"], "floating_ip_address": "172.22.7.33",
        "fixed_ip_address": null, "port_id": null, "router_id": null, "status": "DOWN",
        "port_details": null, "port_forwardings": [], "description": "", "project_id": "fake_project_id",
        "tenant_id": "fake_project_id", "tags": [], "created_at": "2026-11-22T06:00:00Z",
        "updated_at": "2026-11-22T06:00:00Z", "revision_number": 1,
    });
    assert_eq!(floating_ip, want);
    let holders = api.get("/v2.0/ports?device_owner=network%3Afloatingip").await;
    let holder = &holders["ports"][0];
    assert_eq!((&holder["device_id"], &holder["status"]), (&floating_ip["id"], &json!("N/A")));
    assert_eq!((&holder["project_id"], &holder["network_id"]), (&json!(""), &external["id"]));

    let associated = api.update("floatingip", &floating_ip["id"], json!({"port_id": port["id"]})).await;
    assert_eq!(associated["router_id"], router["id"]);
    assert_eq!(associated["fixed_ip_address"], "192.168.10.5");
    let details = json!({
        "name": "vm_a", "network_id": port["network_id"], "mac_address": port["mac_address"],
        "admin_state_up": true, "status": "DOWN", "device_id": "", "device_owner": "",
    });
    assert_eq!(associated["port_details"], details);

    let named = api.update("floatingip", &floating_ip["id"], json!({"description": "www"})).await;
    assert_eq!(named["port_id"], port["id"], "only the description changed");
    let count = async |query: String| {
        let list = api.get(&format!("/v2.0/floatingips?{query}")).await;
        list["floatingips"].as_array().unwrap().len()
    };
    let lone = api.create("floatingip", json!({"floating_network_id": external["id"]})).await;
    let own = text(&port["id"]);
    assert_eq!(count(format!("port_id={own}")).await, 1);
    assert_eq!(count("port_id=".to_owned()).await, 1);
    assert_eq!(count(format!("port_id={own}&port_id=")).await, 2);
    assert_eq!(count(format!("port_id={UNKNOWN}")).await, 0);
    api.delete("floatingip", &lone["id"]).await;

    for blank in [json!({"port_id": null}), json!({})] {
        api.update("floatingip", &floating_ip["id"], json!({"port_id": port["id"]})).await;
        let cleared = api.update("floatingip", &floating_ip["id"], blank).await;
        for key in ["port_id", "router_id", "fixed_ip_address", "port_details"] {
            assert_eq!(cleared[key], Value::Null);
        }
    }
    api.delete("floatingip", &floating_ip["id"]).await;
    let holders = api.get("/v2.0/ports?device_owner=network:floatingip").await;
    assert_eq!(holders["ports"], json!([]));
}

#[tokio::test]
async fn deleting_the_port_frees_its_floating_ip() {
    let World { api, external, port, .. } = world().await;
    let body = json!({"floating_network_id": external["id"], "port_id": port["id"]});
    let floating_ip = api.create("floatingip", body).await;
    let path = format!("/v2.0/ports/{}", text(&port["id"]));
    let moved = json!({"port": {"fixed_ips": [{"ip_address": "192.168.10.6"}]}});
    api.refuses(&[refusal("its fixed IP", ("PUT", &path, moved), (400, "BadRequest", "floating IP"))]).await;
    api.delete("port", &port["id"]).await;
    let left = api.get(&format!("/v2.0/floatingips/{}", text(&floating_ip["id"]))).await;
    assert_eq!(left["floatingip"]["port_id"], Value::Null);
    assert_eq!(left["floatingip"]["floating_ip_address"], floating_ip["floating_ip_address"]);
}

#[tokio::test]
async fn wrong_floating_ips_are_refused() {
    let World { api, external, subnet, port, .. } = world().await;
    let (inside, _) = api.tenant("unconnected", "10.0.0.0/24").await;
    let body = json!({"floating_network_id": external["id"], "port_id": port["id"]});
    let taken = api.create("floatingip", body).await;
    let empty = api.create("network", json!({"router:external": true})).await;
    let post = |change: Value| {
        let mut attributes = json!({"floating_network_id": external["id"]});
        attributes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ("POST", "/v2.0/floatingips", json!({"floatingip": attributes}))
    };
    let unknown = format!("/v2.0/floatingips/{UNKNOWN}");
    let bad = |message| (400, "BadRequest", message);
    api.refuses(&[
        refusal(
            "unknown network",
            post(json!({"floating_network_id": UNKNOWN})),
            (404, "NetworkNotFound", UNKNOWN),
        ),
        refusal(
            "tenant network",
            post(json!({"floating_network_id": inside["id"]})),
            bad("is not a valid external network"),
        ),
        refusal(
            "network without addresses",
            post(json!({"floating_network_id": empty["id"]})),
            (400, "ExternalIpAddressExhausted", "Unable to find any IP address on external network"),
        ),
        refusal(
            "no network",
            ("POST", "/v2.0/floatingips", json!({"floatingip": {}})),
            (400, "HTTPBadRequest", "Required attribute 'floating_network_id' not specified"),
        ),
        refusal(
            "taken",
            post(json!({"floating_ip_address": taken["floating_ip_address"]})),
            (409, "IpAddressAlreadyAllocated", text(&taken["floating_ip_address"])),
        ),
        refusal(
            "outside",
            post(json!({"floating_ip_address": "10.0.0.1"})),
            (400, "InvalidIpForNetwork", "10.0.0.1"),
        ),
        refusal(
            "wrong subnet",
            post(json!({"subnet_id": subnet["id"]})),
            (400, "InvalidInput", "invalid subnet"),
        ),
        refusal(
            "name",
            post(json!({"name": "x"})),
            (400, "HTTPBadRequest", "Unrecognized attribute(s) 'name'"),
        ),
        refusal("unknown", ("GET", &unknown, Value::Null), (404, "FloatingIPNotFound", UNKNOWN)),
        refusal(
            "by address",
            ("GET", "/v2.0/floatingips/172.22.7.30", Value::Null),
            (404, "FloatingIPNotFound", ""),
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_associations_are_refused() {
    let World { api, external, port, router, .. } = world().await;
    let (inside, alone) = api.tenant("unconnected", "10.0.0.0/24").await;
    let lonely = api.create("port", json!({"network_id": inside["id"]})).await;
    let bare = api.create("port", json!({"network_id": inside["id"], "fixed_ips": []})).await;
    let ips = json!([{"ip_address": "192.168.10.8"}, {"ip_address": "192.168.10.9"}]);
    let two = api.create("port", json!({"network_id": port["network_id"], "fixed_ips": ips})).await;
    let body = json!({"floating_network_id": external["id"], "port_id": port["id"]});
    api.create("floatingip", body).await;
    let post = |change: Value| {
        let mut attributes = json!({"floating_network_id": external["id"]});
        attributes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ("POST", "/v2.0/floatingips", json!({"floatingip": attributes}))
    };
    let bad = |message| (400, "BadRequest", message);
    let both = json!({"port_id": port["id"], "fixed_ip_address": "192.168.10.77"});
    api.refuses(&[
        refusal("unknown port", post(json!({"port_id": UNKNOWN})), (404, "PortNotFound", UNKNOWN)),
        refusal(
            "no way there",
            post(json!({"port_id": lonely["id"]})),
            (404, "ExternalGatewayForFloatingIPNotFound", text(&alone["id"])),
        ),
        refusal("no address", post(json!({"port_id": bare["id"]})), bad("has no fixed IPv4 addresses")),
        refusal("which address", post(json!({"port_id": two["id"]})), bad("multiple fixed IPv4 addresses")),
        refusal("not its address", post(both), bad("does not have fixed ip 192.168.10.77")),
        refusal("address alone", post(json!({"fixed_ip_address": "192.168.10.5"})), bad("without a port_id")),
        refusal(
            "has one",
            post(json!({"port_id": port["id"]})),
            (409, "FloatingIPPortAlreadyAssociated", "already has a floating IP"),
        ),
    ])
    .await;
    let chosen = post(json!({"port_id": two["id"], "fixed_ip_address": "192.168.10.9"}));
    let answer = api.call(chosen.0, chosen.1, chosen.2).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.body["floatingip"]["fixed_ip_address"], "192.168.10.9");
    assert_eq!(answer.body["floatingip"]["router_id"], router["id"]);
}

#[tokio::test]
async fn idle_ones_go_with_their_network_and_others_keep_it() {
    let api = Api::new();
    let (external, _) = api.external().await;
    api.create("floatingip", json!({"floating_network_id": external["id"]})).await;
    let path = format!("/v2.0/networks/{}", text(&external["id"]));
    assert_eq!(api.call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(api.get("/v2.0/floatingips").await["floatingips"], json!([]));
    assert_eq!(api.get("/v2.0/ports").await["ports"], json!([]));

    let (external, _) = api.external().await;
    let (network, subnet) = api.tenant("blue", "10.0.0.0/24").await;
    api.router(&external, &subnet).await;
    let port = api.create("port", json!({"network_id": network["id"]})).await;
    let attributes = json!({"floating_network_id": external["id"], "port_id": port["id"]});
    api.create("floatingip", attributes).await;
    api.create("floatingip", json!({"floating_network_id": external["id"]})).await;
    let path = format!("/v2.0/networks/{}", text(&external["id"]));
    assert_eq!(api.call("DELETE", &path, Value::Null).await.status, 409);
    let left = api.get("/v2.0/floatingips").await;
    assert_eq!(left["floatingips"].as_array().unwrap().len(), 2, "nothing is lost by a refusal");
}
