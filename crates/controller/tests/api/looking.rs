//! Who may look at whose packets. Goal: a member captures and traces its own ports and nothing else. Method: a port of
//! the project red, asked about by red, blue and an administrator; no agent is there to answer.

use crate::common::{Api, UNKNOWN, text};
use serde_json::{Value, json};

const CAPTURE: &str = "/nanboku/v1/capture";
const TRACE: &str = "/nanboku/v1/trace";

/// A port of red on red's network, and one of blue's on the same network.
async fn ports(api: &Api) -> (Value, Value) {
    let network = api.create_as("red/member", "network", json!({"name": "net"})).await;
    let id = &network["id"];
    api.create_as("red/member", "subnet", json!({"network_id": id, "ip_version": 4, "cidr": "10.0.0.0/24"}))
        .await;
    let own = api.create_as("red/member", "port", json!({"network_id": id})).await;
    let of_blue = json!({"network_id": id, "project_id": "blue"});
    (own, api.create_as("a/admin", "port", of_blue).await)
}

async fn status(api: &Api, token: &str, query: &str) -> (u16, String) {
    let answer = api.call_as(token, "GET", &format!("{CAPTURE}?{query}"), Value::Null).await;
    (answer.status.as_u16(), answer.body["NeutronError"]["type"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_member_captures_at_its_own_ports_only() {
    let api = Api::with_callers();
    let (own, of_blue) = ports(&api).await;
    let of = |port: &Value| format!("port_id={}", text(&port["id"]));
    let ok = (200, String::new());
    let missing = (404, "PortNotFound".to_owned());
    let forbidden = (403, "PolicyNotAuthorized".to_owned());
    assert_eq!(status(&api, "red/member", &of(&own)).await, ok);
    assert_eq!(status(&api, "blue/member", &of(&own)).await, missing, "another tenant's");
    assert_eq!(
        status(&api, "red/member", &of(&of_blue)).await,
        missing,
        "another tenant's on the own network"
    );
    assert_eq!(status(&api, "blue/member", &of(&of_blue)).await, ok);
    assert_eq!(status(&api, "red/member", &format!("port_id={UNKNOWN}")).await, missing);
    for more in [
        "host=ahv01",
        "physical_network=physnet1",
        "edge=snat",
        &format!("router_id={UNKNOWN}"),
        &format!("network_id={UNKNOWN}"),
    ] {
        assert_eq!(status(&api, "red/member", &format!("{}&{more}", of(&own))).await, forbidden, "{more}");
    }
    assert_eq!(status(&api, "red/member", "").await, forbidden, "everything");
    assert_eq!(status(&api, "a/admin", "").await, ok);
    assert_eq!(status(&api, "a/admin", &of(&own)).await, ok);
    let bad = (400, "HTTPBadRequest".to_owned());
    assert_eq!(status(&api, "a/admin", "filter=hots%201.2.3.4").await, bad);
    assert_eq!(status(&api, "a/admin", "edge=nat").await, bad);
    assert_eq!(status(&api, "a/admin", "colour=red").await, bad);
}

#[tokio::test]
async fn a_member_traces_from_its_own_ports_only() {
    let api = Api::with_callers();
    let (own, of_blue) = ports(&api).await;
    let post = async |token: &str, body: Value| api.call_as(token, "POST", TRACE, body).await;
    let from = |port: &Value| json!({"from_port": port["id"], "destination_ip": "10.0.0.9"});
    let answer = post("red/member", from(&own)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(post("red/member", from(&of_blue)).await.status, 404);
    assert_eq!(post("blue/member", from(&own)).await.status, 404);
    let outside = json!({"from_external": "uplink", "source_ip": "8.8.8.8", "destination_ip": "10.0.0.9"});
    assert_eq!(post("red/member", outside.clone()).await.status, 403);
    assert_eq!(post("red/member", json!({})).await.status, 403);
    assert_eq!(post("a/admin", from(&own)).await.status, 200);
    assert_eq!(post("a/admin", outside).await.status, 404, "there is no such network");
}
