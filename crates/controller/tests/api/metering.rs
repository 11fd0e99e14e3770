//! Metering labels and their rules.

use crate::common::{Api, UNKNOWN, refusal, text};
use serde_json::{Value, json};

const RULES: &str = "/v2.0/metering/metering-label-rules";

fn rule(label: &Value, prefixes: Value) -> Value {
    let mut rule = json!({"metering_label_id": label["id"], "direction": "egress"});
    rule.as_object_mut().unwrap().extend(prefixes.as_object().unwrap().clone());
    rule
}

#[tokio::test]
async fn labels_and_rules_are_shown_as_neutron_shows_them() {
    let api = Api::new();
    let label =
        json!({"name": "web", "description": "d".repeat(1024), "project_id": "red", "shared": "true"});
    let label = api.create("metering_label", label).await;
    let want = json!({
        "id": label["id"], "name": "web", "description": "d".repeat(1024), "project_id": "red",
        "tenant_id": "red", "shared": true,
    });
    assert_eq!(label, want);
    let ends =
        json!({"source_ip_prefix": "10.0.0.7", "destination_ip_prefix": "192.0.2.9/24", "excluded": true});
    let made = api.create("metering_label_rule", rule(&label, ends)).await;
    let want = json!({
        "id": made["id"], "metering_label_id": label["id"], "direction": "egress", "excluded": true,
        "remote_ip_prefix": null, "source_ip_prefix": "10.0.0.7/32", "destination_ip_prefix": "192.0.2.9/24",
    });
    assert_eq!(made, want);
    let shown = api.get(&format!("{RULES}/{}", text(&made["id"]))).await;
    assert_eq!(shown["metering_label_rule"], made);
    let other = api.create("metering_label", json!({"project_id": "blue"})).await;
    let theirs = api.create("metering_label_rule", rule(&other, json!({"remote_ip_prefix": "::/0"}))).await;
    let listed = api.get(&format!("{RULES}?metering_label_id={}&fields=id", text(&other["id"]))).await;
    assert_eq!(listed["metering_label_rules"], json!([{"id": theirs["id"]}]));
    let page = api.get(&format!("{RULES}?limit=1&sort_key=remote_ip_prefix&sort_dir=desc")).await;
    assert_eq!(page["metering_label_rules"], json!([theirs]));
    let next = text(&page["metering_label_rules_links"][0]["href"]).to_owned();
    assert!(next.contains(RULES) && next.contains("marker="), "{next}");
    api.delete("metering_label", &label["id"]).await;
    let left = api.get(&format!("{RULES}?fields=id")).await;
    assert_eq!(left["metering_label_rules"], json!([{"id": theirs["id"]}]), "rules go with their label");
    api.delete("metering_label_rule", &theirs["id"]).await;
    assert_eq!(api.store.snapshot().audit(), Vec::<String>::new());
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused() {
    let api = Api::new();
    let label = api.create("metering_label", json!({})).await;
    api.create("metering_label_rule", rule(&label, json!({"remote_ip_prefix": "10.0.0.0/16"}))).await;
    let ends = json!({"source_ip_prefix": "10.0.0.0/16"});
    api.create("metering_label_rule", rule(&label, ends.clone())).await;
    let post = |prefixes: Value| ("POST", RULES, json!({"metering_label_rule": rule(&label, prefixes)}));
    let two = json!({"source_ip_prefix": "10.0.0.0/8", "destination_ip_prefix": "fd00::/8"});
    let both = json!({"remote_ip_prefix": "10.0.0.0/8", "source_ip_prefix": "10.0.0.0/8"});
    let overlaps = (409, "MeteringLabelRuleOverlaps", "overlaps another");
    let unknown = json!({"metering_label_rule": rule(&json!({"id": UNKNOWN}), ends.clone())});
    let sideways = json!({"remote_ip_prefix": "10.9.0.0/16", "direction": "sideways"});
    api.refuses(&[
        refusal("within", post(json!({"remote_ip_prefix": "10.0.3.0/24"})), overlaps),
        refusal("around", post(json!({"remote_ip_prefix": "0.0.0.0/0"})), overlaps),
        refusal("nothing", post(json!({})), (400, "Invalid", "at least one")),
        refusal("both", post(both), (400, "Invalid", "in conjunction")),
        refusal("versions", post(two), (400, "Invalid", "same IP version")),
        refusal(
            "no prefix",
            post(json!({"remote_ip_prefix": "x"})),
            (400, "Invalid", "remote_ip_prefix: x is invalid"),
        ),
        refusal("no label", ("POST", RULES, unknown), (404, "MeteringLabelNotFound", UNKNOWN)),
        refusal("direction", post(sideways), (400, "HTTPBadRequest", "sideways")),
        refusal(
            "unknown rule",
            ("DELETE", format!("{RULES}/{UNKNOWN}"), Value::Null),
            (404, "MeteringLabelRuleNotFound", "does not exist"),
        ),
    ])
    .await;
    // Another direction, an exclusion, and what is said of sources is none of these.
    let apart = [
        json!({"remote_ip_prefix": "10.0.0.0/16", "direction": "ingress"}),
        json!({"remote_ip_prefix": "10.0.0.0/16", "excluded": true}),
        ends,
    ];
    for prefixes in apart {
        api.create("metering_label_rule", rule(&label, prefixes)).await;
    }
    let other = api.create("metering_label", json!({})).await;
    api.create("metering_label_rule", rule(&other, json!({"remote_ip_prefix": "10.0.0.0/16"}))).await;
}

/// Neutron's policy: not even whose traffic is counted sees it.
#[tokio::test]
async fn metering_is_the_administrators() {
    let api = Api::with_callers();
    let label = json!({"project_id": "red", "shared": true});
    let label = api.create_as("a/admin", "metering_label", label).await;
    let made = rule(&label, json!({"remote_ip_prefix": "10.0.0.0/16"}));
    let made = api.create_as("a/admin", "metering_label_rule", made).await;
    for (name, of) in [("metering_label", &label), ("metering_label_rule", &made)] {
        let path = crate::common::path_of(name);
        let one = format!("{path}/{}", text(&of["id"]));
        let call = async |method: &str, path: &str, body: Value| {
            let answer = api.call_as("red/member", method, path, body).await;
            (answer.status.as_u16(), answer.body)
        };
        let (status, body) = call("GET", &path, Value::Null).await;
        assert_eq!((status, body[format!("{name}s")].clone()), (200, json!([])), "{name}");
        assert_eq!(call("GET", &one, Value::Null).await.0, 404, "{name}");
        assert_eq!(call("DELETE", &one, Value::Null).await.0, 404, "{name}");
        let again = rule(&label, json!({"remote_ip_prefix": "10.1.0.0/16"}));
        let body = if name == "metering_label" { json!({"name": "x"}) } else { again };
        assert_eq!(call("POST", &path, json!({name: body})).await.0, 403, "{name}");
    }
}
