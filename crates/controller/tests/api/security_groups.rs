//! Security groups and their rules.

use crate::common::{Answer, Api, UNKNOWN, refusal, text};
use serde_json::{Value, json};

const GROUPS: &str = "/v2.0/security-groups";
const RULES: &str = "/v2.0/security-group-rules";
const DEFAULTS: &str = "/v2.0/default-security-group-rules";
const BAD: &str = "HTTPBadRequest";

async fn post(api: &Api, token: &str, path: &str, body: Value) -> Answer {
    api.call_as(token, "POST", path, body).await
}

async fn group_as(api: &Api, token: &str, attributes: Value) -> Value {
    let answer = post(api, token, GROUPS, json!({"security_group": attributes})).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.body["security_group"].clone()
}

async fn group(api: &Api, attributes: Value) -> Value {
    group_as(api, "", attributes).await
}

async fn rule(api: &Api, attributes: Value) -> Value {
    let answer = post(api, "", RULES, json!({"security_group_rule": attributes})).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.body["security_group_rule"].clone()
}

fn kind(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["NeutronError"]["type"].as_str().unwrap_or_default())
}

fn items<'a>(body: &'a Value, key: &str) -> &'a Vec<Value> {
    body[key].as_array().unwrap()
}

/// Direction and ethertype of each rule, and whether members of the group itself are meant.
fn outline(group: &Value) -> Vec<(String, String, bool)> {
    let line = |rule: &Value| {
        let own = rule["remote_group_id"] == group["id"];
        (text(&rule["direction"]).to_owned(), text(&rule["ethertype"]).to_owned(), own)
    };
    let mut lines: Vec<_> = items(group, "security_group_rules").iter().map(line).collect();
    lines.sort();
    lines
}

fn row(direction: &str, ethertype: &str, own: bool) -> (String, String, bool) {
    (direction.to_owned(), ethertype.to_owned(), own)
}

#[tokio::test]
async fn a_group_lets_everything_out_and_nothing_in() {
    let api = Api::new();
    let web = group(&api, json!({"name": "web", "description": "front"})).await;
    assert_eq!(outline(&web), [row("egress", "IPv4", false), row("egress", "IPv6", false)]);
    let rule = &web["security_group_rules"][0];
    let want = json!({
        "id": rule["id"], "security_group_id": web["id"], "direction": "egress",
        "ethertype": rule["ethertype"], "protocol": null, "port_range_min": null, "port_range_max": null,
        "remote_ip_prefix": null, "normalized_cidr": null, "remote_group_id": null,
        "remote_address_group_id": null, "belongs_to_default_sg": false, "description": "",
        "project_id": "fake_project_id", "tenant_id": "fake_project_id",
        "created_at": "2026-11-22T06:00:00Z", "updated_at": "2026-11-22T06:00:00Z", "revision_number": 1,
    });
    assert_eq!(*rule, want);
    let want = json!({
        "id": web["id"], "name": "web", "description": "front", "stateful": true, "shared": false,
        "security_group_rules": web["security_group_rules"], "project_id": "fake_project_id",
        "tenant_id": "fake_project_id", "tags": [], "created_at": "2026-11-22T06:00:00Z",
        "updated_at": "2026-11-22T06:00:00Z", "revision_number": 1,
    });
    assert_eq!(web, want);
    let one = api.get(&format!("{GROUPS}/{}", text(&web["id"]))).await;
    assert_eq!(one["security_group"], web);
}

