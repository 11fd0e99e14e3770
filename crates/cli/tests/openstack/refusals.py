"""Every refusal that clients of Neutron count on, by status and type, against a running controller.

usage: refusals.py    (OS_CLIENT_CONFIG_FILE names a clouds.yaml with an administrator in the cloud `nanboku`)

Client libraries make exceptions of the type, Terraform decides by it whether to try again.
"""

from wire import Wire

UNKNOWN = "deadbeef-dead-4bee-8ade-deadbeefdead"


def world(wire):
    """A VPC with a way out, and what its tables of refusals name."""
    make = wire.create
    external = make(
        "network",
        {"router:external": True, "provider:network_type": "flat", "provider:physical_network": "physnet1"},
    )
    pool = [{"start": "172.22.7.20", "end": "172.22.7.24"}]
    make("subnet", {"network_id": external["id"], "ip_version": 4, "cidr": "172.22.7.0/24", "allocation_pools": pool})
    blue = make("network", {"name": "blue"})
    blue4 = make("subnet", {"network_id": blue["id"], "ip_version": 4, "cidr": "10.0.0.0/24"})
    red = make("network", {"name": "red"})
    red4 = make("subnet", {"network_id": red["id"], "ip_version": 4, "cidr": "10.1.0.0/24"})
    router = make("router", {"external_gateway_info": {"network_id": external["id"]}})
    leg = wire.ok(200, "PUT", f"/v2.0/routers/{router['id']}/add_router_interface", {"subnet_id": blue4["id"]})
    fixed = [{"subnet_id": blue4["id"], "ip_address": "10.0.0.50"}]
    port = make("port", {"network_id": blue["id"], "fixed_ips": fixed})
    floating = make("floatingip", {"floating_network_id": external["id"], "port_id": port["id"]})
    return {
        "external": external, "blue": blue, "blue4": blue4, "red": red, "red4": red4, "router": router, "leg": leg,
        "port": port, "floating": floating,
    }


def networks_and_subnets(wire, it):
    subnets = "/v2.0/subnets"

    def subnet(**attributes):
        return {"subnet": {"network_id": it["blue"]["id"], "ip_version": 4, **attributes}}

    for status, kind, body in [
        (400, "InvalidInput", subnet(cidr="10.0.0.128/25")),
        (400, "InvalidInput", subnet(cidr="2001:db8::/64")),
        (400, "InvalidInput", subnet(cidr="10.9.0.1/32")),
        (400, "BadRequest", subnet()),
        (404, "NetworkNotFound", {"subnet": {"network_id": UNKNOWN, "ip_version": 4, "cidr": "10.9.0.0/24"}}),
        (400, "HTTPBadRequest", subnet(cidr="10.9.0.0/33")),
        (409, "OverlappingAllocationPools", subnet(cidr="10.9.0.0/24", allocation_pools=[
            {"start": "10.9.0.2", "end": "10.9.0.9"}, {"start": "10.9.0.9", "end": "10.9.0.20"}])),
        (409, "GatewayConflictWithAllocationPools", subnet(cidr="10.9.0.0/24", gateway_ip="10.9.0.5", allocation_pools=[
            {"start": "10.9.0.2", "end": "10.9.0.9"}])),
        (400, "OutOfBoundsAllocationPool", subnet(cidr="10.9.0.0/24", allocation_pools=[
            {"start": "10.8.0.2", "end": "10.9.0.9"}])),
    ]:
        wire.refused(status, kind, "POST", subnets, body)
    wire.refused(409, "NetworkInUse", "DELETE", f"/v2.0/networks/{it['blue']['id']}")
    wire.refused(409, "SubnetInUse", "DELETE", f"/v2.0/subnets/{it['blue4']['id']}")
    wire.refused(404, "NetworkNotFound", "DELETE", f"/v2.0/networks/{UNKNOWN}")
    wire.refused(404, "NetworkNotFound", "GET", "/v2.0/networks/a-name")
    wire.refused(400, "InvalidInput", "POST", "/v2.0/networks", {"network": {"mtu": 9999}})


