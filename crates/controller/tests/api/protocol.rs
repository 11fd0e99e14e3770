//! What holds for all resources: version documents, extensions, content types, ids, preconditions, limits.

use crate::common::{Api, refusal, text};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

#[tokio::test]
async fn a_client_finds_the_version_and_the_resources() {
    let api = Api::new();
    let link = json!([{"rel": "self", "href": "http://127.0.0.1:9696/v2.0/"}]);
    let version = json!({"id": "v2.0", "status": "CURRENT", "links": link});
    assert_eq!(api.get("/").await, json!({"versions": [version]}));
    assert_eq!(api.get("/v2.0").await, json!({"version": version}));
    let resources = api.get("/v2.0/").await;
    assert_eq!(resources["resources"][0]["collection"], "networks");
}

#[tokio::test]
async fn only_known_extensions_are_found() {
    let api = Api::new();
    let list = api.get("/v2.0/extensions").await;
    let aliases: Vec<&str> =
        list["extensions"].as_array().unwrap().iter().map(|e| text(&e["alias"])).collect();
    assert!(aliases.contains(&"router") && aliases.is_sorted(), "{aliases:?}");
    assert!(!aliases.contains(&"qos"), "what is not complete is not advertised");
    let one = api.get("/v2.0/extensions/router").await;
    for key in ["alias", "name", "description", "updated", "links"] {
        assert!(!one["extension"][key].is_null(), "{key}");
    }
    assert_eq!(api.call("GET", "/v2.0/extensions/qos", Value::Null).await.status, 404);
}

#[tokio::test]
async fn every_answer_is_json_and_names_its_request() {
    let api = Api::new();
    for path in ["/v2.0/networks", "/v2.0/networks/none", "/v2.0/extensions"] {
        let answer = api.call("GET", path, Value::Null).await;
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
        let id = answer.headers["x-openstack-request-id"].to_str().unwrap();
        assert!(id.starts_with("req-") && id.len() == 40, "{id}");
    }
}

#[tokio::test]
async fn bodies_paths_and_verbs_that_are_wrong_are_refused() {
    let api = Api::new();
    let bad = "HTTPBadRequest";
    api.refuses(&[
        refusal("nothing", ("POST", "/v2.0/networks", Value::Null), (400, bad, "Body contains invalid data")),
        refusal("a list", ("POST", "/v2.0/networks", json!([])), (400, bad, "Body contains invalid data")),
        refusal(
            "no envelope",
            ("POST", "/v2.0/networks", json!({"name": "x"})),
            (400, bad, "Unable to find 'network' in request body"),
        ),
        refusal(
            "no object",
            ("POST", "/v2.0/networks", json!({"network": 1})),
            (400, bad, "contains invalid data"),
        ),
        refusal(
            "no list",
            ("POST", "/v2.0/networks", json!({"networks": {}})),
            (400, bad, "contains invalid data"),
        ),
        refusal(
            "empty list",
            ("POST", "/v2.0/networks", json!({"networks": []})),
            (400, bad, "Resources required"),
        ),
        refusal("path", ("GET", "/v2.0/nothing", Value::Null), (404, "HTTPNotFound", "")),
        refusal("not UTF-8", ("GET", "/v2.0/networks/%ff", Value::Null), (400, bad, "")),
        refusal("not UTF-8 either", ("GET", "/nanboku/v1/hosts/%ff", Value::Null), (400, bad, "")),
        refusal("verb", ("PATCH", "/v2.0/networks", Value::Null), (405, "HTTPMethodNotAllowed", "")),
        refusal(
            "agents come by themselves",
            ("POST", "/v2.0/agents", json!({})),
            (405, "HTTPMethodNotAllowed", ""),
        ),
    ])
    .await;
    let broken = Request::post("/v2.0/networks").body(Body::from("{\"network\": {")).unwrap();
    assert_eq!(api.send(broken).await.status, 400);
    let large = json!({"network": {"description": "x".repeat(api::BODY_BYTES_MAX)}});
    let too_large =
        refusal("large", ("POST", "/v2.0/networks", large), (413, "HTTPRequestEntityTooLarge", ""));
    api.refuses(&[too_large]).await;
}

#[tokio::test]
async fn a_change_can_ask_for_the_revision_it_has_seen() {
    let api = Api::new();
    let network = api.create("network", json!({"name": "blue"})).await;
    let request = |method: &str, precondition: &str| {
        Request::builder()
            .method(method)
            .uri(format!("/v2.0/networks/{}", text(&network["id"])))
            .header("if-match", precondition)
            .body(Body::from(json!({"network": {"name": precondition}}).to_string()))
            .unwrap()
    };
    let table = [
        ("PUT", "revision_number=7", 412),
        ("DELETE", "revision_number=7", 412),
        ("PUT", "revision_number=1", 200),
        ("PUT", "revision_number=1", 412),
        ("PUT", "nonsense", 200),
        ("DELETE", "revision_number=3", 204),
    ];
    for (method, precondition, want) in table {
        let answer = api.send(request(method, precondition)).await;
        assert_eq!(answer.status.as_u16(), want, "{method} {precondition}: {}", answer.body);
        if want == 412 {
            assert_eq!(answer.body["NeutronError"]["type"], "RevisionNumberConstraintFailed");
        }
    }
}
