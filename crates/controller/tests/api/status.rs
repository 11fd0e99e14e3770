//! Status and binding of ports and floating IPs, agents, and administrators' views.

use crate::common::{Api, NOW, UNKNOWN, refusal, text};
use controller::nat_log::{self, NatLog};
use model::resource::{FloatingIp, Host, Port, PortBlock};
use model::{HostId, Mac};
use serde_json::{Value, json};
use store::StoreError;

pub(crate) fn host(name: &str, last: u8) -> Host {
    Host {
        id: HostId::random(),
        name: name.to_owned(),
        vtep: [10, 255, 0, last].into(),
        dvr_mac: Mac([0xfa, 0x16, 0x3f, 0, 0, last]),
        physical_networks: vec!["physnet1".to_owned()],
        version: "0.1.0".to_owned(),
        created_at: NOW,
        started_at: NOW,
        drained: false,
        description: String::new(),
        live: true,
    }
}

pub(crate) fn put<R: store::Record>(api: &Api, record: R) {
    let put = |tx: &mut store::Transaction| {
        tx.put(record);
        Ok::<_, StoreError>(())
    };
    api.store.transact(put).unwrap();
}

#[tokio::test]
async fn a_port_is_active_where_it_is_programmed_and_down_anywhere_else() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    let (first, second) = (host("ahv01", 1), host("ahv02", 2));
    put(&api, first.clone());
    put(&api, Host { live: false, ..second });
    let shown = |port: &Value| (text(&port["status"]).to_owned(), text(&port["binding:vif_type"]).to_owned());
    let state = |status: &str, vif_type: &str| (status.to_owned(), vif_type.to_owned());
    let attributes = json!({
        "network_id": network["id"], "device_owner": "compute:nova", "binding:host_id": "ahv01",
        "binding:profile": {"key": 1},
    });
    let port = api.create("port", attributes).await;
    assert_eq!(shown(&port), state("DOWN", "ovs"));
    assert_eq!(port["binding:profile"], json!({"key": 1}));
    let id = text(&port["id"]).parse().unwrap();
    let stored = api.store.snapshot().get::<Port>(id).unwrap().clone();
    put(&api, Port { programmed_on: Some(first.id), ..Port::clone(&stored) });
    let path = format!("/v2.0/ports/{}", text(&port["id"]));
    assert_eq!(shown(&api.get(&path).await["port"]), state("ACTIVE", "ovs"));
    assert_eq!(api.get("/v2.0/ports?status=ACTIVE").await["ports"].as_array().unwrap().len(), 1);
    let off = api.update("port", &port["id"], json!({"admin_state_up": false})).await;
    assert_eq!(shown(&off), state("DOWN", "ovs"));
    let table = [
        (json!("ahv02"), state("DOWN", "binding_failed")),
        (json!("nowhere"), state("DOWN", "binding_failed")),
        (json!(""), state("DOWN", "unbound")),
        (json!("ahv01"), state("DOWN", "ovs")),
        (Value::Null, state("DOWN", "unbound")),
    ];
    for (host, want) in table {
        let change = json!({"binding:host_id": host, "admin_state_up": true});
        let changed = api.update("port", &port["id"], change).await;
        assert_eq!(shown(&changed), want, "{host}");
    }
}

#[tokio::test]
async fn a_floating_ip_is_active_when_programmed_until_it_moves() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    api.router(&external, &subnet).await;
    put(&api, host("ahv01", 1));
    let bound = json!({"network_id": network["id"], "binding:host_id": "ahv01"});
    let port = api.create("port", bound).await;
    let other = api.create("port", json!({"network_id": network["id"]})).await;
    let body = json!({"floating_network_id": external["id"], "port_id": port["id"]});
    let floating_ip = api.create("floatingip", body).await;
    let program = || {
        let id = text(&floating_ip["id"]).parse().unwrap();
        let stored = api.store.snapshot().get::<FloatingIp>(id).unwrap().clone();
        put(&api, FloatingIp { programmed: true, ..FloatingIp::clone(&stored) });
    };
    let path = format!("/v2.0/floatingips/{}", text(&floating_ip["id"]));
    let changes = [
        ("floatingip", &floating_ip, json!({"description": "same"}), "ACTIVE"),
        ("floatingip", &floating_ip, json!({"port_id": port["id"]}), "ACTIVE"),
        ("port", &port, json!({"name": "same"}), "ACTIVE"),
        ("port", &port, json!({"binding:host_id": "ahv02"}), "DOWN"),
        ("floatingip", &floating_ip, json!({"port_id": other["id"]}), "DOWN"),
        ("floatingip", &floating_ip, json!({"port_id": null}), "DOWN"),
    ];
    for (name, resource, change, want) in changes {
        program();
        api.update(name, &resource["id"], change.clone()).await;
        assert_eq!(api.get(&path).await["floatingip"]["status"], want, "{name} {change}");
    }
}