def ports(wire, it):
    def port(network="blue", **attributes):
        return {"port": {"network_id": it[network]["id"], **attributes}}

    in_blue = it["blue4"]["id"]
    for status, kind, body in [
        (400, "InvalidIpForNetwork", port(fixed_ips=[{"ip_address": "10.77.0.1"}])),
        (400, "InvalidIpForSubnet", port(fixed_ips=[{"subnet_id": in_blue, "ip_address": "10.77.0.1"}])),
        (409, "IpAddressAlreadyAllocated", port(fixed_ips=[{"ip_address": "10.0.0.50"}])),
        (409, "MacAddressInUse", port(mac_address=it["port"]["mac_address"])),
        (404, "NetworkNotFound", {"port": {"network_id": UNKNOWN}}),
        (404, "SecurityGroupNotFound", port(security_groups=[UNKNOWN])),
        (400, "HTTPBadRequest", {"port": {}}),
        (400, "HTTPBadRequest", port(extra_dhcp_opts=[{"opt_name": "colour", "opt_value": "red"}])),
    ]:
        wire.refused(status, kind, "POST", "/v2.0/ports", body)
    one = f"/v2.0/ports/{it['port']['id']}"
    wire.refused(409, "PortSecurityPortHasSecurityGroup", "PUT", one, {"port": {"port_security_enabled": False}})
    plain = wire.create("port", {"network_id": it["red"]["id"], "port_security_enabled": False, "security_groups": []})
    path = f"/v2.0/ports/{plain['id']}"
    pairs = {"port": {"allowed_address_pairs": [{"ip_address": "10.1.0.9"}]}}
    wire.refused(409, "AddressPairAndPortSecurityRequired", "PUT", path, pairs)
    wire.ok(204, "DELETE", path)
    wire.refused(404, "PortNotFound", "DELETE", path)
    tiny = wire.create("network", {})
    wire.create("subnet", {
        "network_id": tiny["id"], "ip_version": 4, "cidr": "10.7.0.0/24", "gateway_ip": None,
        "allocation_pools": [{"start": "10.7.0.2", "end": "10.7.0.2"}],
    })
    wire.create("port", {"network_id": tiny["id"]})
    wire.refused(409, "IpAddressGenerationFailure", "POST", "/v2.0/ports", {"port": {"network_id": tiny["id"]}})


def routers(wire, it):
    router, blue4, red4 = it["router"]["id"], it["blue4"]["id"], it["red4"]["id"]
    path = f"/v2.0/routers/{router}"
    add, remove = f"{path}/add_router_interface", f"{path}/remove_router_interface"
    overlap = wire.create("network", {})
    overlap = wire.create("subnet", {"network_id": overlap["id"], "ip_version": 4, "cidr": "10.0.0.0/25"})
    bare = wire.create("network", {})
    bare = wire.create(
        "subnet", {"network_id": bare["id"], "ip_version": 4, "cidr": "10.3.0.0/24", "gateway_ip": None}
    )
    two = [{"ip_address": "10.1.0.20"}, {"ip_address": "10.1.0.21"}]
    several = wire.create("port", {"network_id": it["red"]["id"], "fixed_ips": two})
    for status, kind, action, body in [
        (400, "BadRequest", add, {}),
        (400, "BadRequest", add, {"subnet_id": red4, "port_id": several["id"]}),
        (400, "BadRequest", add, {"subnet_id": "x"}),
        (400, "BadRequest", add, {"subnet_id": blue4}),
        (400, "BadRequest", add, {"subnet_id": overlap["id"]}),
        (400, "BadRequest", add, {"subnet_id": bare["id"]}),
        (400, "BadRequest", add, {"port_id": several["id"]}),
        (404, "SubnetNotFound", add, {"subnet_id": UNKNOWN}),
        (404, "PortNotFound", add, {"port_id": UNKNOWN}),
        (404, "RouterInterfaceNotFoundForSubnet", remove, {"subnet_id": red4}),
        (404, "RouterInterfaceNotFound", remove, {"port_id": several["id"]}),
        (409, "RouterInterfaceInUseByFloatingIP", remove, {"subnet_id": blue4}),
        (404, "RouterNotFound", f"/v2.0/routers/{UNKNOWN}/add_router_interface", {"subnet_id": red4}),
    ]:
        wire.refused(status, kind, "PUT", action, body)

    def changed(**attributes):
        return {"router": attributes}

    taken = [{"ip_address": it["floating"]["floating_ip_address"]}]
    outside = it["external"]["id"]
    for status, kind, body in [
        (400, "BadRequest", changed(external_gateway_info={"network_id": it["red"]["id"]})),
        (409, "RouterExternalGatewayInUseByFloatingIp", changed(external_gateway_info={})),
        (409, "IpAddressAlreadyAllocated", changed(
            external_gateway_info={"network_id": outside, "external_fixed_ips": taken})),
        (400, "InvalidRoutes", changed(routes=[{"destination": "10.8.0.0/16", "nexthop": "10.99.0.1"}])),
        (400, "InvalidRoutes", changed(routes=[{"destination": "10.8.0.0/16", "nexthop": "10.0.0.1"}])),
    ]:
        wire.refused(status, kind, "PUT", path, body)
    red = wire.create("router", {})["id"]
    wire.ok(200, "PUT", f"/v2.0/routers/{red}/add_router_interface", {"subnet_id": red4})
    routes = changed(routes=[{"destination": "10.8.0.0/16", "nexthop": "10.1.0.9"}])
    wire.ok(200, "PUT", f"/v2.0/routers/{red}", routes)
    remove_red = f"/v2.0/routers/{red}/remove_router_interface"
    wire.refused(409, "RouterInterfaceInUseByRoute", "PUT", remove_red, {"subnet_id": red4})
    wire.refused(409, "RouterInUse", "DELETE", path)
    gateway = f"/v2.0/ports?device_owner=network:router_gateway&device_id={router}"
    holder = f"/v2.0/ports?device_owner=network:floatingip&device_id={it['floating']['id']}"
    owned = [wire.ok(200, "GET", query)["ports"][0]["id"] for query in (gateway, holder)]
    for port in [it["leg"]["port_id"], *owned]:
        wire.refused(409, "ServicePortInUse", "DELETE", f"/v2.0/ports/{port}")


