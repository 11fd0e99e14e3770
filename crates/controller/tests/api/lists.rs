//! Filters, fields, sorting, paging, tags.

use crate::common::{Api, refusal, text};
use serde_json::{Value, json};

async fn names(api: &Api, path: &str) -> Vec<String> {
    let body = api.get(path).await;
    let (_, list) = body.as_object().unwrap().iter().find(|(key, _)| !key.ends_with("_links")).unwrap();
    list.as_array().unwrap().iter().map(|item| text(&item["name"]).to_owned()).collect()
}

#[tokio::test]
async fn filters_match_exactly_and_repeated_keys_are_alternatives() {
    let api = Api::new();
    let (external, _) = api.external().await;
    let (network, subnet) = api.tenant("blue", "192.168.10.0/24").await;
    for (name, address, device) in [("a", 5, "vm1"), ("b", 6, "vm2"), ("c", 15, "vm2"), ("", 7, "")] {
        let ips = json!([{"ip_address": format!("192.168.10.{address}")}]);
        let attributes = json!({
            "network_id": network["id"], "name": name, "fixed_ips": ips, "device_id": device,
            "binding:host_id": "ahv01", "admin_state_up": name != "a",
        });
        api.create("port", attributes).await;
    }
    let outside = json!({"network_id": external["id"], "name": "out", "fixed_ips": []});
    api.create("port", outside).await;
    let (blue, of_subnet) = (text(&network["id"]), text(&subnet["id"]));
    let table: &[(String, &[&str])] = &[
        ("name=a".into(), &["a"]),
        ("name=a&name=b".into(), &["a", "b"]),
        ("name=a&device_id=vm2".into(), &[]),
        ("name=".into(), &[""]),
        ("name=A".into(), &[]),
        ("device_id=vm2".into(), &["b", "c"]),
        ("device_id=vm2&device_id=vm2".into(), &["b", "c"]),
        ("device_id=".into(), &["", "out"]),
        (format!("network_id={blue}&network_id={blue}"), &["", "a", "b", "c"]),
        ("network_id=blue".into(), &[]),
        ("binding%3Ahost_id=ahv01&name=c".into(), &["c"]),
        ("admin_state_up=False&network_id=".to_owned() + blue, &["a"]),
        ("admin_state_up=0".into(), &["a"]),
        ("fixed_ips=ip_address%3D192.168.10.5".into(), &["a"]),
        ("fixed_ips=ip_address%3D192.168.10.5&fixed_ips=ip_address%3D192.168.10.6".into(), &["a", "b"]),
        (format!("fixed_ips=subnet_id%3D{of_subnet}&fixed_ips=ip_address%3D192.168.10.5"), &["a"]),
        ("fixed_ips=ip_address_substr%3D10.5".into(), &["a"]),
        ("fixed_ips=ip_address_substr%3D10.1".into(), &["c"]),
        ("project_id=fake_project_id&tenant_id=fake_project_id&name=b".into(), &["b"]),
        ("status=DOWN&name=b".into(), &["b"]),
    ];
    for (query, want) in table {
        let mut got = names(&api, &format!("/v2.0/ports?{query}")).await;
        got.sort();
        assert_eq!(&got, want, "{query}");
    }
    assert_eq!(names(&api, "/v2.0/networks?router%3Aexternal=True").await, ["uplink"]);
    assert_eq!(names(&api, "/v2.0/networks?router:external=0").await, ["blue"]);
    assert_eq!(names(&api, "/v2.0/networks?provider:physical_network=physnet1").await, ["uplink"]);
    assert_eq!(names(&api, "/v2.0/networks?provider:segmentation_id=2207").await, ["uplink"]);
}