#[tokio::test]
async fn a_project_has_its_default_group_from_its_first_look() {
    let api = Api::with_callers();
    let list = async |token: &str, path: &str| {
        let answer = api.call_as(token, "GET", path, Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    let groups = list("red/reader", GROUPS).await;
    let [default] = &items(&groups, "security_groups")[..] else { panic!("{groups}") };
    assert_eq!((&default["name"], &default["project_id"]), (&json!("default"), &json!("red")));
    let four = [
        row("egress", "IPv4", false),
        row("egress", "IPv6", false),
        row("ingress", "IPv4", true),
        row("ingress", "IPv6", true),
    ];
    assert_eq!(outline(default), four);
    let before = api.store.snapshot().revision;
    assert_eq!(list("red/member", GROUPS).await, groups, "there is one");
    assert_eq!(items(&list("red/member", RULES).await, "security_group_rules").len(), 4);
    assert_eq!(api.store.snapshot().revision, before, "a second look makes nothing");
    assert_eq!(items(&list("blue/member", RULES).await, "security_group_rules").len(), 4, "of its own");
    let quota = list("red/reader", "/v2.0/quotas/red/details").await;
    assert_eq!(
        (&quota["quota"]["security_group"]["used"], &quota["quota"]["security_group_rule"]["used"]),
        (&json!(1), &json!(4))
    );
    api.create_as("green/member", "network", json!({})).await;
    assert!(api.store.snapshot().default_group("green").is_some(), "a network is a first need, too");
}

#[tokio::test]
async fn the_default_group_stays_what_it_is() {
    let api = Api::with_callers();
    let listed = api.call_as("red/member", "GET", GROUPS, Value::Null).await;
    let default = &listed.body["security_groups"][0];
    let path = format!("{GROUPS}/{}", text(&default["id"]));
    let put =
        async |body: Value| api.call_as("red/member", "PUT", &path, json!({"security_group": body})).await;
    assert_eq!(kind(&put(json!({"name": "mine"})).await), (409, "SecurityGroupCannotUpdateDefault"));
    let described = put(json!({"description": "all of us"})).await;
    assert_eq!(
        (described.status.as_u16(), &described.body["security_group"]["revision_number"]),
        (200, &json!(2))
    );
    let deleted = api.call_as("red/member", "DELETE", &path, Value::Null).await;
    assert_eq!(kind(&deleted), (409, "SecurityGroupCannotRemoveDefault"));
    for name in ["default", "Default"] {
        let second = post(&api, "red/member", GROUPS, json!({"security_group": {"name": name}})).await;
        assert_eq!(kind(&second), (409, "SecurityGroupDefaultAlreadyExists"));
    }
    let web = group_as(&api, "red/member", json!({"name": "web"})).await;
    let web = format!("{GROUPS}/{}", text(&web["id"]));
    let renamed =
        api.call_as("red/member", "PUT", &web, json!({"security_group": {"name": "default"}})).await;
    assert_eq!(kind(&renamed), (409, "SecurityGroupDefaultAlreadyExists"));
    assert_eq!(api.call_as("a/admin", "DELETE", &path, Value::Null).await.status, 204);
    let again = api.call_as("red/member", "GET", GROUPS, Value::Null).await;
    let names: Vec<_> =
        items(&again.body, "security_groups").iter().map(|group| text(&group["name"])).collect();
    assert!(names.contains(&"default"), "it comes again: {names:?}");
}

#[tokio::test]
async fn rules_are_kept_as_neutron_keeps_them() {
    let api = Api::new();
    let web = group(&api, json!({"name": "web"})).await;
    let other = group(&api, json!({"name": "db"})).await;
    // What is given, and what differs from it in the answer.
    let cases = [
        (json!({}), json!({"ethertype": "IPv4", "protocol": null})),
        (
            json!({"protocol": "TCP", "port_range_min": "80", "port_range_max": 443}),
            json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 443}),
        ),
        (
            json!({"protocol": "udp", "port_range_min": 1, "port_range_max": 65535}),
            json!({"port_range_min": null, "port_range_max": null}),
        ),
        (json!({"protocol": 112}), json!({"protocol": "112"})),
        (json!({"protocol": "any", "remote_group_id": other["id"]}), json!({"protocol": null})),
        (json!({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}), json!({})),
        (
            json!({"protocol": "icmp", "port_range_min": 0}),
            json!({"port_range_min": 0, "port_range_max": null}),
        ),
        (
            json!({"protocol": "icmp", "ethertype": "ipv6"}),
            json!({"protocol": "ipv6-icmp", "ethertype": "IPv6"}),
        ),
        (json!({"protocol": "1", "ethertype": "IPv6", "port_range_min": 128}), json!({"protocol": "58"})),
        (json!({"remote_ip_prefix": "10.0.0.5/24"}), json!({"normalized_cidr": "10.0.0.0/24"})),
        (
            json!({"remote_ip_prefix": "10.0.0.5"}),
            json!({"remote_ip_prefix": "10.0.0.5/32", "normalized_cidr": "10.0.0.5/32"}),
        ),
        (
            json!({"ethertype": "IPv6", "remote_ip_prefix": "2001:db8::1/64"}),
            json!({"normalized_cidr": "2001:db8::/64"}),
        ),
        (
            json!({"protocol": "sctp", "port_range_min": 22, "port_range_max": 22, "description": "why"}),
            json!({}),
        ),
    ];
    let count = cases.len();
    for (given, want) in cases {
        let mut given = given.as_object().unwrap().clone();
        given.extend([
            ("security_group_id".to_owned(), web["id"].clone()),
            ("direction".to_owned(), json!("ingress")),
        ]);
        let made = rule(&api, Value::Object(given.clone())).await;
        given.extend(want.as_object().unwrap().clone());
        for (name, value) in given {
            assert_eq!(made[&name], value, "{name} of {made}");
        }
        let shown = api.get(&format!("{RULES}/{}", text(&made["id"]))).await;
        assert_eq!(shown["security_group_rule"], made);
    }
    let shown = api.get(&format!("{GROUPS}/{}", text(&web["id"]))).await;
    let group = &shown["security_group"];
    assert_eq!(items(group, "security_group_rules").len(), 2 + count);
    assert_eq!(group["revision_number"], 1 + count, "every rule is a change of the group");
}

