//! Address groups, and who shares what with whom.

use crate::common::{Answer, Api, UNKNOWN, refusal, text};
use controller::agents::Hub;
use controller::service::{Service, Settings};
use model::rbac::{RbacAction, RbacPolicy};
use model::resource::{Network, Port};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Store, StoreError};

const ADDRESS_GROUPS: &str = "/v2.0/address-groups";
const POLICIES: &str = "/v2.0/rbac-policies";
const BAD: &str = "HTTPBadRequest";
const RED: &str = "red/member";
const BLUE: &str = "blue/member";
const ADMIN: &str = "a/admin";

fn kind(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["NeutronError"]["type"].as_str().unwrap_or_default())
}

fn share(kind: &str, object: &Value, action: &str, target: &str) -> Value {
    json!({"object_type": kind, "object_id": object["id"], "action": action, "target_tenant": target})
}

fn one(path: &str, object: &Value) -> String {
    format!("{path}/{}", text(&object["id"]))
}

async fn status(api: &Api, token: &str, verb: &str, path: &str, body: Value) -> (u16, String) {
    let answer = api.call_as(token, verb, path, body).await;
    let (status, kind) = kind(&answer);
    (status, kind.to_owned())
}

fn is(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_owned())
}

#[tokio::test]
async fn an_address_group_is_a_set_of_prefixes() {
    let api = Api::new();
    let given = json!({"name": "branches", "addresses": ["10.9.0.0/16", "10.1.0.5/24", "2001:db8::/32"]});
    let group = api.create("address_group", given).await;
    let want = json!({
        "id": group["id"], "name": "branches", "description": "", "project_id": "fake_project_id",
        "tenant_id": "fake_project_id", "addresses": ["10.1.0.0/24", "10.9.0.0/16", "2001:db8::/32"],
        "shared": false, "created_at": "2026-11-22T06:00:00Z", "updated_at": "2026-11-22T06:00:00Z",
        "revision_number": 1,
    });
    assert_eq!(group, want);
    let path = one(ADDRESS_GROUPS, &group);
    let act = async |action: &str, addresses: Value| {
        let answer = api.call("PUT", &format!("{path}/{action}"), json!({"addresses": addresses})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["address_group"].clone()
    };
    let more = act("add_addresses", json!(["10.2.0.0/24", "10.2.0.9/24"])).await;
    assert_eq!(more["addresses"], json!(["10.1.0.0/24", "10.2.0.0/24", "10.9.0.0/16", "2001:db8::/32"]));
    assert_eq!(more["revision_number"], 2);
    let less = act("remove_addresses", json!(["10.1.0.0/24", "2001:db8::/32"])).await;
    assert_eq!(less["addresses"], json!(["10.2.0.0/24", "10.9.0.0/16"]));
    let renamed = api.update("address_group", &group["id"], json!({"name": "offices"})).await;
    assert_eq!((&renamed["name"], &renamed["addresses"]), (&json!("offices"), &less["addresses"]));
}

#[tokio::test]
async fn wrong_addresses_are_refused() {
    let api = Api::new();
    let group = api.create("address_group", json!({"addresses": ["10.2.0.0/24"]})).await;
    let path = one(ADDRESS_GROUPS, &group);
    let web = api.create("security_group", json!({"name": "web"})).await;
    let rule = json!({
        "security_group_id": web["id"], "direction": "ingress", "remote_address_group_id": group["id"],
    });
    let rule = api.create("security_group_rule", rule).await;
    assert_eq!(rule["remote_address_group_id"], group["id"]);
    let put =
        |action: &str, addresses: Value| ("PUT", format!("{path}/{action}"), json!({"addresses": addresses}));
    let post = |addresses: Value| {
        ("POST", ADDRESS_GROUPS.to_owned(), json!({"address_group": {"addresses": addresses}}))
    };
    api.refuses(&[
        refusal(
            "in use",
            ("DELETE", path.clone(), Value::Null),
            (409, "AddressGroupInUse", "security group rules"),
        ),
        refusal(
            "twice",
            put("add_addresses", json!(["10.2.0.0/24"])),
            (400, "AddressesAlreadyExist", "10.2.0.0/24"),
        ),
        refusal(
            "not there",
            put("remove_addresses", json!(["10.3.0.0/24"])),
            (404, "AddressesNotFound", "10.3.0.0/24"),
        ),
        refusal(
            "no prefix",
            put("add_addresses", json!(["10.2.0.0/33"])),
            (400, BAD, "Invalid input for addresses"),
        ),
        refusal("no list", put("add_addresses", json!("10.2.0.0/24")), (400, BAD, "is not a list")),
        refusal(
            "nothing",
            ("PUT", format!("{path}/add_addresses"), json!({})),
            (400, BAD, "a list is required"),
        ),
        refusal("no such action", put("sort_addresses", json!([])), (404, "HTTPNotFound", "")),
        refusal(
            "no such group",
            ("PUT", format!("{ADDRESS_GROUPS}/{UNKNOWN}/add_addresses"), json!({})),
            (404, "AddressGroupNotFound", UNKNOWN),
        ),
        refusal("wrong at creation", post(json!(["blue"])), (400, BAD, "Invalid input for addresses")),
        refusal(
            "set",
            ("PUT", path.clone(), json!({"address_group": {"addresses": []}})),
            (400, BAD, "Cannot update read-only attribute addresses"),
        ),
    ])
    .await;
    api.delete("security_group_rule", &rule["id"]).await;
    api.delete("address_group", &group["id"]).await;
}

#[tokio::test]
async fn a_network_is_shared_with_one_project() {
    let api = Api::with_callers();
    let network = api.create_as(RED, "network", json!({"name": "backbone"})).await;
    let subnet = json!({"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24"});
    let subnet = api.create_as(RED, "subnet", subnet).await;
    let path = one("/v2.0/networks", &network);
    assert_eq!(status(&api, BLUE, "GET", &path, Value::Null).await.0, 404);

    let policy =
        api.create_as(RED, "rbac_policy", share("network", &network, "access_as_shared", "blue")).await;
    let want = json!({
        "id": policy["id"], "object_type": "network", "object_id": network["id"],
        "action": "access_as_shared", "target_tenant": "blue", "project_id": "red", "tenant_id": "red",
    });
    assert_eq!(policy, want);
    let seen = api.call_as(BLUE, "GET", &path, Value::Null).await;
    assert_eq!(seen.body["network"]["shared"], true, "to whom it is shared with");
    let seen = api.call_as(RED, "GET", &path, Value::Null).await;
    assert_eq!(seen.body["network"]["shared"], false, "not to its owner");
    assert_eq!(status(&api, BLUE, "GET", &one("/v2.0/subnets", &subnet), Value::Null).await.0, 200);
    assert_eq!(status(&api, "green/member", "GET", &path, Value::Null).await.0, 404);
    let listed = api.call_as(BLUE, "GET", "/v2.0/networks?shared=true", Value::Null).await;
    assert_eq!(listed.body["networks"][0]["id"], network["id"]);
    let rename = json!({"network": {"name": "mine"}});
    assert_eq!(status(&api, BLUE, "PUT", &path, rename).await, is(403, "PolicyNotAuthorized"));

    let port = api.create_as(BLUE, "port", json!({"network_id": network["id"]})).await;
    let own = one(POLICIES, &policy);
    assert_eq!(status(&api, BLUE, "DELETE", &own, Value::Null).await, is(404, "RbacPolicyNotFound"));
    assert_eq!(status(&api, RED, "DELETE", &own, Value::Null).await, is(409, "RbacPolicyInUse"));
    let move_to = |target: &str| json!({"rbac_policy": {"target_tenant": target}});
    assert_eq!(status(&api, RED, "PUT", &own, move_to("green")).await, is(409, "RbacPolicyInUse"));
    assert_eq!(status(&api, RED, "PUT", &own, move_to("*")).await, is(403, "PolicyNotAuthorized"));
    assert_eq!(status(&api, ADMIN, "PUT", &own, move_to("*")).await.0, 200);
    let seen = api.call_as(RED, "GET", &path, Value::Null).await;
    assert_eq!(seen.body["network"]["shared"], true, "with all, and so with its owner");
    let alone = json!({"network": {"shared": false}});
    assert_eq!(status(&api, ADMIN, "PUT", &path, alone.clone()).await, is(409, "InvalidSharedSetting"));
    api.call_as(BLUE, "DELETE", &one("/v2.0/ports", &port), Value::Null).await;
    let changed = api.call_as(ADMIN, "PUT", &path, alone).await;
    assert_eq!((changed.status.as_u16(), &changed.body["network"]["shared"]), (200, &json!(false)));
    let left = api.call_as(RED, "GET", POLICIES, Value::Null).await;
    assert_eq!(left.body["rbac_policies"], json!([]), "the wildcard's policy went with it");
}

#[tokio::test]
async fn shared_and_external_networks_are_policies() {
    let api = Api::with_callers();
    let attributes = json!({
        "name": "uplink", "router:external": true, "shared": true, "provider:network_type": "flat",
        "provider:physical_network": "physnet1",
    });
    let network = api.create_as(ADMIN, "network", attributes).await;
    let subnet = json!({"network_id": network["id"], "ip_version": 4, "cidr": "172.22.7.0/24"});
    api.create_as(ADMIN, "subnet", subnet).await;
    let policies = api
        .call_as(
            ADMIN,
            "GET",
            &format!("{POLICIES}?object_type=network&sort_key=action&sort_dir=asc"),
            Value::Null,
        )
        .await;
    let policies = policies.body["rbac_policies"].as_array().unwrap().clone();
    let lines: Vec<_> =
        policies.iter().map(|policy| (text(&policy["action"]), text(&policy["target_tenant"]))).collect();
    assert_eq!(lines, [("access_as_external", "*"), ("access_as_shared", "*")]);
    let path = one("/v2.0/networks", &network);
    for policy in &policies {
        assert_eq!(status(&api, ADMIN, "DELETE", &one(POLICIES, policy), Value::Null).await.0, 204);
    }
    assert_eq!(status(&api, BLUE, "GET", &path, Value::Null).await.0, 404, "nobody's but its owner's");
    let gateway = json!({"router": {"external_gateway_info": {"network_id": network["id"]}}});
    assert_eq!(
        status(&api, BLUE, "POST", "/v2.0/routers", gateway.clone()).await,
        is(404, "NetworkNotFound")
    );

    let policy = share("network", &network, "access_as_external", "blue");
    let policy = api.create_as(ADMIN, "rbac_policy", policy).await;
    assert_eq!(status(&api, BLUE, "GET", &path, Value::Null).await.0, 200);
    assert_eq!(status(&api, RED, "POST", "/v2.0/routers", gateway.clone()).await, is(404, "NetworkNotFound"));
    let router = api.call_as(BLUE, "POST", "/v2.0/routers", gateway).await;
    assert_eq!(router.status, 201, "{}", router.body);
    let own = one(POLICIES, &policy);
    assert_eq!(status(&api, ADMIN, "DELETE", &own, Value::Null).await, is(409, "RbacPolicyInUse"));
    let router = one("/v2.0/routers", &router.body["router"]);
    assert_eq!(status(&api, BLUE, "DELETE", &router, Value::Null).await.0, 204);
    assert_eq!(status(&api, ADMIN, "DELETE", &own, Value::Null).await.0, 204);

    let inner = api.create_as(RED, "network", json!({})).await;
    let open = json!({"rbac_policy": share("network", &inner, "access_as_external", "blue")});
    assert_eq!(status(&api, RED, "POST", POLICIES, open.clone()).await, is(403, "PolicyNotAuthorized"));
    assert_eq!(status(&api, ADMIN, "POST", POLICIES, open).await.0, 201);
    let seen = api.call_as(BLUE, "GET", &one("/v2.0/networks", &inner), Value::Null).await;
    assert_eq!(seen.body["network"]["router:external"], true, "it became one");
}

#[tokio::test]
async fn an_older_store_keeps_what_it_promised() {
    let store = Arc::new(Store::open(None).unwrap());
    let api = Api::over(Arc::clone(&store), None);
    let shared = api.create("network", json!({"name": "shared"})).await;
    let (external, _) = api.external().await;
    let alone = api.create("network", json!({"name": "alone"})).await;
    let port = api.create("port", json!({"network_id": alone["id"]})).await;
    // As a version without policies and groups wrote them.
    let older = store.transact::<_, StoreError>(|tx| {
        let policies: Vec<_> = tx.rbac_policies.keys().copied().collect();
        for policy in policies {
            tx.remove::<RbacPolicy>(policy);
        }
        for (network, is_shared) in [(&shared, true), (&external, false), (&alone, false)] {
            let network = tx.get::<Network>(text(&network["id"]).parse().unwrap()).unwrap();
            let mut record = serde_json::to_value(&**network).unwrap();
            record["shared"] = json!(is_shared);
            tx.put(serde_json::from_value::<Network>(record).unwrap());
        }
        let mut record =
            serde_json::to_value(&**tx.get::<Port>(text(&port["id"]).parse().unwrap()).unwrap()).unwrap();
        record.as_object_mut().unwrap().remove("security_groups").unwrap();
        tx.put(serde_json::from_value::<Port>(record).unwrap());
        Ok(())
    });
    older.unwrap();
    let hub = Arc::new(Hub::new(Arc::clone(&store)));
    let service = Service::new(Arc::clone(&store), hub, Settings::default(), || 0);
    for _ in 0..2 {
        service.upgrade().unwrap();
        let snapshot = store.snapshot();
        let policies = snapshot.rbac_policies.values();
        let mut lines: Vec<_> = policies
            .map(|policy| (policy.object.id.to_string(), policy.action, policy.target.clone()))
            .collect();
        let mut want = [
            (text(&shared["id"]).to_owned(), RbacAction::AccessAsShared, "*".to_owned()),
            (text(&external["id"]).to_owned(), RbacAction::AccessAsExternal, "*".to_owned()),
        ];
        lines.sort();
        want.sort();
        assert_eq!(lines, want, "the second time changes nothing");
    }
    let kept =
        store.snapshot().get::<Port>(text(&port["id"]).parse().unwrap()).unwrap().security_groups.clone();
    assert_eq!(kept, None, "not filtered");
    assert_eq!(api.get(&one("/v2.0/ports", &port)).await["port"]["security_groups"], json!([]));
    let default = store.snapshot().default_group("fake_project_id").unwrap().id;
    let named = api.update("port", &port["id"], json!({"security_groups": [default]})).await;
    assert_eq!(named["security_groups"], json!([default]));
}

#[tokio::test]
async fn groups_are_shared_with_projects_that_use_them() {
    let api = Api::with_callers();
    let web = api.create_as(RED, "security_group", json!({"name": "web"})).await;
    let offices = api.create_as(RED, "address_group", json!({"addresses": ["10.0.0.0/8"]})).await;
    let network = api.create_as(BLUE, "network", json!({})).await;
    let mine = api.create_as(BLUE, "security_group", json!({"name": "mine"})).await;
    let port = json!({"port": {"network_id": network["id"], "security_groups": [web["id"]]}});
    let rule = |key: &str, remote: &Value| {
        json!({"security_group_rule": {
            "security_group_id": mine["id"], "direction": "ingress", key: remote["id"],
        }})
    };
    let by_group = rule("remote_group_id", &web);
    let by_addresses = rule("remote_address_group_id", &offices);
    let rules = "/v2.0/security-group-rules";
    assert_eq!(
        status(&api, BLUE, "POST", "/v2.0/ports", port.clone()).await,
        is(404, "SecurityGroupNotFound")
    );
    assert_eq!(status(&api, BLUE, "POST", rules, by_group.clone()).await, is(404, "SecurityGroupNotFound"));
    assert_eq!(
        status(&api, BLUE, "POST", rules, by_addresses.clone()).await,
        is(404, "AddressGroupNotFound")
    );

    let groups = share("security_group", &web, "access_as_shared", "blue");
    let groups = api.create_as(RED, "rbac_policy", groups).await;
    let addresses = share("address_group", &offices, "access_as_shared", "blue");
    let addresses = api.create_as(RED, "rbac_policy", addresses).await;
    let seen = api.call_as(BLUE, "GET", "/v2.0/security-groups?shared=true", Value::Null).await;
    assert_eq!(
        (&seen.body["security_groups"][0]["id"], seen.body["security_groups"].as_array().unwrap().len()),
        (&web["id"], 1)
    );
    assert_eq!(status(&api, BLUE, "GET", &one(ADDRESS_GROUPS, &offices), Value::Null).await.0, 200);
    let into = json!({"security_group_rule": {"security_group_id": web["id"], "direction": "ingress"}});
    assert_eq!(
        status(&api, BLUE, "POST", rules, into).await,
        is(403, "PolicyNotAuthorized"),
        "it stays red's"
    );
    let add = format!("{}/add_addresses", one(ADDRESS_GROUPS, &offices));
    let more = json!({"addresses": ["192.168.0.0/16"]});
    assert_eq!(status(&api, BLUE, "PUT", &add, more).await, is(403, "PolicyNotAuthorized"));
    let port = api.call_as(BLUE, "POST", "/v2.0/ports", port).await;
    assert_eq!(port.body["port"]["security_groups"], json!([web["id"]]));
    assert_eq!(status(&api, BLUE, "POST", rules, by_group).await.0, 201);
    let used = api.call_as(BLUE, "POST", rules, by_addresses).await;
    assert_eq!(used.status, 201);
    for policy in [&groups, &addresses] {
        assert_eq!(
            status(&api, RED, "DELETE", &one(POLICIES, policy), Value::Null).await,
            is(409, "RbacPolicyInUse")
        );
    }
    api.call_as(BLUE, "DELETE", &one("/v2.0/ports", &port.body["port"]), Value::Null).await;
    api.call_as(BLUE, "DELETE", &one(rules, &used.body["security_group_rule"]), Value::Null).await;
    for policy in [&groups, &addresses] {
        assert_eq!(status(&api, RED, "DELETE", &one(POLICIES, policy), Value::Null).await.0, 204);
    }
    assert_eq!(status(&api, BLUE, "GET", &one(ADDRESS_GROUPS, &offices), Value::Null).await.0, 404);
}

#[tokio::test]
async fn wrong_policies_are_refused() {
    let api = Api::with_callers();
    let network = api.create_as(RED, "network", json!({})).await;
    let web = api.create_as(RED, "security_group", json!({})).await;
    api.create_as(RED, "rbac_policy", share("network", &network, "access_as_shared", "blue")).await;
    let unknown = json!({"id": UNKNOWN});
    let cases = [
        (RED, share("router", &network, "access_as_shared", "blue"), (400, "InvalidInput")),
        (RED, share("network", &network, "access_as_friend", "blue"), (400, "InvalidActionForType")),
        (RED, share("security_group", &web, "access_as_external", "blue"), (400, "InvalidActionForType")),
        (RED, share("network", &unknown, "access_as_shared", "blue"), (404, "NetworkNotFound")),
        (RED, share("security_group", &network, "access_as_shared", "blue"), (404, "SecurityGroupNotFound")),
        (RED, share("network", &network, "access_as_shared", "blue"), (409, "DuplicateRbacPolicy")),
        (RED, share("network", &network, "access_as_shared", ""), (400, BAD)),
        (RED, share("network", &network, "access_as_shared", "*"), (403, "PolicyNotAuthorized")),
        (BLUE, share("network", &network, "access_as_shared", "green"), (400, "InvalidInput")),
        ("green/member", share("network", &network, "access_as_shared", "green"), (404, "NetworkNotFound")),
        (
            "green/member",
            share("security_group", &web, "access_as_shared", "green"),
            (404, "SecurityGroupNotFound"),
        ),
        (
            RED,
            json!({"object_type": "network", "object_id": network["id"], "action": "access_as_shared"}),
            (400, BAD),
        ),
    ];
    let before = api.store.snapshot().revision;
    for (token, body, (code, kind)) in cases {
        let got = status(&api, token, "POST", POLICIES, json!({"rbac_policy": body})).await;
        assert_eq!(got, is(code, kind), "{token} {body}");
    }
    assert_eq!(api.store.snapshot().revision, before, "nothing is left of a refusal");
    let path = one("/v2.0/networks", &network);
    assert_eq!(status(&api, RED, "DELETE", &path, Value::Null).await.0, 204);
    let left = api.call_as(ADMIN, "GET", POLICIES, Value::Null).await;
    assert_eq!(left.body["rbac_policies"], json!([]), "policies end with what they are about");
}