#[tokio::test]
async fn wrong_queries_are_refused() {
    let api = Api::new();
    let bad = "HTTPBadRequest";
    let get = |query: &str| ("GET", format!("/v2.0/networks?{query}"), Value::Null);
    api.refuses(&[
        refusal("unknown", get("bogus=1"), (400, bad, "['bogus'] is invalid attribute for filtering")),
        refusal("list", get("subnets=1"), (400, bad, "['subnets'] is invalid attribute for filtering")),
        refusal("changes", get("changed_since=2026"), (400, bad, "changed_since")),
        refusal(
            "boolean",
            get("shared=perhaps"),
            (400, "InvalidInput", "'perhaps' cannot be converted to boolean"),
        ),
        refusal(
            "one key more",
            get("sort_key=name"),
            (400, bad, "The number of sort_keys and sort_dirs must be same"),
        ),
        refusal("direction", get("sort_key=name&sort_dir=up"), (400, bad, "up")),
        refusal(
            "sort key",
            get("sort_key=bogus&sort_dir=asc"),
            (400, bad, "['bogus'] is invalid attribute for sort_keys"),
        ),
        refusal("limit", get("limit=x"), (400, bad, "Limit must be an integer 0 or greater and not 'x'")),
        refusal("negative", get("limit=-1"), (400, bad, "-1")),
        refusal("marker", get("limit=1&marker=nobody"), (404, "NetworkNotFound", "nobody")),
    ])
    .await;
}

#[tokio::test]
async fn fields_work_on_lists_and_on_one() {
    let api = Api::new();
    let network = api.create("network", json!({"name": "blue"})).await;
    let list = api.get("/v2.0/networks?fields=name&fields=mtu&fields=bogus").await;
    assert_eq!(list, json!({"networks": [{"name": "blue", "mtu": 1450}]}));
    let one = api.get(&format!("/v2.0/networks/{}?fields=bogus", text(&network["id"]))).await;
    assert_eq!(one, json!({"network": {}}));
}

#[tokio::test]
async fn pages_follow_their_links_both_ways() {
    let api = Api::new();
    for i in 0..5 {
        api.create("network", json!({"name": format!("n{i}"), "description": (i % 2).to_string()})).await;
    }
    let all = names(&api, "/v2.0/networks").await;
    let mut path = "/v2.0/networks?sort_key=name&sort_dir=desc&limit=2".to_owned();
    let mut seen = Vec::new();
    let mut last = Value::Null;
    for _ in 0..4 {
        let page = api.get(&path).await;
        seen.extend(page["networks"].as_array().unwrap().iter().map(|n| text(&n["name"]).to_owned()));
        let links = page["networks_links"].as_array().unwrap().clone();
        last = links.iter().find(|link| link["rel"] == "previous").cloned().unwrap();
        match links.iter().find(|link| link["rel"] == "next") {
            Some(next) => {
                let href = text(&next["href"]);
                path = href.strip_prefix("http://127.0.0.1:9696").unwrap().to_owned();
            }
            None => break,
        }
    }
    assert_eq!(seen, ["n4", "n3", "n2", "n1", "n0"]);
    let back = text(&last["href"]).strip_prefix("http://127.0.0.1:9696").unwrap().to_owned();
    assert!(back.contains("page_reverse=True"), "{back}");
    assert_eq!(names(&api, &back).await, ["n2", "n1"]);

    let body = api.get("/v2.0/networks").await;
    assert_eq!(body.get("networks_links"), None, "links only with a limit");
    assert_eq!(names(&api, "/v2.0/networks?limit=0").await, all);
    assert_eq!(
        names(&api, "/v2.0/networks?marker=nobody").await,
        all,
        "a marker means nothing without a limit"
    );
    let empty = api.get("/v2.0/networks?limit=2&name=none").await;
    let links = json!([{"rel": "previous", "href": "http://127.0.0.1:9696/v2.0/networks?limit=2&name=none&page_reverse=True"}]);
    assert_eq!(empty, json!({"networks": [], "networks_links": links}));
    let two_keys = "/v2.0/networks?sort_key=description&sort_dir=desc&sort_key=name&sort_dir=asc";
    assert_eq!(names(&api, two_keys).await, ["n1", "n3", "n0", "n2", "n4"]);
}

