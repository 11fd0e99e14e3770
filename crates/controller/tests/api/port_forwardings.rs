//! Ports of a floating IP that lead to ports of VMs.

use crate::common::{Api, UNKNOWN, refusal, text};
use model::resource::FloatingIp;
use serde_json::{Value, json};
use store::StoreError;

struct World {
    api: Api,
    external: Value,
    network: Value,
    subnet: Value,
    router: Value,
    port: Value,
    floating_ip: Value,
    /// Of the floating IP's forwardings.
    path: String,
}

async fn world() -> World {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    let router = api.router(&external, &subnet).await;
    let ips = json!([{"ip_address": "192.168.10.5"}]);
    let port = api.create("port", json!({"network_id": network["id"], "fixed_ips": ips})).await;
    let floating_ip = api.create("floatingip", json!({"floating_network_id": external["id"]})).await;
    let path = format!("/v2.0/floatingips/{}/port_forwardings", text(&floating_ip["id"]));
    World { api, external, network, subnet, router, port, floating_ip, path }
}

impl World {
    /// TCP to the VM's SSH, with changes.
    fn body(&self, change: Value) -> Value {
        let mut attributes = json!({
            "external_port": 2222, "internal_port": 22, "internal_port_id": self.port["id"],
            "internal_ip_address": "192.168.10.5", "protocol": "tcp",
        });
        attributes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"port_forwarding": attributes})
    }

    async fn forward(&self, change: Value) -> Value {
        let answer = self.api.call("POST", &self.path, self.body(change)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["port_forwarding"].clone()
    }

    async fn floating_ip(&self) -> Value {
        let path = format!("/v2.0/floatingips/{}", text(&self.floating_ip["id"]));
        self.api.get(&path).await["floatingip"].clone()
    }

    async fn ids(&self, query: &str) -> Vec<Value> {
        let list = self.api.get(&format!("{}?{query}", self.path)).await;
        list["port_forwardings"].as_array().unwrap().iter().map(|of| of["id"].clone()).collect()
    }
}

#[tokio::test]
async fn a_port_is_forwarded_until_it_is_not() {
    let world = world().await;
    let ssh = world.forward(json!({"description": "ssh"})).await;
    let want = json!({
        "id": ssh["id"], "description": "ssh", "external_port": 2222, "internal_port": 22,
        "internal_port_id": world.port["id"], "internal_ip_address": "192.168.10.5", "protocol": "tcp",
    });
    assert_eq!(ssh, want);
    let one = format!("{}/{}", world.path, text(&ssh["id"]));
    assert_eq!(world.api.get(&one).await["port_forwarding"], want);
    let shown = world.floating_ip().await;
    let mut within = want.clone();
    within.as_object_mut().unwrap().remove("description");
    assert_eq!(shown["port_forwardings"], json!([within]));
    assert_eq!((&shown["router_id"], &shown["port_id"]), (&world.router["id"], &Value::Null));
    assert!(shown["revision_number"].as_u64() > world.floating_ip["revision_number"].as_u64());

    // Numbers may come as texts, and the address is the port's first if none is told.
    let text_form = json!({"external_port": "53", "internal_port": "5353", "protocol": "UDP", "internal_ip_address": null});
    let dns = world.forward(text_form).await;
    assert_eq!((&dns["external_port"], &dns["protocol"]), (&json!(53), &json!("udp")));
    assert_eq!(dns["internal_ip_address"], "192.168.10.5");

    let change = json!({"port_forwarding": {"external_port": 2022, "description": "moved"}});
    let changed = world.api.call("PUT", &one, change).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.body["port_forwarding"]["external_port"], 2022);
    assert_eq!(changed.body["port_forwarding"]["internal_port"], 22, "the rest stays");

    for id in [&ssh["id"], &dns["id"]] {
        let one = format!("{}/{}", world.path, text(id));
        assert_eq!(world.api.call("DELETE", &one, Value::Null).await.status, 204);
        assert_eq!(world.api.call("DELETE", &one, Value::Null).await.status, 404);
    }
    let free = world.floating_ip().await;
    assert_eq!((&free["router_id"], &free["port_forwardings"]), (&Value::Null, &json!([])));
    world.api.update("floatingip", &free["id"], json!({"port_id": world.port["id"]})).await;
}

