"""What every kind of thing looks like: the attributes that Neutron shows an administrator, with their types, against a
running controller. What is not there is in decision 0008.

usage: views.py    (OS_CLIENT_CONFIG_FILE names a clouds.yaml with an administrator in the cloud `nanboku`)
"""

import refusals
from wire import Wire

STANDARD = "id:s description:s project_id:s tenant_id:s created_at:s updated_at:s revision_number:i"
NAMED = f"{STANDARD} name:s tags:l"
# s, i, b, l, o: text, number, boolean, list, object; ? behind it: or null.
VIEWS = {
    "networks": f"{NAMED} admin_state_up:b status:s mtu:i shared:b subnets:l router:external:b is_default:b "
    "availability_zone_hints:l availability_zones:l ipv4_address_scope:s? ipv6_address_scope:s? l2_adjacency:b "
    "port_security_enabled:b provider:network_type:s provider:physical_network:s? provider:segmentation_id:i?",
    "subnets": f"{NAMED} network_id:s ip_version:i cidr:s gateway_ip:s? enable_dhcp:b allocation_pools:l "
    "dns_nameservers:l host_routes:l service_types:l subnetpool_id:s? ipv6_ra_mode:s? ipv6_address_mode:s? "
    "router:external:b",
    "ports": f"{NAMED} network_id:s mac_address:s admin_state_up:b status:s device_id:s device_owner:s fixed_ips:l "
    "security_groups:l allowed_address_pairs:l extra_dhcp_opts:l port_security_enabled:b binding:vnic_type:s "
    "binding:host_id:s binding:profile:o binding:vif_type:s binding:vif_details:o ip_allocation:s",
    "routers": f"{NAMED} admin_state_up:b status:s external_gateway_info:o? routes:l availability_zone_hints:l "
    "availability_zones:l flavor_id:s?",
    "floatingips": f"{STANDARD} tags:l floating_network_id:s floating_ip_address:s fixed_ip_address:s? port_id:s? "
    "router_id:s? status:s port_details:o? port_forwardings:l",
    "security-groups": f"{NAMED} stateful:b shared:b security_group_rules:l",
    "security-group-rules": f"{STANDARD} security_group_id:s direction:s ethertype:s protocol:s? port_range_min:i? "
    "port_range_max:i? remote_ip_prefix:s? normalized_cidr:s? remote_group_id:s? remote_address_group_id:s? "
    "belongs_to_default_sg:b",
    "subnetpools": f"{NAMED} prefixes:l min_prefixlen:i max_prefixlen:i default_prefixlen:i default_quota:i? "
    "ip_version:i shared:b is_default:b address_scope_id:s?",
    "address-scopes": "id:s name:s project_id:s tenant_id:s ip_version:i shared:b",
    "address-groups": f"{STANDARD} name:s addresses:l shared:b",
    "rbac-policies": "id:s object_type:s object_id:s action:s target_tenant:s project_id:s tenant_id:s",
    "network-ip-availabilities": "network_id:s network_name:s project_id:s total_ips:i used_ips:i "
    "subnet_ip_availability:l",
    "availability_zones": "name:s resource:s state:s",
    "service-providers": "service_type:s name:s default:b",
    "extensions": "alias:s name:s description:s updated:s links:l",
}
TYPES = {"s": str, "i": int, "b": bool, "l": list, "o": dict}


def wrong(thing, attributes):
    """What of a view is missing or of another type."""
    for told in attributes.split():
        name, _, kind = told.rpartition(":")
        if name not in thing:
            yield f"no {name}"
            continue
        value = thing[name]
        fits = value is None if kind.endswith("?") and value is None else type(value) is TYPES[kind[0]]
        if not fits:
            yield f"{name} is {value!r}"


def main():
    wire = Wire()
    wire.log_in()
    it = refusals.world(wire)
    make = wire.create
    make("subnetpool", {"name": "pool", "prefixes": ["10.64.0.0/16"]})
    make("address_scope", {"name": "scope", "ip_version": 4})
    make("address_group", {"name": "corp", "addresses": ["10.0.0.0/8"]})
    policy = {
        "object_type": "network", "object_id": it["blue"]["id"], "action": "access_as_shared", "target_tenant": "*"
    }
    make("rbac_policy", policy, "rbac-policies")
    problems = []
    for path, attributes in VIEWS.items():
        answer = wire.ok(200, "GET", f"/v2.0/{path}")
        things = answer[path.replace("-", "_")]
        assert things, path
        for thing in things:
            problems += [f"{path}: {text}" for text in wrong(thing, attributes)]
    quota = wire.ok(200, "GET", f"/v2.0/quotas/{it['blue']['project_id']}/details")["quota"]
    for name in ("network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule",
                 "rbac_policy", "subnetpool"):
        problems += [f"quota {name}: {text}" for text in wrong(quota.get(name, {}), "limit:i used:i reserved:i")]
    assert not problems, "\n".join(sorted(set(problems)))
    print("done")


if __name__ == "__main__":
    main()