#[tokio::test]
async fn agents_are_the_hosts() {
    let api = Api::new();
    let (live, gone) = (host("ahv01", 1), Host { live: false, ..host("ahv02", 2) });
    put(&api, live.clone());
    put(&api, gone.clone());
    let agents = api.get("/v2.0/agents?host=ahv01").await;
    let want = json!({
        "id": live.id, "agent_type": "Nanboku agent", "binary": "nanboku", "topic": "N/A", "host": "ahv01",
        "admin_state_up": true, "alive": true, "availability_zone": "nova",
        "configurations": {
            "vtep": "10.255.0.1", "dvr_mac": "fa:16:3f:00:00:01", "physical_networks": ["physnet1"],
            "version": "0.1.0", "programmed_revision": null,
        },
        "created_at": "2026-11-22 06:00:00", "started_at": "2026-11-22 06:00:00",
        "heartbeat_timestamp": "2026-11-22 06:00:00", "description": null, "resources_synced": null,
        "resource_versions": {},
    });
    assert_eq!(agents, json!({"agents": [want]}));
    assert_eq!(api.get(&format!("/v2.0/agents/{}", live.id)).await, json!({"agent": want}));
    assert_eq!(api.get("/v2.0/agents?alive=False").await["agents"][0]["host"], "ahv02");
    let drained = api.update("agent", &json!(live.id), json!({"admin_state_up": false})).await;
    assert_eq!(drained["admin_state_up"], false);
    assert!(api.store.snapshot().get::<Host>(live.id).unwrap().drained);
    let words = api.update("agent", &json!(live.id), json!({"description": "rack 7"})).await;
    assert_eq!((&words["description"], &words["admin_state_up"]), (&json!("rack 7"), &json!(false)));
    assert_eq!(api.get("/v2.0/agents?description=rack%207").await["agents"][0]["host"], "ahv01");
    assert_eq!(api.store.snapshot().get::<Host>(live.id).unwrap().description, "rack 7");
    for nothing in [json!(""), Value::Null] {
        api.update("agent", &json!(live.id), json!({"description": "rack 8"})).await;
        let cleared = api.update("agent", &json!(live.id), json!({"description": nothing})).await;
        assert_eq!(cleared["description"], Value::Null);
    }
    let path = format!("/v2.0/agents/{}", live.id);
    api.refuses(&[
        refusal(
            "description",
            ("PUT", &path, json!({"agent": {"description": 7}})),
            (400, "HTTPBadRequest", "'7' is not a valid string"),
        ),
        refusal("alive", ("DELETE", &path, Value::Null), (409, "AgentInUse", "")),
        refusal(
            "unknown",
            ("GET", &format!("/v2.0/agents/{UNKNOWN}"), Value::Null),
            (404, "AgentNotFound", UNKNOWN),
        ),
        refusal("no tags", ("GET", &format!("{path}/tags"), Value::Null), (404, "HTTPNotFound", "")),
    ])
    .await;
    api.delete("agent", &json!(gone.id)).await;
}