def floating_ips(wire, it):
    outside = it["external"]["id"]
    lonely = wire.create("network", {})
    wire.create("subnet", {"network_id": lonely["id"], "ip_version": 4, "cidr": "10.6.0.0/24"})
    lonely = wire.create("port", {"network_id": lonely["id"]})
    two = [{"ip_address": "10.0.0.60"}, {"ip_address": "10.0.0.61"}]
    several = wire.create("port", {"network_id": it["blue"]["id"], "fixed_ips": two})

    def body(**attributes):
        return {"floatingip": {"floating_network_id": outside, **attributes}}

    for status, kind, sent in [
        (400, "BadRequest", {"floatingip": {"floating_network_id": it["red"]["id"]}}),
        (404, "NetworkNotFound", {"floatingip": {"floating_network_id": UNKNOWN}}),
        (404, "ExternalGatewayForFloatingIPNotFound", body(port_id=lonely["id"])),
        (409, "FloatingIPPortAlreadyAssociated", body(port_id=it["port"]["id"])),
        (409, "IpAddressAlreadyAllocated", body(floating_ip_address=it["floating"]["floating_ip_address"])),
        (400, "BadRequest", body(port_id=several["id"])),
        (404, "PortNotFound", body(port_id=UNKNOWN)),
    ]:
        wire.refused(status, kind, "POST", "/v2.0/floatingips", sent)
    for _ in range(3):
        wire.create("floatingip", {"floating_network_id": outside})
    wire.refused(409, "IpAddressGenerationFailure", "POST", "/v2.0/floatingips", body())
    without = wire.create(
        "network",
        {"router:external": True, "provider:network_type": "flat", "provider:physical_network": "physnet2"},
    )
    empty = {"floatingip": {"floating_network_id": without["id"]}}
    wire.refused(400, "ExternalIpAddressExhausted", "POST", "/v2.0/floatingips", empty)
    wire.refused(404, "FloatingIPNotFound", "DELETE", f"/v2.0/floatingips/{UNKNOWN}")