#[tokio::test]
async fn forwardings_are_listed_filtered_and_paged_like_everything() {
    let world = world().await;
    let one = world.forward(json!({})).await;
    let two = world.forward(json!({"external_port": 80, "internal_port": 8080, "description": "web"})).await;
    let api_id = &world.port["id"];
    for (query, want) in [
        ("external_port=80", vec![&two]),
        ("internal_port=22", vec![&one]),
        ("description=web", vec![&two]),
        ("protocol=udp", vec![]),
        ("internal_ip_address=192.168.10.5&sort_key=external_port&sort_dir=asc", vec![&two, &one]),
        ("sort_key=external_port&sort_dir=desc&limit=1", vec![&one]),
    ] {
        let want: Vec<Value> = want.into_iter().map(|of| of["id"].clone()).collect();
        assert_eq!(world.ids(query).await, want, "{query}");
    }
    assert_eq!(world.ids(&format!("internal_port_id={}", text(api_id))).await.len(), 2);
    let fields = world.api.get(&format!("{}?fields=protocol&external_port=80", world.path)).await;
    assert_eq!(fields["port_forwardings"], json!([{"protocol": "tcp"}]));
    let bulk = json!({"port_forwardings": [
        world.body(json!({"external_port": 1, "internal_port": 1}))["port_forwarding"],
        world.body(json!({"external_port": 2, "internal_port": 1}))["port_forwarding"],
    ]});
    let refused = world.api.call("POST", &world.path, bulk).await;
    assert_eq!((refused.status.as_u16(), world.ids("").await.len()), (400, 2), "all or none");
    world
        .api
        .refuses(&[refusal(
            "bogus filter",
            ("GET", format!("{}?bogus=1", world.path), Value::Null),
            (400, "HTTPBadRequest", "['bogus'] is invalid attribute for filtering"),
        )])
        .await;
}