#[tokio::test]
async fn administrators_see_hosts_blocks_and_status() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let gateway =
        json!({"network_id": external["id"], "external_fixed_ips": [{"ip_address": "172.22.7.27"}]});
    let router = api.create("router", json!({"name": "blue", "external_gateway_info": gateway})).await;
    let ahv01 = host("ahv01", 1);
    put(&api, ahv01.clone());
    put(
        &api,
        PortBlock {
            external_network: text(&external["id"]).parse().unwrap(),
            address: [172, 22, 7, 27].into(),
            first_port: 2048,
            router: text(&router["id"]).parse().unwrap(),
            host: ahv01.id,
            granted_at_ms: (NOW - 90) * 1000,
            retiring_since_ms: None,
        },
    );
    let hosts = api.get("/nanboku/v1/hosts").await;
    assert_eq!(hosts["hosts"][0]["name"], "ahv01");
    for path in [format!("/nanboku/v1/hosts/{}", ahv01.id), "/nanboku/v1/hosts/ahv01".to_owned()] {
        let host = api.get(&path).await["host"].clone();
        assert_eq!((&host["vtep"], &host["live"]), (&json!("10.255.0.1"), &json!(true)));
        assert_eq!((&host["connected"], &host["age_seconds"]), (&json!(false), &Value::Null));
    }
    let blocks = api.get("/nanboku/v1/blocks").await;
    let want = json!({
        "external_network_id": external["id"], "address": "172.22.7.27", "first_port": 2048,
        "last_port": 3071, "router_id": router["id"], "router": "blue", "host_id": ahv01.id, "host": "ahv01",
        "ports": 1024, "age_seconds": 90, "retiring": false,
    });
    assert_eq!(blocks, json!({"blocks": [want]}));
    let status = api.get("/nanboku/v1/status").await["status"].clone();
    assert_eq!(
        (&status["hosts"], &status["hosts_live"], &status["routers"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let silent = json!([{"host": "ahv01", "answered": false, "reason": "it is not connected"}]);
    assert_eq!(api.get("/nanboku/v1/sessions").await, json!({"sessions": [], "hosts": silent}));
    api.refuses(&[
        refusal("unknown", ("GET", "/nanboku/v1/hosts/none", Value::Null), (404, "HostNotFound", "none")),
        refusal(
            "sessions of nobody",
            ("GET", "/nanboku/v1/sessions?host=none", Value::Null),
            (404, "HostNotFound", "none"),
        ),
        refusal(
            "not connected",
            ("GET", "/nanboku/v1/sessions?host=ahv01", Value::Null),
            (503, "AgentUnreachable", "ahv01"),
        ),
        refusal(
            "limit",
            ("GET", "/nanboku/v1/sessions?limit=x", Value::Null),
            (400, "HTTPBadRequest", "limit"),
        ),
        refusal("key", ("GET", "/nanboku/v1/sessions?hots=a", Value::Null), (400, "HTTPBadRequest", "hots")),
    ])
    .await;
}

fn in_ms(block: &PortBlock, granted_at_ms: i64) -> PortBlock {
    PortBlock { granted_at_ms, ..*block }
}

#[tokio::test]
async fn who_has_a_port_now_and_had_it_then() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(store::Store::open(None).unwrap());
    let settings =
        nat_log::Settings { path: dir.path().join("nat.log"), bytes_max: 1 << 20, files: 2, syslog: None };
    let log = std::sync::Arc::new(NatLog::open(settings, &store.snapshot(), (NOW - 3600) * 1000).unwrap());
    let api = Api::over(store, Some(std::sync::Arc::clone(&log)));
    let (external, _) = api.external().await;
    let gateway =
        json!({"network_id": external["id"], "external_fixed_ips": [{"ip_address": "172.22.7.27"}]});
    let router = api.create("router", json!({"name": "blue", "external_gateway_info": gateway})).await;
    let (ahv01, ahv02) = (host("ahv01", 1), host("ahv02", 2));
    put(&api, ahv01.clone());
    put(&api, ahv02.clone());
    let block = PortBlock {
        external_network: text(&external["id"]).parse().unwrap(),
        address: [172, 22, 7, 27].into(),
        first_port: 2048,
        router: text(&router["id"]).parse().unwrap(),
        host: ahv01.id,
        granted_at_ms: 0,
        retiring_since_ms: None,
    };
    let mut before = api.store.snapshot();
    for (host, at) in [(ahv01.id, NOW - 1800), (ahv02.id, NOW - 60)] {
        put(&api, PortBlock { host, ..in_ms(&block, at * 1000) });
        let after = api.store.snapshot();
        log.record(&before, &after, at * 1000).unwrap();
        before = after;
    }
    let who = async |query: &str| {
        let who = api.get(&format!("/nanboku/v1/who?address=172.22.7.27&{query}")).await["who"].clone();
        let holders = who["holders"].as_array().unwrap().iter();
        let holders =
            holders.map(|holder| [&holder["host"], &holder["router"], &holder["since"], &holder["until"]]);
        holders
            .map(|texts| texts.map(|text| text.as_str().unwrap_or("-").to_owned()).join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(who("port=3071").await, ["ahv02 blue 2026-11-22T05:59:00.000Z -"]);
    assert_eq!(who("port=3072").await, [""; 0]);
    let then = "ahv01 blue 2026-11-22T05:30:00.000Z 2026-11-22T05:59:00.000Z";
    assert_eq!(who("port=2048&at=2026-11-22T05:58:59Z").await, [then]);
    assert_eq!(who("port=2048&at=2026-11-22T06:58:59%2B01:00").await, [then]);
    assert_eq!(who("port=2048&at=2026-11-22T05:29:59Z").await, [""; 0]);
    let get = |query: &str| ("GET", format!("/nanboku/v1/who?{query}"), Value::Null);
    for (query, said) in [
        ("port=1", "address is required"),
        ("address=172.22.7.27", "port is required"),
        ("address=here&port=1", "address must be an IPv4 address and not 'here'"),
        ("address=172.22.7.27&port=65536", "port must be a port and not '65536'"),
        ("address=172.22.7.27&port=1&at=yesterday", "at must be a time such as"),
        ("address=172.22.7.27&port=1&at=2030-01-01T00:00:00Z", "at lies in the future"),
        ("address=172.22.7.27&port=1&when=now", "'when'"),
    ] {
        let (method, path, body) = get(query);
        api.refuses(&[refusal(query, (method, &path, body), (400, "HTTPBadRequest", said))]).await;
    }
    let path = "/nanboku/v1/who?address=172.22.7.27&port=1&at=2026-11-22T05:00:00Z";
    let without = Api::new();
    without
        .refuses(&[refusal("no log", ("GET", path, Value::Null), (400, "HTTPBadRequest", "nat_log"))])
        .await;
}