def security_groups(wire, it):
    default = it["port"]["security_groups"][0]
    for status, kind, method, path, body in [
        (409, "SecurityGroupInUse", "DELETE", f"/v2.0/security-groups/{default}", None),
        (409, "SecurityGroupCannotUpdateDefault", "PUT", f"/v2.0/security-groups/{default}",
         {"security_group": {"name": "mine"}}),
        (409, "SecurityGroupDefaultAlreadyExists", "POST", "/v2.0/security-groups",
         {"security_group": {"name": "default"}}),
        (404, "SecurityGroupNotFound", "GET", f"/v2.0/security-groups/{UNKNOWN}", None),
    ]:
        wire.refused(status, kind, method, path, body)
    group = wire.create("security_group", {"name": "web"})
    assert len(group["security_group_rules"]) == 2, group

    def rule(**attributes):
        return {"security_group_rule": {"security_group_id": group["id"], "direction": "ingress", **attributes}}

    ssh = {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
    wire.ok(201, "POST", "/v2.0/security-group-rules", rule(**ssh))
    for status, kind, body in [
        (409, "SecurityGroupRuleExists", rule(**ssh)),
        (400, "SecurityGroupProtocolRequiredWithPorts", rule(port_range_min=1, port_range_max=2)),
        (400, "SecurityGroupInvalidPortRange", rule(protocol="tcp", port_range_min=9, port_range_max=2)),
        (400, "SecurityGroupRuleInvalidProtocol", rule(protocol="carrier-pigeon")),
        (404, "SecurityGroupNotFound", rule(remote_group_id=UNKNOWN)),
    ]:
        wire.refused(status, kind, "POST", "/v2.0/security-group-rules", body)


def common(wire, it):
    network = f"/v2.0/networks/{it['red']['id']}"
    for status, kind, method, path, body in [
        (400, "HTTPBadRequest", "POST", "/v2.0/networks", b"{"),
        (400, "HTTPBadRequest", "POST", "/v2.0/networks", {"net": {}}),
        (400, "HTTPBadRequest", "POST", "/v2.0/networks", {"network": {"x": 1}}),
        (400, "HTTPBadRequest", "PUT", network, {"network": {"id": UNKNOWN}}),
        (400, "HTTPBadRequest", "POST", "/v2.0/networks", {"network": {"name": "x" * 256}}),
        (400, "HTTPBadRequest", "GET", "/v2.0/networks?bogus=1", None),
        (400, "HTTPBadRequest", "GET", "/v2.0/networks?limit=-1", None),
        (400, "HTTPBadRequest", "GET", "/v2.0/networks?sort_key=id", None),
        (400, "InvalidInput", "GET", "/v2.0/networks?shared=perhaps", None),
        (404, "ExtensionNotFound", "GET", "/v2.0/extensions/nothing", None),
        (404, "TagNotFound", "DELETE", f"{network}/tags/nothing", None),
        (404, "HTTPNotFound", "GET", "/v2.0/nothing", None),
        (405, "HTTPMethodNotAllowed", "PATCH", network, {}),
        (413, "HTTPRequestEntityTooLarge", "POST", "/v2.0/networks", b"x" * (1 << 20) + b"x"),
    ]:
        wire.refused(status, kind, method, path, body)
    wrong = {"If_Match": "revision_number=999"}
    wire.refused(412, "RevisionNumberConstraintFailed", "PUT", network, {"network": {"name": "x"}}, **wrong)
    project = it["blue"]["project_id"]
    wire.ok(200, "PUT", f"/v2.0/quotas/{project}", {"quota": {"network": 1}})
    wire.refused(409, "OverQuota", "POST", "/v2.0/networks", {"network": {}})
    check = {"quota": {"network": 1, "check_limit": True}}
    wire.refused(400, "HTTPBadRequest", "PUT", f"/v2.0/quotas/{project}", check)
    token, wire.token = wire.token, None
    status, headers, said = wire.send("GET", "/v2.0/networks")
    assert status == 401 and said["error"]["code"] == 401 and headers["www-authenticate"], (status, headers, said)
    wire.token = token


def main():
    wire = Wire()
    wire.log_in()
    it = world(wire)
    networks_and_subnets(wire, it)
    ports(wire, it)
    routers(wire, it)
    security_groups(wire, it)
    floating_ips(wire, it)
    common(wire, it)
    print("done")


if __name__ == "__main__":
    main()