#[tokio::test]
async fn wrong_forwardings_are_refused() {
    let world = world().await;
    let api = &world.api;
    let taken = world.forward(json!({})).await;
    let (inside, _) = api.tenant("unconnected", "10.0.0.0/24").await;
    let lonely = api.create("port", json!({"network_id": inside["id"]})).await;
    let bare = api.create("port", json!({"network_id": inside["id"], "fixed_ips": []})).await;
    let served = api.create("port", json!({"network_id": world.network["id"]})).await;
    let whole = json!({"floating_network_id": world.external["id"], "port_id": served["id"]});
    let whole = api.create("floatingip", whole).await;
    let second = api.create("floatingip", json!({"floating_network_id": world.external["id"]})).await;
    let of = |floating_ip: &Value| format!("/v2.0/floatingips/{}/port_forwardings", text(&floating_ip["id"]));
    let post = |change: Value| ("POST", world.path.clone(), world.body(change));
    let bad = |message| (400, "BadRequest", message);
    let free = json!({"external_port": 80, "internal_port": 8080});
    let other = |port: &Value| json!({"external_port": 80, "internal_port_id": port["id"], "internal_ip_address": null});
    api.refuses(&[
        refusal(
            "no floating IP",
            ("POST", format!("/v2.0/floatingips/{UNKNOWN}/port_forwardings"), world.body(free.clone())),
            (404, "FloatingIPNotFound", UNKNOWN),
        ),
        refusal(
            "unknown",
            ("GET", format!("{}/{UNKNOWN}", world.path), Value::Null),
            (404, "PortForwardingNotFound", UNKNOWN),
        ),
        refusal(
            "another's",
            ("GET", format!("{}/{}", of(&second), text(&taken["id"])), Value::Null),
            (404, "PortForwardingNotFound", "could not be found"),
        ),
        refusal("unknown port", post(json!({"internal_port_id": UNKNOWN})), (404, "PortNotFound", UNKNOWN)),
        refusal(
            "not its address",
            post(json!({"internal_ip_address": "192.168.10.6"})),
            bad("is not suitable for internal neutron port"),
        ),
        refusal("no address", post(other(&bare)), bad("must allocate an IPv4 address")),
        refusal("no way there", post(other(&lonely)), bad("is not reachable from subnet")),
        refusal(
            "port outside is taken",
            post(json!({"internal_port": 23})),
            bad("duplicate port forwarding entry"),
        ),
        refusal(
            "port inside is taken",
            post(json!({"external_port": 23})),
            bad("duplicate port forwarding entry"),
        ),
        refusal(
            "by another floating IP",
            ("POST", of(&second), world.body(json!({"external_port": 23}))),
            bad("duplicate port forwarding entry"),
        ),
        refusal(
            "stands for an address",
            ("POST", of(&whole), world.body(free)),
            (409, "FloatingIPPortAlreadyAssociated", text(&whole["floating_ip_address"])),
        ),
        refusal(
            "has a floating IP",
            post(other(&served)),
            (409, "PortHasBindingFloatingIP", "already has a binding floating IP"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_ports_and_protocols_are_refused() {
    let world = world().await;
    let api = &world.api;
    world.forward(json!({})).await;
    let post = |change: Value| ("POST", world.path.clone(), world.body(change));
    let bad = |message| (400, "BadRequest", message);
    let invalid = |message| (400, "HTTPBadRequest", message);
    api.refuses(&[
        refusal("no port 0", post(json!({"external_port": 0})), invalid("Invalid port '0'")),
        refusal("no such port", post(json!({"internal_port": 65536})), invalid("Invalid port '65536'")),
        refusal("no number", post(json!({"internal_port": "ssh"})), invalid("'ssh' is not an integer")),
        refusal("not translated", post(json!({"protocol": "sctp"})), invalid("'sctp' is not in")),
        refusal(
            "range",
            post(json!({"external_port_range": "1:2"})),
            invalid("Unrecognized attribute(s) 'external_port_range'"),
        ),
        refusal(
            "half",
            ("POST", world.path.clone(), json!({"port_forwarding": {"external_port": 80}})),
            invalid("Required attribute 'internal_port' not specified"),
        ),
        refusal(
            "change to one taken",
            ("PUT", format!("{}/{UNKNOWN}", world.path), json!({"port_forwarding": {"external_port": 80}})),
            (404, "PortForwardingNotFound", UNKNOWN),
        ),
    ])
    .await;
    let web = world.forward(json!({"external_port": 80, "internal_port": 8080})).await;
    let one = format!("{}/{}", world.path, text(&web["id"]));
    let change = |change: Value| ("PUT", one.clone(), json!({"port_forwarding": change}));
    api.refuses(&[
        refusal("taken outside", change(json!({"external_port": 2222})), bad("duplicate")),
        refusal("taken inside", change(json!({"internal_port": 22})), bad("duplicate")),
        refusal("not its address", change(json!({"internal_ip_address": "10.9.9.9"})), bad("not suitable")),
        refusal("id", change(json!({"id": UNKNOWN})), invalid("Cannot update read-only attribute id")),
    ])
    .await;
}

/// What a forwarding needs stays while it is there.
#[tokio::test]
async fn forwardings_hold_what_they_go_through() {
    let world = world().await;
    let api = &world.api;
    world.forward(json!({})).await;
    let free = api.create("floatingip", json!({"floating_network_id": world.external["id"]})).await;
    let at = |kind: &str, id: &Value| format!("/v2.0/{kind}/{}", text(id));
    let router = text(&world.router["id"]);
    let own = at("floatingips", &world.floating_ip["id"]);
    let to_port = json!({"floatingip": {"port_id": world.port["id"]}});
    let in_use = (409, "FipInUseByPortForwarding", "in use by Port Forwarding resources");
    api.refuses(&[
        refusal("delete", ("DELETE", own.clone(), Value::Null), in_use),
        refusal("associate", ("PUT", own, to_port.clone()), in_use),
        refusal(
            "another to its port",
            ("PUT", at("floatingips", &free["id"]), to_port),
            (400, "PortHasPortForwarding", "already has a Port Forwarding binding"),
        ),
        refusal(
            "interface",
            (
                "PUT",
                format!("/v2.0/routers/{router}/remove_router_interface"),
                json!({"subnet_id": world.subnet["id"]}),
            ),
            (409, "RouterInterfaceInUseByFloatingIP", router),
        ),
        refusal(
            "gateway",
            ("PUT", format!("/v2.0/routers/{router}"), json!({"router": {"external_gateway_info": null}})),
            (409, "RouterExternalGatewayInUseByFloatingIp", router),
        ),
    ])
    .await;
    let network = api.call("DELETE", &at("networks", &world.external["id"]), Value::Null).await;
    assert_eq!(network.status, 409);
    assert!(api.store.snapshot().audit().is_empty());
}

#[tokio::test]
async fn forwardings_end_with_the_port_or_the_address_they_lead_to() {
    let world = world().await;
    let ips = json!([{"ip_address": "192.168.10.5"}, {"ip_address": "192.168.10.6"}]);
    world.api.update("port", &world.port["id"], json!({"fixed_ips": ips})).await;
    world.forward(json!({})).await;
    let second = json!({"external_port": 2223, "internal_ip_address": "192.168.10.6"});
    let second = world.forward(second).await;
    let left = json!([{"ip_address": "192.168.10.6"}]);
    world.api.update("port", &world.port["id"], json!({"fixed_ips": left})).await;
    assert_eq!(world.ids("").await, [second["id"].clone()]);
    world.api.delete("port", &world.port["id"]).await;
    assert_eq!(world.floating_ip().await["port_forwardings"], json!([]));
    world.api.delete("floatingip", &world.floating_ip["id"]).await;
    assert!(world.api.store.snapshot().audit().is_empty());
}

#[tokio::test]
async fn a_floating_ip_forwards_256_ports_and_no_more() {
    let world = world().await;
    let one = |n: u32| world.body(json!({"external_port": n, "internal_port": n}))["port_forwarding"].clone();
    let many: Vec<Value> = (1..=256).map(one).collect();
    let answer = world.api.call("POST", &world.path, json!({"port_forwardings": many})).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let more = json!({"port_forwarding": one(257)});
    let over = (409, "OverQuota", "port_forwarding");
    world.api.refuses(&[refusal("one more", ("POST", world.path.clone(), more), over)]).await;
}

#[tokio::test]
async fn it_is_active_when_programmed_until_something_changes() {
    let world = world().await;
    let ssh = world.forward(json!({})).await;
    assert_eq!(world.floating_ip().await["status"], "DOWN");
    let one = format!("{}/{}", world.path, text(&ssh["id"]));
    for (change, want) in [(json!({"description": "same"}), "ACTIVE"), (json!({"internal_port": 23}), "DOWN")]
    {
        let id = text(&world.floating_ip["id"]).parse().unwrap();
        let stored = world.api.store.snapshot().get::<FloatingIp>(id).unwrap().clone();
        let put = world.api.store.transact::<_, StoreError>(|transaction| {
            transaction.put(FloatingIp { programmed: true, ..FloatingIp::clone(&stored) });
            Ok(())
        });
        put.unwrap();
        let answer = world.api.call("PUT", &one, json!({"port_forwarding": change})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(world.floating_ip().await["status"], want, "{change}");
    }
}

/// Whose the floating IP is forwards its ports, to ports of its own.
#[tokio::test]
async fn others_neither_see_nor_make_them() {
    let api = Api::with_callers();
    let uplink = json!({
        "router:external": true, "provider:network_type": "flat", "provider:physical_network": "physnet1",
    });
    let external = api.create_as("a/admin", "network", uplink).await;
    let addresses = json!({"network_id": external["id"], "ip_version": 4, "cidr": "172.22.7.0/24"});
    api.create_as("a/admin", "subnet", addresses).await;
    let vpc = async |token: &str, cidr: &str| {
        let network = api.create_as(token, "network", json!({})).await;
        let subnet = json!({"network_id": network["id"], "ip_version": 4, "cidr": cidr});
        let subnet = api.create_as(token, "subnet", subnet).await;
        let gateway = json!({"external_gateway_info": {"network_id": external["id"]}});
        let router = api.create_as(token, "router", gateway).await;
        let path = format!("/v2.0/routers/{}/add_router_interface", text(&router["id"]));
        let added = api.call_as(token, "PUT", &path, json!({"subnet_id": subnet["id"]})).await;
        assert_eq!(added.status, 200, "{}", added.body);
        api.create_as(token, "port", json!({"network_id": network["id"]})).await
    };
    let (red, blue) = (vpc("red/member", "10.0.0.0/24").await, vpc("blue/member", "10.1.0.0/24").await);
    let floating_ip = json!({"floating_network_id": external["id"]});
    let floating_ip = api.create_as("red/member", "floatingip", floating_ip).await;
    let path = format!("/v2.0/floatingips/{}/port_forwardings", text(&floating_ip["id"]));
    let body = |port: &Value, external_port: u16| {
        json!({"port_forwarding": {
            "external_port": external_port, "internal_port": external_port, "protocol": "tcp",
            "internal_port_id": port["id"],
        }})
    };
    let made = api.call_as("red/member", "POST", &path, body(&red, 80)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let one = format!("{path}/{}", text(&made.body["port_forwarding"]["id"]));
    let change = json!({"port_forwarding": {"description": "x"}});
    let all = [
        ("GET", &path, Value::Null, [200, 404]),
        ("GET", &one, Value::Null, [200, 404]),
        ("POST", &path, body(&red, 81), [403, 404]),
        ("PUT", &one, change.clone(), [403, 404]),
        ("DELETE", &one, Value::Null, [403, 404]),
    ];
    for (verb, path, body, want) in all {
        for (token, want) in ["red/reader", "blue/member"].into_iter().zip(want) {
            let answer = api.call_as(token, verb, path, body.clone()).await;
            assert_eq!(answer.status.as_u16(), want, "{token} {verb} {path}: {}", answer.body);
        }
    }
    let foreign = api.call_as("red/member", "POST", &path, body(&blue, 82)).await;
    assert_eq!(
        (foreign.status.as_u16(), &foreign.body["NeutronError"]["type"]),
        (404, &json!("PortNotFound"))
    );
    let foreign = json!({"port_forwarding": {"internal_port_id": blue["id"]}});
    assert_eq!(api.call_as("red/member", "PUT", &one, foreign).await.status, 404);
    assert_eq!(api.call_as("a/admin", "PUT", &one, change).await.status, 200);
    assert_eq!(api.call_as("red/member", "DELETE", &one, Value::Null).await.status, 204);
}
