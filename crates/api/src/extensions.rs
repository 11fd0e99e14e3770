//! `/v2.0/extensions`: what is advertised, and only what is complete.

use crate::Error;
use serde_json::{Value, json};

const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("address-group", "Address group", "Named sets of prefixes for rules of security groups."),
    ("address-scope", "Address scope", "Pools without common addresses."),
    ("agent", "agent", "The agents of the hosts."),
    ("allowed-address-pairs", "Allowed Address Pairs", "Further addresses a port may use."),
    ("availability_zone", "Availability Zone", "The one zone there is."),
    ("binding", "Port Binding", "Binds a port to a host."),
    ("default-subnetpools", "Default Subnetpools", "A pool for subnets that name none."),
    ("empty-string-filtering", "Empty String Filtering", "Filters by empty values."),
    (
        "expose-port-forwarding-in-fip",
        "Expose Port Forwarding in Floating IP",
        "Shows the forwarded ports of a floating IP.",
    ),
    ("ext-gw-mode", "Neutron L3 Configurable external gateway mode", "Turns SNAT of a router on and off."),
    ("external-net", "Neutron external network", "Networks to the outside."),
    ("extra_dhcp_opt", "Neutron Extra DHCP options", "DHCP options of ports."),
    ("extraroute", "Neutron Extra Route", "Extra routes of a router."),
    ("extraroute-atomic", "Atomically add/remove extra routes", "Adds and removes extra routes."),
    ("filter-validation", "Filter parameters validation", "Refuses unknown filters."),
    ("fip-port-details", "Floating IP Port Details Extension", "Shows the port of a floating IP."),
    ("floating-ip-port-forwarding", "Floating IP Port Forwarding", "Forwards ports of a floating IP."),
    (
        "floating-ip-port-forwarding-description",
        "Floating IP Port Forwarding Description",
        "Descriptions of port forwardings.",
    ),
    (
        "floating-ip-port-forwarding-detail",
        "Floating IP Port Forwarding Detail",
        "Shows ids and internal ports in the forwarded ports of a floating IP.",
    ),
    ("ip-substring-filtering", "IP address substring filtering", "Filters ports by part of an address."),
    ("metering", "Neutron Metering", "Counts what crosses the gateways of routers."),
    (
        "metering_source_and_destination_fields",
        "Neutron Metering with source and destination filtering",
        "Rules of metering labels about sources and destinations.",
    ),
    ("nanboku", "Nanboku", "Egress mode and port block size of external networks."),
    ("nanboku-nat", "Nanboku NAT", "Filtering, ports per VM and shared SNAT addresses of routers."),
    ("net-mtu", "Network MTU", "Shows the MTU of a network."),
    ("net-mtu-writable", "Network MTU (writable)", "Sets the MTU of a network."),
    ("network-ip-availability", "Network IP Availability", "Shows how many addresses are left."),
    ("network_availability_zone", "Network Availability Zone", "Zones that a network is wished in."),
    ("pagination", "Pagination support", "Lists in pages."),
    ("port-security", "Port Security", "Anti-spoofing of ports."),
    (
        "port-security-groups-filtering",
        "Port filtering on security groups",
        "Filters ports by their security groups.",
    ),
    ("project-id", "project_id field enabled", "Owners are project_id as well as tenant_id."),
    ("provider", "Provider Network", "Networks of the fabric."),
    ("quota-check-limit", "Quota engine limit check", "Refuses limits below what is used."),
    ("quota_details", "Quota details management support", "Shows limits with what is used of them."),
    ("quotas", "Quota management support", "Limits what projects may have."),
    ("rbac-address-group", "Add address_group type to RBAC", "Shares address groups with other projects."),
    ("rbac-policies", "RBAC Policies", "Shares networks with other projects."),
    (
        "rbac-security-groups",
        "Add security_group type to network RBAC",
        "Shares security groups with other projects.",
    ),
    ("revision-if-match", "If-Match constraints based on revision_number", "Changes only the revision seen."),
    ("router", "Neutron L3 Router", "Routers and floating IPs."),
    ("router_availability_zone", "Router Availability Zone", "Zones that a router is wished in."),
    ("security-group", "security-group", "What ports may send and receive."),
    (
        "security-groups-default-rules",
        "Default rules for security groups",
        "Says what new security groups begin with.",
    ),
    (
        "security-groups-normalized-cidr",
        "Normalized CIDR field for security group rules",
        "Shows the network of a rule's prefix.",
    ),
    (
        "security-groups-remote-address-group",
        "Remote address group id field for security group rules",
        "Rules about address groups.",
    ),
    (
        "security-groups-rules-belongs-to-default-sg",
        "Security group rule belongs to the project's default security group",
        "Shows which rules are those of a default group.",
    ),
    (
        "security-groups-shared-filtering",
        "Security group filtering on the shared field",
        "Filters security groups by whether they are shared.",
    ),
    ("service-type", "Neutron Service Type Management", "Who provides a service."),
    ("sorting", "Sorting support", "Sorts lists."),
    ("standard-attr-description", "standard-attr-description", "Descriptions of resources."),
    ("standard-attr-revisions", "standard-attr-revisions", "Revision numbers of resources."),
    ("standard-attr-tag", "Tag support for resources with standard attribute", "Tags of resources."),
    ("standard-attr-timestamp", "standard-attr-timestamp", "Times of creation and change."),
    ("stateful-security-group", "Stateful security group", "Groups whose rules are asked for every packet."),
    ("subnet_allocation", "Subnet Allocation", "Subnets get their prefixes from pools."),
    ("subnet_onboard", "Subnet Onboard", "Makes subnets part of a pool."),
    (
        "subnetpool-prefix-ops",
        "Subnet Pool Prefix Operations",
        "Adds prefixes to a pool and takes them away.",
    ),
    ("tag", "Tag support", "Tags of networks, by the older name of the extension."),
];

const UPDATED: &str = "2026-11-22T00:00:00-00:00";

pub(crate) fn list() -> Value {
    let all: Vec<Value> = EXTENSIONS.iter().map(view).collect();
    json!({"extensions": all})
}

pub(crate) fn show(alias: &str) -> Result<Value, Error> {
    let found = EXTENSIONS.iter().find(|(known, ..)| *known == alias);
    let extension = found.ok_or_else(|| Error::ExtensionNotFound { alias: alias.to_owned() })?;
    Ok(json!({"extension": view(extension)}))
}

fn view((alias, name, description): &(&str, &str, &str)) -> Value {
    json!({"alias": alias, "name": name, "description": description, "updated": UPDATED, "links": []})
}
