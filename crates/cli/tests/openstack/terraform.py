"""What gophercloud, and with it Terraform's OpenStack provider, sends and needs, replayed without either.

usage: terraform.py    (OS_CLIENT_CONFIG_FILE names a clouds.yaml with an administrator in the cloud `nanboku`)

Both are strict where Python's clients are not: other codes than these are errors, a status that they do not know fails at
once, and what they read must have its type. Tags come in a call of their own, deletion is polled until 404.
"""

import re

from wire import Wire

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


def discovery(wire):
    """gophercloud: identity by its versions, a token, then the network's root of the catalog, which it adds v2.0/ to."""
    wire.ok(300, "GET", "/identity/")
    assert wire.ok(200, "GET", "/identity/v3")["version"]["id"].startswith("v3")
    catalog = {entry["type"]: entry for entry in wire.log_in()["catalog"]}
    assert {"identity", "network"} <= set(catalog), catalog
    for endpoint in catalog["network"]["endpoints"]:
        assert endpoint["interface"] in ("public", "internal", "admin") and endpoint["region"], endpoint
        assert not endpoint["url"].rstrip("/").endswith("v2.0"), endpoint
    versions = wire.ok(200, "GET", "/")["versions"]
    assert any(version["id"].startswith("v2.") for version in versions), versions
    # With an application credential, as Terraform's users do; the endpoint that is named has v2.0/ itself.
    wire.ok(200, "GET", "/v2.0/")


def application_credential(wire):
    user = wire.ok(200, "GET", "/identity/v3/auth/tokens", X_Subject_Token=wire.token)["token"]["user"]["id"]
    path = f"/identity/v3/users/{user}/application_credentials"
    made = wire.ok(201, "POST", path, {"application_credential": {"name": "terraform"}})["application_credential"]
    secret = {"id": made["id"], "secret": made["secret"]}
    body = {"auth": {"identity": {"methods": ["application_credential"], "application_credential": secret}}}
    password, wire.token = wire.token, None
    status, headers, said = wire.send("POST", "/identity/v3/auth/tokens", body)
    assert status == 201 and said["token"]["project"]["id"], said
    wire.token = {key.lower(): text for key, text in headers.items()}["x-subject-token"]
    wire.ok(200, "GET", "/v2.0/networks")
    wire.token = password


def state(wire, path, name, allowed):
    """The object, in a state that it is waited for."""
    thing = wire.ok(200, "GET", path)[name]
    assert thing.get("status") in allowed, f"{path}: {thing}"
    return thing


def tagged(wire, path, tags):
    assert wire.ok(200, "PUT", f"{path}/tags", {"tags": tags}) == {"tags": tags}


def network(wire):
    made = wire.create("network", {"name": "tf", "admin_state_up": True})
    path = f"/v2.0/networks/{made['id']}"
    made = state(wire, path, "network", ["ACTIVE", "DOWN"])
    tagged(wire, path, ["tf"])
    assert isinstance(made["mtu"], int) and TIME.match(made["created_at"]) and TIME.match(made["updated_at"]), made
    assert isinstance(made["subnets"], list) and isinstance(made["router:external"], bool), made
    subnet = wire.create("subnet", {
        "network_id": made["id"], "name": "tf", "cidr": "10.20.0.0/24", "ip_version": 4, "enable_dhcp": True,
        "dns_nameservers": ["9.9.9.9"], "allocation_pools": [{"start": "10.20.0.10", "end": "10.20.0.99"}],
    })
    wire.ok(200, "PUT", f"/v2.0/subnets/{subnet['id']}", {"subnet": {"dns_nameservers": []}})
    none = wire.create("subnet", {"network_id": made["id"], "cidr": "10.21.0.0/24", "ip_version": 4, "gateway_ip": None})
    assert wire.ok(200, "GET", f"/v2.0/subnets/{none['id']}")["subnet"]["gateway_ip"] is None
    wire.ok(204, "DELETE", f"/v2.0/subnets/{none['id']}")
    return made, subnet


def group(wire):
    made = wire.create("security_group", {"name": "tf", "description": ""})
    # `delete_default_rules`: one by one.
    for rule in made["security_group_rules"]:
        wire.ok(204, "DELETE", f"/v2.0/security-group-rules/{rule['id']}")
    rule = wire.create("security_group_rule", {
        "security_group_id": made["id"], "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
        "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "0.0.0.0/0",
    })
    assert (rule["port_range_min"], rule["port_range_max"]) == (22, 22), "numbers"
    tagged(wire, f"/v2.0/security-groups/{made['id']}", ["tf"])
    return made