/// Pages in the order of ids, which are cut before anything else is made of the records.
#[tokio::test]
async fn pages_without_a_filter_are_those_of_the_whole_list() {
    let api = Api::new();
    for i in 0..11 {
        api.create("network", json!({"name": format!("n{i}")})).await;
    }
    let ids = |page: &Value| -> Vec<String> {
        page["networks"].as_array().unwrap().iter().map(|network| text(&network["id"]).to_owned()).collect()
    };
    let mut all = ids(&api.get("/v2.0/networks").await);
    all.sort();
    for reverse in [false, true] {
        let mut seen: Vec<Vec<String>> = Vec::new();
        let mut path = format!("/v2.0/networks?limit=4&page_reverse={reverse}");
        for _ in 0..4 {
            let page = api.get(&path).await;
            seen.push(ids(&page));
            let rel = if reverse { "previous" } else { "next" };
            let links = page["networks_links"].as_array().unwrap();
            let Some(link) = links.iter().find(|link| link["rel"] == rel) else { break };
            path = text(&link["href"]).strip_prefix("http://127.0.0.1:9696").unwrap().to_owned();
        }
        if reverse {
            seen.reverse();
        }
        assert_eq!(seen.concat(), all, "reverse: {reverse}");
        assert_eq!(seen.iter().map(Vec::len).max(), Some(4));
    }
    let gone = &all[3];
    api.delete("network", &json!(gone)).await;
    for path in
        [format!("/v2.0/networks?limit=4&marker={gone}"), "/v2.0/networks?limit=4&marker=x".to_owned()]
    {
        api.refuses(&[refusal("marker", ("GET", path, Value::Null), (404, "NetworkNotFound", ""))]).await;
    }
}

#[tokio::test]
async fn tags_are_set_shown_filtered_and_removed() {
    let api = Api::new();
    let mut paths = Vec::new();
    for (name, tags) in [("x", json!(["red", "big"])), ("y", json!(["red"])), ("z", json!([]))] {
        let network = api.create("network", json!({"name": name})).await;
        let path = format!("/v2.0/networks/{}/tags", text(&network["id"]));
        let answer = api.call("PUT", &path, json!({"tags": tags})).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &json!({"tags": tags})));
        paths.push(path);
    }
    let table: &[(&str, &[&str])] = &[
        ("tags=red", &["x", "y"]),
        ("tags=red,big", &["x"]),
        ("tags-any=big,blue", &["x"]),
        ("not-tags=red,big", &["y", "z"]),
        ("not-tags-any=red,big", &["z"]),
    ];
    for (query, want) in table {
        let mut got = names(&api, &format!("/v2.0/networks?{query}")).await;
        got.sort();
        assert_eq!(&got, want, "{query}");
    }
    let one = format!("{}/green", paths[1]);
    let codes = [("GET", 404), ("PUT", 201), ("PUT", 201), ("GET", 204), ("DELETE", 204), ("DELETE", 404)];
    for (i, (method, want)) in codes.into_iter().enumerate() {
        let answer = api.call(method, &one, Value::Null).await;
        assert_eq!(answer.status.as_u16(), want, "step {i}: {}", answer.body);
    }
    assert_eq!(api.call("DELETE", &paths[0], Value::Null).await.status, 204);
    assert_eq!(api.get(&paths[0]).await, json!({"tags": []}));
    api.refuses(&[
        refusal("not a list", ("PUT", &paths[0], json!({"tags": "red"})), (400, "HTTPBadRequest", "tags")),
        refusal(
            "long",
            ("PUT", format!("{}/{}", paths[0], "x".repeat(256)), Value::Null),
            (400, "HTTPBadRequest", "tags"),
        ),
        refusal("gone", ("GET", &one, Value::Null), (404, "TagNotFound", "green")),
    ])
    .await;
}