/// A rule for what comes in, with more.
fn ingress(group: &Value, more: &Value) -> Value {
    let mut body = json!({"security_group_id": group["id"], "direction": "ingress"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn one_rule(group: &Value, more: Value) -> (&'static str, &'static str, Value) {
    ("POST", RULES, json!({"security_group_rule": ingress(group, &more)}))
}

#[tokio::test]
async fn wrong_rules_are_refused() {
    let api = Api::new();
    let web = group(&api, json!({"name": "web"})).await;
    let with = |more: Value| one_rule(&web, more);
    api.refuses(&[
        refusal(
            "no group",
            ("POST", RULES, json!({"security_group_rule": {"direction": "ingress"}})),
            (400, BAD, "'security_group_id' not specified"),
        ),
        refusal(
            "no direction",
            ("POST", RULES, json!({"security_group_rule": {"security_group_id": web["id"]}})),
            (400, BAD, "'direction' not specified"),
        ),
        refusal(
            "direction",
            with(json!({"direction": "in"})),
            (400, BAD, "'in' is not in ['ingress', 'egress']"),
        ),
        refusal(
            "unknown group",
            with(json!({"security_group_id": UNKNOWN})),
            (404, "SecurityGroupNotFound", UNKNOWN),
        ),
        refusal("no id", with(json!({"security_group_id": "web"})), (404, "SecurityGroupNotFound", "web")),
        refusal(
            "ethertype",
            with(json!({"ethertype": "IPv5"})),
            (400, "SecurityGroupRuleInvalidEtherType", "IPv5"),
        ),
        refusal(
            "protocol",
            with(json!({"protocol": "tpc"})),
            (400, "SecurityGroupRuleInvalidProtocol", "tpc"),
        ),
        refusal(
            "protocol number",
            with(json!({"protocol": 256})),
            (400, "SecurityGroupRuleInvalidProtocol", "256"),
        ),
        refusal(
            "protocol of no kind",
            with(json!({"protocol": [6]})),
            (400, "SecurityGroupRuleInvalidProtocol", ""),
        ),
        refusal(
            "IPv6 only",
            with(json!({"protocol": "ipv6-icmp"})),
            (400, "SecurityGroupEthertypeConflictWithProtocol", "ipv6-icmp"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_remote_ends_are_refused() {
    let api = Api::new();
    let web = group(&api, json!({"name": "web"})).await;
    let db = group(&api, json!({"name": "db"})).await;
    let with = |more: Value| one_rule(&web, more);
    api.refuses(&[
        refusal(
            "prefix",
            with(json!({"remote_ip_prefix": "10.0.0.0/33"})),
            (400, "InvalidCIDR", "10.0.0.0/33"),
        ),
        refusal(
            "other family",
            with(json!({"remote_ip_prefix": "2001:db8::/64"})),
            (400, "SecurityGroupRuleParameterConflict", "IPv4"),
        ),
        refusal(
            "two remotes",
            with(json!({"remote_ip_prefix": "10.0.0.0/24", "remote_group_id": db["id"]})),
            (400, "SecurityGroupMultipleRemoteEntites", "Only one"),
        ),
        refusal(
            "unknown remote",
            with(json!({"remote_group_id": UNKNOWN})),
            (404, "SecurityGroupNotFound", UNKNOWN),
        ),
        refusal(
            "unknown addresses",
            with(json!({"remote_address_group_id": UNKNOWN})),
            (404, "AddressGroupNotFound", UNKNOWN),
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_ports_and_types_are_refused() {
    let api = Api::new();
    let web = group(&api, json!({"name": "web"})).await;
    let with = |more: Value| one_rule(&web, more);
    let ports = |min: Value, max: Value| {
        with(json!({"protocol": "tcp", "port_range_min": min, "port_range_max": max}))
    };
    let icmp = |min: Value, max: Value| {
        with(json!({"protocol": "icmp", "port_range_min": min, "port_range_max": max}))
    };
    let (port, range) = ("SecurityGroupInvalidPortValue", "SecurityGroupInvalidPortRange");
    api.refuses(&[
        refusal("port text", ports(json!("http"), json!(80)), (400, port, "http")),
        refusal("port too high", ports(json!(80), json!(65536)), (400, port, "65536")),
        refusal("negative port", ports(json!(-16384), json!(80)), (400, port, "-16384")),
        refusal("port 0", ports(json!(0), json!(80)), (400, port, "port 0")),
        refusal("backwards", ports(json!(80), json!(79)), (400, range, "<=")),
        refusal("only first", ports(json!(80), Value::Null), (400, range, "")),
        refusal("only last", ports(Value::Null, json!(80)), (400, range, "")),
        refusal(
            "ports of anything",
            with(json!({"port_range_min": 80, "port_range_max": 80})),
            (400, "SecurityGroupProtocolRequiredWithPorts", "protocol"),
        ),
        refusal(
            "ports of VRRP",
            with(json!({"protocol": "vrrp", "port_range_min": 80, "port_range_max": 80})),
            (400, "SecurityGroupInvalidProtocolForPort", "112"),
        ),
        refusal(
            "ICMP type",
            icmp(json!(256), Value::Null),
            (400, "SecurityGroupInvalidIcmpValue", "type (port_range_min) 256"),
        ),
        refusal(
            "ICMP code",
            icmp(json!(8), json!(300)),
            (400, "SecurityGroupInvalidIcmpValue", "code (port_range_max) 300"),
        ),
        refusal("code without type", icmp(Value::Null, json!(3)), (400, "SecurityGroupMissingIcmpType", "3")),
    ])
    .await;
}

#[tokio::test]
async fn rules_that_are_there_are_refused() {
    let api = Api::new();
    let web = group(&api, json!({"name": "web"})).await;
    let db = group(&api, json!({"name": "db"})).await;
    let with = |more: Value| one_rule(&web, more);
    let one =
        json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 80, "remote_group_id": web["id"]});
    let on = |more: &Value| ingress(&web, more);
    let there = rule(&api, on(&one)).await;
    rule(&api, on(&json!({"protocol": "vrrp", "remote_ip_prefix": "0.0.0.0/0"}))).await;
    let many = |rules: Value| ("POST", RULES, json!({"security_group_rules": rules}));
    let path = format!("{RULES}/{}", text(&there["id"]));
    api.refuses(&[
        refusal("twice", with(one.clone()), (409, "SecurityGroupRuleExists", text(&there["id"]))),
        refusal("by number", with(json!({"protocol": "112"})), (409, "SecurityGroupRuleExists", "")),
        refusal(
            "twice at once",
            many(json!([on(&json!({"protocol": "ah"})), on(&json!({"protocol": 51}))])),
            (409, "DuplicateSecurityGroupRuleInPost", ""),
        ),
        refusal(
            "second is wrong",
            many(json!([on(&json!({"protocol": "esp"})), on(&json!({"protocol": "x"}))])),
            (400, "SecurityGroupRuleInvalidProtocol", "x"),
        ),
        refusal(
            "two groups",
            many(json!([on(&json!({})), on(&json!({"security_group_id": db["id"]}))])),
            (400, "SecurityGroupNotSingleGroupRules", ""),
        ),
        refusal(
            "two projects",
            many(json!([on(&json!({})), on(&json!({"protocol": "ah", "project_id": "red"}))])),
            (400, "SecurityGroupRulesNotSingleProject", ""),
        ),
        refusal(
            "unknown attribute",
            with(json!({"port": 80})),
            (400, BAD, "Unrecognized attribute(s) 'port'"),
        ),
        refusal(
            "unknown rule",
            ("DELETE", format!("{RULES}/{UNKNOWN}").as_str(), Value::Null),
            (404, "SecurityGroupRuleNotFound", UNKNOWN),
        ),
        refusal(
            "change",
            ("PUT", path.as_str(), json!({"security_group_rule": {"description": "x"}})),
            (405, "HTTPMethodNotAllowed", ""),
        ),
    ])
    .await;
}

#[tokio::test]
async fn rules_come_and_go_in_bulk_and_one_by_one() {
    let api = Api::new();
    let web = group(&api, json!({"name": "web"})).await;
    let rules: Vec<Value> = (1..=20)
        .map(|port| {
            json!({
                "security_group_id": web["id"], "direction": "ingress", "protocol": "tcp",
                "port_range_min": port, "port_range_max": port,
            })
        })
        .collect();
    let made = post(&api, "", RULES, json!({"security_group_rules": rules})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let made = items(&made.body, "security_group_rules");
    assert_eq!(made.len(), 20);
    let listed = api.get(&format!("{RULES}?security_group_id={}&direction=ingress", text(&web["id"]))).await;
    assert_eq!(items(&listed, "security_group_rules").len(), 20);
    let one = api.get(&format!("{RULES}?port_range_min=7&protocol=tcp&fields=id")).await;
    assert_eq!(one["security_group_rules"], json!([{"id": made[6]["id"]}]));
    let page = api.get(&format!("{RULES}?limit=3&sort_key=port_range_min&sort_dir=desc")).await;
    let ports: Vec<_> =
        items(&page, "security_group_rules").iter().map(|rule| rule["port_range_min"].clone()).collect();
    assert_eq!(ports, [20, 19, 18]);
    assert_eq!(page["security_group_rules_links"][0]["rel"], "next");
    let path = format!("{RULES}/{}", text(&made[0]["id"]));
    assert_eq!(api.call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(api.call("DELETE", &path, Value::Null).await.status, 404);
    let shown = api.get(&format!("{GROUPS}/{}", text(&web["id"]))).await;
    assert_eq!(shown["security_group"]["revision_number"], 3);
}

#[tokio::test]
async fn groups_change_only_while_that_harms_nobody() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    let web = group(&api, json!({"name": "web"})).await;
    let db = group(&api, json!({"name": "db"})).await;
    let about = rule(
        &api,
        json!({"security_group_id": db["id"], "direction": "ingress", "remote_group_id": web["id"]}),
    )
    .await;
    let port = json!({"network_id": network["id"], "security_groups": [web["id"]]});
    let port = api.create("port", port).await;
    let path = format!("{GROUPS}/{}", text(&web["id"]));
    let in_use = (409, "SecurityGroupInUse", text(&web["id"]));
    api.refuses(&[
        refusal("delete", ("DELETE", path.as_str(), Value::Null), in_use),
        refusal("stateful", ("PUT", path.as_str(), json!({"security_group": {"stateful": false}})), in_use),
        refusal(
            "rules",
            ("PUT", path.as_str(), json!({"security_group": {"security_group_rules": []}})),
            (400, BAD, "Cannot update read-only attribute"),
        ),
        refusal(
            "name",
            ("PUT", path.as_str(), json!({"security_group": {"name": "x".repeat(256)}})),
            (400, BAD, "Invalid input for name"),
        ),
    ])
    .await;
    let put = async |body: Value| api.call("PUT", &path, json!({"security_group": body})).await;
    let changed = put(json!({"name": "www", "stateful": true})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["security_group"]["name"]), (200, &json!("www")));
    api.delete("port", &port["id"]).await;
    let changed = put(json!({"stateful": false})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["security_group"]["stateful"]), (200, &json!(false)));
    assert_eq!(api.call("DELETE", &path, Value::Null).await.status, 204);
    let gone = api.call("GET", &format!("{RULES}/{}", text(&about["id"])), Value::Null).await;
    assert_eq!(kind(&gone), (404, "SecurityGroupRuleNotFound"), "a rule about nobody");
    let left = api.get(&format!("{RULES}?security_group_id={}", text(&web["id"]))).await;
    assert_eq!(left["security_group_rules"], json!([]));
    let other = api.get(&format!("{GROUPS}/{}", text(&db["id"]))).await;
    assert_eq!(items(&other["security_group"], "security_group_rules").len(), 2);
}

#[tokio::test]
async fn a_port_has_the_groups_it_names_or_the_default_one() {
    let api = Api::with_callers();
    let red = "red/member";
    let network = api.create_as(red, "network", json!({})).await;
    let default = json!(api.store.snapshot().default_group("red").unwrap().id);
    let web = group_as(&api, red, json!({"name": "web"})).await;
    let stateless = group_as(&api, red, json!({"name": "fast", "stateful": false})).await;
    let blue = group_as(&api, "blue/member", json!({"name": "blue"})).await;
    let ask = async |token: &str, more: Value| {
        let mut body = json!({"network_id": network["id"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&api, token, "/v2.0/ports", json!({"port": body})).await
    };
    let groups = |answer: &Answer| answer.body["port"]["security_groups"].clone();
    assert_eq!(groups(&ask(red, json!({})).await), json!([default]));
    assert_eq!(groups(&ask(red, json!({"security_groups": []})).await), json!([]));
    assert_eq!(groups(&ask(red, json!({"security_groups": null})).await), json!([]));
    let port = ask(red, json!({"security_groups": [web["id"]]})).await;
    assert_eq!(groups(&port), json!([web["id"]]));
    assert_eq!(groups(&ask(red, json!({"port_security_enabled": false})).await), json!([]));
    let cases = [
        (json!({"security_groups": [blue["id"]]}), (404, "SecurityGroupNotFound")),
        (json!({"security_groups": [UNKNOWN]}), (404, "SecurityGroupNotFound")),
        (json!({"security_groups": ["web"]}), (400, BAD)),
        (json!({"security_groups": [web["id"], web["id"]]}), (400, BAD)),
        (json!({"security_groups": [web["id"], stateless["id"]]}), (409, "SecurityGroupConflict")),
        (
            json!({"security_groups": [web["id"]], "port_security_enabled": false}),
            (400, "PortSecurityAndIPRequiredForSecurityGroups"),
        ),
    ];
    let path = format!("/v2.0/ports/{}", text(&port.body["port"]["id"]));
    let put = async |body: Value| api.call_as(red, "PUT", &path, json!({"port": body})).await;
    for (body, want) in cases {
        assert_eq!(kind(&ask(red, body.clone()).await), want, "{body}");
        assert_eq!(kind(&put(body.clone()).await), want, "{body}");
    }
    assert_eq!(
        kind(&put(json!({"port_security_enabled": false})).await),
        (409, "PortSecurityPortHasSecurityGroup")
    );
    assert_eq!(groups(&put(json!({"name": "vm_a"})).await), json!([web["id"]]), "what is not said stays");
    let off = put(json!({"port_security_enabled": false, "security_groups": []})).await;
    assert_eq!(groups(&off), json!([]), "{}", off.body);
    let on = put(json!({"port_security_enabled": true, "security_groups": [default]})).await;
    assert_eq!(groups(&on), json!([default]));
    let listed = api
        .call_as(red, "GET", &format!("/v2.0/ports?security_groups={}", text(&default)), Value::Null)
        .await;
    assert_eq!(items(&listed.body, "ports").len(), 2);
}

#[tokio::test]
async fn a_port_has_ten_different_pairs_at_most() {
    let api = Api::new();
    let (network, _) = api.tenant("blue", "192.168.10.0/24").await;
    let pairs = |count: u8| -> Vec<Value> {
        (1..=count).map(|host| json!({"ip_address": format!("10.1.1.{host}")})).collect()
    };
    let attributes = json!({"network_id": network["id"], "allowed_address_pairs": pairs(10)});
    let port = api.create("port", attributes).await;
    assert_eq!(items(&port, "allowed_address_pairs").len(), 10);
    let path = format!("/v2.0/ports/{}", text(&port["id"]));
    let put = |pairs: Value| ("PUT", path.as_str(), json!({"port": {"allowed_address_pairs": pairs}}));
    let pair = json!({"ip_address": "10.1.1.1"});
    let own = json!({"ip_address": "10.1.1.1/32", "mac_address": port["mac_address"]});
    let twice = "DuplicateAddressPairInRequest";
    api.refuses(&[
        refusal("eleven", put(json!(pairs(11))), (400, "AllowedAddressPairExhausted", "maximum 10")),
        refusal("twice", put(json!([pair, pair])), (400, twice, "10.1.1.1")),
        refusal("twice in effect", put(json!([pair, own])), (400, twice, "10.1.1.1")),
        refusal("no address", put(json!([{"mac_address": port["mac_address"]}])), (400, BAD, "ip_address")),
        refusal(
            "without port security",
            ("PUT", path.as_str(), json!({"port": {"port_security_enabled": false, "security_groups": []}})),
            (409, "AddressPairAndPortSecurityRequired", ""),
        ),
    ])
    .await;
}

#[tokio::test]
async fn other_projects_groups_are_not_there() {
    let api = Api::with_callers();
    let web = group_as(&api, "red/member", json!({"name": "web"})).await;
    let rule = &web["security_group_rules"][0];
    let (group, rule) = (format!("{GROUPS}/{}", text(&web["id"])), format!("{RULES}/{}", text(&rule["id"])));
    let into = json!({"security_group_rule": {"security_group_id": web["id"], "direction": "ingress"}});
    let cases = [
        ("GET", group.as_str(), Value::Null),
        ("PUT", &group, json!({"security_group": {"name": "x"}})),
        ("DELETE", &group, Value::Null),
        ("GET", &rule, Value::Null),
        ("DELETE", &rule, Value::Null),
        ("POST", RULES, into.clone()),
    ];
    for (verb, path, body) in cases {
        let answer = api.call_as("blue/member", verb, path, body).await;
        assert_eq!(answer.status, 404, "{verb} {path}: {}", answer.body);
    }
    for (verb, path, body) in [
        ("PUT", group.as_str(), json!({"security_group": {"name": "x"}})),
        ("DELETE", &rule, Value::Null),
        ("POST", RULES, into.clone()),
    ] {
        let answer = api.call_as("red/reader", verb, path, body).await;
        assert_eq!(kind(&answer), (403, "PolicyNotAuthorized"), "{verb} {path}");
    }
    let made = post(&api, "a/admin", RULES, into).await;
    assert_eq!((made.status.as_u16(), &made.body["security_group_rule"]["project_id"]), (201, &json!("a")));
    let made = format!("{RULES}/{}", text(&made.body["security_group_rule"]["id"]));
    assert_eq!(
        api.call_as("red/member", "DELETE", &made, Value::Null).await.status,
        204,
        "whose the group is decides"
    );
}

#[tokio::test]
async fn groups_and_rules_have_quotas_revisions_and_tags() {
    let api = Api::with_callers();
    let (red, admin) = ("red/member", "a/admin");
    let limits = json!({"quota": {"security_group": 2, "security_group_rule": 7}});
    assert_eq!(api.call_as(admin, "PUT", "/v2.0/quotas/red", limits).await.status, 200);
    let web = group_as(&api, red, json!({"name": "web"})).await;
    let second = post(&api, red, GROUPS, json!({"security_group": {}})).await;
    assert_eq!(kind(&second), (409, "OverQuota"));
    assert_eq!(second.body["NeutronError"]["message"], "Quota exceeded for resources: ['security_group'].");
    let rule = |protocol: &str| json!({"security_group_id": web["id"], "direction": "ingress", "protocol": protocol});
    assert_eq!(post(&api, red, RULES, json!({"security_group_rule": rule("tcp")})).await.status, 201);
    let more = post(&api, red, RULES, json!({"security_group_rule": rule("udp")})).await;
    assert_eq!(
        more.body["NeutronError"]["message"],
        "Quota exceeded for resources: ['security_group_rule']."
    );
    let path = format!("{GROUPS}/{}", text(&web["id"]));
    let tags = api.call_as(red, "PUT", &format!("{path}/tags"), json!({"tags": ["a"]})).await;
    assert_eq!((tags.status.as_u16(), &tags.body), (200, &json!({"tags": ["a"]})));
    let found = api
        .call_as(red, "GET", &format!("{GROUPS}?tags=a&name=web&shared=False&stateful=1"), Value::Null)
        .await;
    assert_eq!(found.body["security_groups"][0]["revision_number"], 3, "{}", found.body);
    let found = api.call_as(red, "GET", &format!("{RULES}?tags=a"), Value::Null).await;
    assert_eq!(kind(&found), (400, BAD), "rules have none");
}

/// A default rule for SSH.
fn default_rule(attributes: Value) -> Value {
    let mut rule =
        json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22});
    rule.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
    json!({"default_security_group_rule": rule})
}

/// Goal: administrators say what new groups begin with; everyone may read it. Method: the first rules, one more for each
/// kind of group, and groups made in between.
#[tokio::test]
async fn new_groups_begin_with_the_default_rules() {
    let api = Api::with_callers();
    let list = async |query: &str| {
        let answer = api.call_as("red/reader", "GET", &format!("{DEFAULTS}{query}"), Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        items(&answer.body, "default_security_group_rules").clone()
    };
    let first = list("").await;
    assert_eq!(first.len(), 4);
    let parent = list("?remote_group_id=PARENT").await;
    assert_eq!(parent.len(), 2);
    for rule in &parent {
        let used = (&rule["used_in_default_sg"], &rule["used_in_non_default_sg"]);
        assert_eq!((&rule["direction"], used), (&json!("ingress"), (&json!(true), &json!(false))));
    }
    for token in ["red/member", "red/reader"] {
        assert_eq!(post(&api, token, DEFAULTS, default_rule(json!({}))).await.status, 403, "{token}");
    }
    let made = post(&api, "a/admin", DEFAULTS, default_rule(json!({"description": "ssh"}))).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let made = made.body["default_security_group_rule"].clone();
    let want = json!({
        "id": made["id"], "description": "ssh", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
        "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": null, "remote_group_id": null,
        "remote_address_group_id": null, "used_in_default_sg": false, "used_in_non_default_sg": true,
    });
    assert_eq!(made, want);
    let again = post(&api, "a/admin", DEFAULTS, default_rule(json!({"used_in_default_sg": true}))).await;
    assert_eq!(kind(&again), (409, "DefaultSecurityGroupRuleExists"));
    let other = json!({"used_in_default_sg": true, "used_in_non_default_sg": false});
    assert_eq!(
        post(&api, "a/admin", DEFAULTS, default_rule(other)).await.status,
        201,
        "for the other kind of group"
    );
    for (wrong, error) in [
        (json!({"port_range_min": 23}), "SecurityGroupInvalidPortRange"),
        (json!({"remote_group_id": UNKNOWN}), "SecurityGroupNotFound"),
        (json!({"remote_address_group_id": UNKNOWN}), "AddressGroupNotFound"),
    ] {
        assert_eq!(kind(&post(&api, "a/admin", DEFAULTS, default_rule(wrong)).await).1, error);
    }

    // What new groups have, and that old ones keep what they had.
    let has = |group: &Value, port: Value| {
        items(group, "security_group_rules").iter().filter(|rule| rule["port_range_min"] == port).count()
    };
    let web = group_as(&api, "red/member", json!({"name": "web"})).await;
    assert_eq!((has(&web, json!(22)), has(&web, Value::Null)), (1, 2));
    let default = api.call_as("red/member", "GET", &format!("{GROUPS}?name=default"), Value::Null).await;
    let default = &items(&default.body, "security_groups")[0];
    assert_eq!((has(default, json!(22)), has(default, Value::Null)), (1, 4));
    let remove = async |token: &str, rule: &Value| {
        api.call_as(token, "DELETE", &format!("{DEFAULTS}/{}", text(&rule["id"])), Value::Null).await.status
    };
    assert_eq!(remove("red/member", &made).await, 403);
    assert_eq!(remove("a/admin", &made).await, 204);
    assert_eq!(remove("a/admin", &made).await, 404);
    for rule in &first {
        assert_eq!(remove("a/admin", rule).await, 204, "also the first ones");
    }
    let bare = group_as(&api, "red/member", json!({"name": "bare"})).await;
    assert_eq!(items(&bare, "security_group_rules").len(), 0);
    let path = format!("{GROUPS}/{}", text(&web["id"]));
    let web = api.call_as("red/member", "GET", &path, Value::Null).await.body["security_group"].clone();
    assert_eq!(has(&web, json!(22)), 1);
}

#[tokio::test]
async fn a_default_rule_about_a_group_goes_with_the_group() {
    let api = Api::with_callers();
    let count = async || {
        let answer = api.call_as("red/reader", "GET", DEFAULTS, Value::Null).await;
        items(&answer.body, "default_security_group_rules").len()
    };
    let web = group_as(&api, "red/member", json!({"name": "web"})).await;
    let about = json!({"remote_group_id": web["id"]});
    assert_eq!(post(&api, "a/admin", DEFAULTS, default_rule(about)).await.status, 201);
    assert_eq!(count().await, 5);
    let path = format!("{GROUPS}/{}", text(&web["id"]));
    assert_eq!(api.call_as("red/member", "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(count().await, 4);
}