def port(wire, network, subnet, group):
    made = wire.create("port", {
        "network_id": network["id"], "name": "tf", "admin_state_up": True, "security_groups": [group["id"]],
        "fixed_ips": [{"subnet_id": subnet["id"]}],
        "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}],
    })
    made = state(wire, f"/v2.0/ports/{made['id']}", "port", ["ACTIVE", "DOWN"])
    for key in ("fixed_ips", "security_groups", "allowed_address_pairs", "extra_dhcp_opts"):
        assert isinstance(made[key], list), f"{key}: {made}"
    for key in ("device_id", "device_owner", "mac_address", "binding:vnic_type", "binding:host_id"):
        assert isinstance(made[key], str), f"{key}: {made}"
    assert isinstance(made["binding:profile"], dict) and isinstance(made["port_security_enabled"], bool), made
    tagged(wire, f"/v2.0/ports/{made['id']}", ["tf"])
    return made


def router(wire, external, subnet):
    made = wire.create("router", {
        "name": "tf", "admin_state_up": True,
        "external_gateway_info": {"network_id": external["id"], "enable_snat": True},
    })
    path = f"/v2.0/routers/{made['id']}"
    # Any other state is an error at once.
    made = state(wire, path, "router", ["ACTIVE"])
    assert isinstance(made["routes"], list) and made["external_gateway_info"]["external_fixed_ips"], made
    leg = wire.ok(200, "PUT", f"{path}/add_router_interface", {"subnet_id": subnet["id"]})
    assert leg["id"] == made["id"] and leg["subnet_id"] == subnet["id"], leg
    state(wire, f"/v2.0/ports/{leg['port_id']}", "port", ["ACTIVE", "DOWN"])
    wire.ok(200, "PUT", path, {"router": {"routes": [{"destination": "10.99.0.0/16", "nexthop": "10.20.0.9"}]}})
    wire.ok(200, "PUT", path, {"router": {"routes": []}})
    return made


def floating_ip(wire, external, port):
    assert wire.ok(200, "GET", f"/v2.0/networks?name={external['name']}")["networks"][0]["id"] == external["id"]
    made = wire.create("floatingip", {"floating_network_id": external["id"]})
    path = f"/v2.0/floatingips/{made['id']}"
    state(wire, path, "floatingip", ["ACTIVE", "DOWN"])
    query = f"/v2.0/floatingips?floating_ip_address={made['floating_ip_address']}"
    assert [one["id"] for one in wire.ok(200, "GET", query)["floatingips"]] == [made["id"]]
    wire.ok(200, "PUT", path, {"floatingip": {"port_id": port["id"]}})
    state(wire, path, "floatingip", ["ACTIVE", "DOWN"])
    tagged(wire, path, ["tf"])
    wire.ok(200, "PUT", path, {"floatingip": {"port_id": None}})
    return made


def pages(wire, network):
    """Links are followed until there is no next."""
    ports = [{"network_id": network["id"], "name": f"page{number}"} for number in range(5)]
    made = wire.ok(201, "POST", "/v2.0/ports", {"ports": ports})["ports"]
    found, path = [], f"/v2.0/ports?network_id={network['id']}&limit=2"
    for _ in range(10):
        page = wire.ok(200, "GET", path)
        found += [port["id"] for port in page["ports"]]
        following = [link["href"] for link in page["ports_links"] if link["rel"] == "next"]
        if not following:
            break
        assert following[0].startswith(wire.root), following
        path = following[0].removeprefix(wire.root)
    assert {port["id"] for port in made} <= set(found) and len(found) == len(set(found)), found
    for port in made:
        gone(wire, f"/v2.0/ports/{port['id']}")


def gone(wire, path):
    """DELETE, then GET until it is not there."""
    wire.ok(204, "DELETE", path)
    wire.refused(404, wire.ok(404, "GET", path)["NeutronError"]["type"], "DELETE", path)


def main():
    wire = Wire()
    discovery(wire)
    application_credential(wire)
    external = wire.create("network", {
        "name": "public", "router:external": True, "provider:network_type": "vlan",
        "provider:physical_network": "physnet1", "provider:segmentation_id": "2207",
    })
    assert str(external["provider:segmentation_id"]) == "2207", external
    wire.create("subnet", {"network_id": external["id"], "cidr": "172.22.7.0/24", "ip_version": 4, "enable_dhcp": False})
    blue, subnet = network(wire)
    web = group(wire)
    vm = port(wire, blue, subnet, web)
    edge = router(wire, external, subnet)
    floating = floating_ip(wire, external, vm)
    pages(wire, blue)
    # In an order that parallel deletion comes to: what is in use answers 409 and is tried again.
    for path in (f"networks/{blue['id']}", f"subnets/{subnet['id']}", f"security-groups/{web['id']}"):
        wire.ok(409, "DELETE", f"/v2.0/{path}")
    gone(wire, f"/v2.0/floatingips/{floating['id']}")
    gone(wire, f"/v2.0/ports/{vm['id']}")
    leave = f"/v2.0/routers/{edge['id']}/remove_router_interface"
    wire.ok(200, "PUT", leave, {"subnet_id": subnet["id"]})
    for path in (
        f"routers/{edge['id']}", f"subnets/{subnet['id']}", f"networks/{blue['id']}", f"security-groups/{web['id']}"
    ):
        gone(wire, f"/v2.0/{path}")
    print("done")


if __name__ == "__main__":
    main()
