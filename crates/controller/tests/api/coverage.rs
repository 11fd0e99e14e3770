//! Every route has what makes it one: who may use it is in `policy`; here are quotas and filters. Method: the
//! resources' attribute tables are walked, so that nothing new is forgotten.

use crate::common::{Api, UNKNOWN, path_of, text};
use api::{Attribute, Resource};
use controller::service::Service;
use model::metering::{MeteringLabel, MeteringLabelRule};
use model::quota::Counted;
use model::rbac::RbacPolicy;
use model::resource::{FloatingIp, Host, Network, Port, PortForwarding, Router, Subnet};
use model::security::{AddressGroup, DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule};
use model::subnet_pool::{AddressScope, SubnetPool};
use serde_json::{Value, json};

/// A resource by its tables.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) collection: &'static str,
    pub(crate) path: &'static str,
    pub(crate) attributes: Vec<&'static Attribute>,
}

fn kind<R: Resource>() -> Kind {
    let attributes = api::attributes::<R>().collect();
    Kind { name: R::NAME, collection: R::COLLECTION, path: R::PATH, attributes }
}

pub(crate) fn kinds() -> Vec<Kind> {
    vec![
        kind::<Network>(),
        kind::<Subnet>(),
        kind::<Port>(),
        kind::<Router>(),
        kind::<FloatingIp>(),
        kind::<SecurityGroup>(),
        kind::<SecurityGroupRule>(),
        kind::<DefaultSecurityGroupRule>(),
        kind::<AddressGroup>(),
        kind::<RbacPolicy>(),
        kind::<SubnetPool>(),
        kind::<AddressScope>(),
        kind::<MeteringLabel>(),
        kind::<MeteringLabelRule>(),
        kind::<Host>(),
    ]
}

/// What belongs to another thing, and is tested with it.
pub(crate) fn nested() -> Vec<Kind> {
    vec![kind::<PortForwarding>()]
}

/// Lists that are no resources, and where their filters are tested; "": they have none, as in Neutron.
const OTHER_LISTS: [(&str, &str); 6] = [
    ("/v2.0/", ""),
    ("/v2.0/extensions", ""),
    ("/v2.0/quotas", ""),
    ("/v2.0/network-ip-availabilities", "addresses_left_are_counted_per_network"),
    ("/v2.0/availability_zones", "addresses_left_are_counted_per_network"),
    ("/v2.0/service-providers", "addresses_left_are_counted_per_network"),
];

/// What is not counted, as in Neutron.
const NOT_COUNTED: [&str; 5] = [
    "address_group",
    "address_scope",
    "default_security_group_rule",
    "metering_label",
    "metering_label_rule",
];

/// What the bodies below name.
struct World {
    external: Value,
    network: Value,
    group: Value,
    label: Value,
}

async fn world(api: &Api, token: &str) -> World {
    let uplink = json!({
        "router:external": true, "provider:network_type": "flat", "provider:physical_network": "physnet1",
    });
    let external = api.create_as("a/admin", "network", uplink).await;
    let addresses = json!({"network_id": external["id"], "ip_version": 4, "cidr": "172.22.7.0/24"});
    api.create_as("a/admin", "subnet", addresses).await;
    let network = api.create_as(token, "network", json!({})).await;
    let addresses = json!({"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24"});
    api.create_as(token, "subnet", addresses).await;
    let group = api.create_as(token, "security_group", json!({"name": "all"})).await;
    let label = api.create_as("a/admin", "metering_label", json!({"name": "all"})).await;
    World { external, network, group, label }
}

fn body(name: &str, world: &World) -> Value {
    match name {
        "network" | "router" => json!({"name": "new", "description": "words"}),
        "subnet" => {
            json!({"name": "new", "network_id": world.network["id"], "ip_version": 4, "cidr": "10.1.0.0/24"})
        }
        "port" => json!({"name": "new", "network_id": world.network["id"], "device_id": "vm"}),
        "floatingip" => json!({"floating_network_id": world.external["id"]}),
        "security_group" | "address_group" => json!({"name": "new"}),
        "default_security_group_rule" => {
            json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22})
        }
        "security_group_rule" => json!({"security_group_id": world.group["id"], "direction": "ingress"}),
        "rbac_policy" => json!({
            "object_type": "network", "object_id": world.network["id"], "action": "access_as_shared",
            "target_tenant": "blue",
        }),
        "subnetpool" => json!({"name": "new", "prefixes": ["10.64.0.0/16"]}),
        "address_scope" => json!({"name": "new", "ip_version": 4}),
        "metering_label" => json!({"name": "new", "description": "words"}),
        "metering_label_rule" => json!({
            "metering_label_id": world.label["id"], "direction": "ingress", "remote_ip_prefix": "10.0.0.0/24",
        }),
        other => panic!("no body for {other}: add one"),
    }
}

/// Agents are made by connecting.
fn posted() -> impl Iterator<Item = Kind> {
    kinds().into_iter().filter(|kind| kind.name != Host::NAME)
}

#[test]
fn every_list_is_that_of_a_resource_or_told_here() {
    let kinds = kinds();
    for path in api::paths::<Service>() {
        let Some(rest) = path.strip_prefix("/v2.0/").filter(|rest| !rest.contains('/')) else { continue };
        let known = kinds.iter().any(|kind| kind.path == rest);
        assert!(known || OTHER_LISTS.iter().any(|(other, _)| *other == path), "{path} has no filter test");
    }
}

#[tokio::test]
async fn everything_that_can_be_made_is_counted() {
    for kind in posted() {
        let api = Api::with_callers();
        let world = world(&api, "red/member").await;
        let path = path_of(kind.name);
        let post = async || {
            api.call_as("red/member", "POST", &path, json!({kind.name: body(kind.name, &world)})).await
        };
        let counted = Counted::ALL.into_iter().find(|counted| counted.name() == kind.name);
        let Some(counted) = counted else {
            assert!(NOT_COUNTED.contains(&kind.name), "{} is made without a quota", kind.name);
            continue;
        };
        let quota = json!({"quota": {counted.name(): 0}});
        let answer = api.call_as("a/admin", "PUT", "/v2.0/quotas/red", quota).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let refused = post().await;
        assert_eq!(refused.status, 409, "{path}: {}", refused.body);
        assert_eq!(refused.body["NeutronError"]["type"], "OverQuota", "{path}");
        api.call_as("a/admin", "DELETE", "/v2.0/quotas/red", Value::Null).await;
        assert_eq!(post().await.status, 201, "{path}");
    }
}

#[tokio::test]
async fn everything_can_be_found_by_every_attribute_that_filters() {
    for kind in posted() {
        let api = Api::with_callers();
        let world = world(&api, "a/admin").await;
        let made = api.create_as("a/admin", kind.name, body(kind.name, &world)).await;
        let path = path_of(kind.name);
        let found = async |key: &str, value: &str| {
            let query = format!("{path}?{}={}", key.replace(':', "%3A"), value.replace(':', "%3A"));
            let answer = api.call_as("a/admin", "GET", &query, Value::Null).await;
            assert_eq!(answer.status, 200, "{query}: {}", answer.body);
            let list = answer.body[kind.collection].as_array().unwrap().clone();
            list.iter().any(|view| view["id"] == made["id"])
        };
        for attribute in kind.attributes.iter().filter(|attribute| attribute.filter) {
            let Some(value) = made.get(attribute.name) else {
                assert!(OPTIONAL.contains(&attribute.name), "{} has no {}", kind.name, attribute.name);
                continue;
            };
            let own = match value {
                Value::Null => String::new(),
                Value::String(value) => value.clone(),
                value => value.to_string(),
            };
            let other = match value {
                Value::Bool(value) => (!value).to_string(),
                _ => UNKNOWN.to_owned(),
            };
            assert!(found(attribute.name, &own).await, "{path} by {}={own}", attribute.name);
            assert!(!found(attribute.name, &other).await, "{path} by {}={other}", attribute.name);
        }
        for query in ["bogus=1", "sort_key=bogus&sort_dir=asc", "sort_key=id", "limit=-1"] {
            let answer = api.call_as("a/admin", "GET", &format!("{path}?{query}"), Value::Null).await;
            assert_eq!(answer.status, 400, "{path}?{query}: {}", answer.body);
        }
        let fields = format!("{path}?fields=id&id={}", text(&made["id"]));
        let answer = api.call_as("a/admin", "GET", &fields, Value::Null).await;
        assert_eq!(answer.body[kind.collection], json!([{"id": made["id"]}]), "{fields}");
    }
}

/// Shown only of external networks.
const OPTIONAL: [&str; 2] = ["nanboku:egress", "nanboku:block_size"];
