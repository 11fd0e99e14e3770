"""openstacksdk against a running controller: every kind of thing it knows of a network, and what it makes of refusals.

usage: sdk.py    (OS_CLIENT_CONFIG_FILE names a clouds.yaml with an administrator in the cloud `nanboku`)

The last line is `done`; anything that is not as it should be ends it with an exception.
"""

import contextlib
import warnings

warnings.simplefilter("ignore")

import openstack  # noqa: E402
from openstack import exceptions  # noqa: E402

UNKNOWN = "deadbeef-dead-4bee-8ade-deadbeefdead"


@contextlib.contextmanager
def refused(exception, *words):
    """What is done inside must be refused with that exception, whose text has the words."""
    try:
        yield
    except exception as error:
        text = str(error)
        missing = [word for word in words if word not in text]
        assert not missing, f"{missing} not in {text}"
    else:
        raise AssertionError(f"no {exception.__name__}")


def same(found, wanted):
    found, wanted = sorted(thing.id for thing in found), sorted(thing.id for thing in wanted)
    assert found == wanted, f"{found} is not {wanted}"


def networks(net):
    made = net.create_network(name="blue", description="words", mtu=1400, is_admin_state_up=True)
    assert (made.name, made.status, made.mtu, made.is_router_external) == ("blue", "ACTIVE", 1400, False), made
    assert made.project_id and made.created_at.endswith("Z") and made.subnet_ids == [], made
    assert net.get_network(made.id).name == "blue"
    assert net.find_network("blue").id == made.id and net.find_network(made.id).id == made.id
    assert net.find_network("nothing") is None
    with refused(exceptions.NotFoundException, UNKNOWN):
        net.get_network(UNKNOWN)
    changed = net.update_network(made, name="bluer", is_admin_state_up=False)
    assert (changed.name, changed.is_admin_state_up) == ("bluer", False) and changed.revision_number > 0, changed
    with refused(exceptions.BadRequestException, "bogus"):
        exceptions.raise_from_response(net.put(f"/networks/{made.id}", json={"network": {"bogus": 1}}))
    net.update_network(made, name="blue", is_admin_state_up=True)
    return made


def subnets(net, network):
    made = net.create_subnet(
        network_id=network.id,
        ip_version=4,
        cidr="10.0.0.0/24",
        name="blue4",
        dns_nameservers=["9.9.9.9", "1.1.1.1"],
        host_routes=[{"destination": "10.9.0.0/16", "nexthop": "10.0.0.9"}],
        allocation_pools=[{"start": "10.0.0.10", "end": "10.0.0.200"}],
    )
    assert (made.gateway_ip, made.cidr, made.is_dhcp_enabled) == ("10.0.0.1", "10.0.0.0/24", True), made
    assert made.dns_nameservers == ["9.9.9.9", "1.1.1.1"], "the order is kept"
    assert net.get_network(network.id).subnet_ids == [made.id]
    with refused(exceptions.BadRequestException, "overlap"):
        net.create_subnet(network_id=network.id, ip_version=4, cidr="10.0.0.128/25")
    with refused(exceptions.BadRequestException, "cidr"):
        net.create_subnet(network_id=network.id, ip_version=4, cidr="10.0.0.0/33")
    changed = net.update_subnet(made, dns_nameservers=[], host_routes=[], name="blue-4")
    assert changed.dns_nameservers == [] and changed.host_routes == [], changed
    without = net.create_subnet(network_id=network.id, ip_version=4, cidr="10.0.1.0/24", gateway_ip=None)
    assert without.gateway_ip is None and net.get_subnet(without.id).gateway_ip is None, without
    net.delete_subnet(without, ignore_missing=False)
    same(net.subnets(network_id=network.id, cidr="10.0.0.0/24"), [made])
    return made


def ports(net, network, subnet):
    fixed = [{"subnet_id": subnet.id, "ip_address": "10.0.0.50"}]
    made = net.create_port(
        network_id=network.id,
        name="vm",
        fixed_ips=fixed,
        mac_address="fa:16:3e:00:11:22",
        device_id="instance",
        extra_dhcp_opts=[{"opt_name": "bootfile-name", "opt_value": "pxelinux.0"}],
        allowed_address_pairs=[{"ip_address": "10.0.0.99"}],
    )
    assert made.fixed_ips == fixed and made.mac_address == "fa:16:3e:00:11:22" and made.status == "DOWN", made
    assert made.allowed_address_pairs == [{"ip_address": "10.0.0.99", "mac_address": made.mac_address}], made
    assert made.extra_dhcp_opts[0]["opt_value"] == "pxelinux.0", made
    with refused(exceptions.ConflictException, "10.0.0.50"):
        net.create_port(network_id=network.id, fixed_ips=fixed)
    with refused(exceptions.ConflictException, made.mac_address):
        net.create_port(network_id=network.id, mac_address=made.mac_address)
    with refused(exceptions.BadRequestException, "10.7.0.1"):
        net.create_port(network_id=network.id, fixed_ips=[{"ip_address": "10.7.0.1"}])
    with refused(exceptions.BadRequestException, "colour", "bootfile-name"):
        net.create_port(network_id=network.id, extra_dhcp_opts=[{"opt_name": "colour", "opt_value": "red"}])
    with refused(exceptions.ConflictException, made.id):
        net.delete_network(network)
    same(net.ports(fixed_ips="ip_address=10.0.0.50"), [made])
    same(net.ports(fixed_ips=f"subnet_id={subnet.id}"), [made])
    same(net.ports(fixed_ips="ip_address_substr=0.5"), [made])
    same(net.ports(device_id="instance", mac_address=made.mac_address), [made])
    same(net.ports(device_id="nobody"), [])
    assert net.update_port(made, extra_dhcp_opts=[{"opt_name": "bootfile-name", "opt_value": None}]).extra_dhcp_opts == []
    assert net.update_port(made, fixed_ips=[{"ip_address": "10.0.0.51"}]).fixed_ips[0]["ip_address"] == "10.0.0.51"
    return made


def bulk(net, network):
    bodies = [{"network_id": network.id, "name": f"bulk{number}"} for number in range(7)]
    made = list(net.create_ports(bodies))
    assert [port.name for port in made] == [body["name"] for body in bodies], "in the order of the request"
    before = len(list(net.ports(network_id=network.id)))
    with refused(exceptions.ConflictException):
        twice = {"network_id": network.id, "fixed_ips": [{"ip_address": "10.0.0.60"}]}
        net.create_ports([twice, twice])
    assert len(list(net.ports(network_id=network.id))) == before, "all or none"
    return made


def pages(net, network, bulk):
    everything = list(net.ports(network_id=network.id))
    for limit in (1, 2, 3, 100):
        paged = list(net.ports(network_id=network.id, limit=limit))
        assert len(paged) == len(everything), f"{limit}: {len(paged)} of {len(everything)}"
        same(paged, everything)
    first = net.get(f"/ports?network_id={network.id}&limit=3&sort_key=name&sort_dir=desc").json()
    names = [port["name"] for port in first["ports"]]
    assert names == sorted(names, reverse=True) and len(names) == 3, names
    assert {link["rel"] for link in first["ports_links"]} == {"next", "previous"}, first["ports_links"]
    assert len(list(net.ports(network_id=network.id, limit=2, paginated=False))) == 2
    fields = net.get(f"/ports?fields=id&fields=name&fields=nothing&id={bulk[0].id}").json()["ports"]
    assert fields == [{"id": bulk[0].id, "name": "bulk0"}], fields
    either = net.get("/ports?name=bulk1&name=bulk2").json()["ports"]
    assert sorted(port["name"] for port in either) == ["bulk1", "bulk2"], "values of one key are alternatives"
    for query in ("bogus=1", "limit=-1", "limit=x", "sort_key=bogus&sort_dir=asc", "sort_key=id", "admin_state_up=x"):
        answer = net.get(f"/ports?{query}")
        assert answer.status_code == 400 and answer.json()["NeutronError"]["message"], f"{query}: {answer.text}"


def tags(net, network, subnet, port):
    for thing in (network, subnet, port):
        net.set_tags(thing, ["red", "round"])
        net.add_tag(thing, "heavy") if hasattr(net, "add_tag") else net.put(f"{thing.base_path}/{thing.id}/tags/heavy")
    same(net.networks(tags="red,round"), [network])
    same(net.networks(any_tags="red,nothing"), [network])
    assert network.id not in {other.id for other in net.networks(not_tags="red")}
    same(net.ports(tags="heavy"), [port])
    assert sorted(net.get_port(port.id).tags) == ["heavy", "red", "round"]
    for thing in (network, subnet, port):
        net.set_tags(thing, [])
    assert net.get_network(network.id).tags == []


def preconditions(net, network):
    now = net.get_network(network.id)
    before = now.revision_number
    with refused(exceptions.SDKException, "412"):
        net.update_network(now, description="never", if_revision=before + 1)
    changed = net.update_network(network.id, description="now", if_revision=before)
    assert changed.revision_number > before and changed.description == "now", changed
    with refused(exceptions.SDKException, "412"):
        net.delete_network(now.id, if_revision=0)


def groups(net, port):
    made = net.create_security_group(name="web", description="words")
    assert {rule["ethertype"] for rule in made.security_group_rules} == {"IPv4", "IPv6"}, made
    rule = net.create_security_group_rule(
        security_group_id=made.id, direction="ingress", protocol="tcp", port_range_min=80, port_range_max=80,
        remote_ip_prefix="10.0.0.0/8",
    )
    assert (rule.port_range_min, rule.protocol, rule.remote_ip_prefix) == (80, "tcp", "10.0.0.0/8"), rule
    again = {"security_group_id": made.id, "direction": "ingress", "protocol": "tcp", "port_range_min": 80}
    with refused(exceptions.ConflictException, rule.id):
        net.create_security_group_rule(**again, port_range_max=80, remote_ip_prefix="10.0.0.0/8")
    bodies = [
        {"security_group_id": made.id, "direction": "ingress", "protocol": "udp", "port_range_min": port,
         "port_range_max": port} for port in (53, 123)
    ]
    assert len(list(net.create_security_group_rules(bodies))) == 2
    same(net.security_group_rules(security_group_id=made.id, protocol="tcp"), [rule])
    assert net.update_port(port, security_group_ids=[made.id]).security_group_ids == [made.id]
    with refused(exceptions.ConflictException, made.id):
        net.delete_security_group(made, ignore_missing=False)
    default = net.find_security_group("default", project_id=made.project_id)
    with refused(exceptions.ConflictException):
        net.delete_security_group(default, ignore_missing=False)
    with refused(exceptions.ConflictException):
        net.create_security_group(name="default")
    net.update_port(port, security_group_ids=[default.id])
    net.delete_security_group_rule(rule, ignore_missing=False)
    net.delete_security_group(made, ignore_missing=False)


def outside(net):
    made = net.create_network(
        name="outside", is_router_external=True, provider_network_type="flat", provider_physical_network="physnet1"
    )
    assert made.is_router_external and made.provider_physical_network == "physnet1", made
    subnet = net.create_subnet(
        network_id=made.id, ip_version=4, cidr="172.22.7.0/24", is_dhcp_enabled=False, gateway_ip="172.22.7.1",
        allocation_pools=[{"start": "172.22.7.20", "end": "172.22.7.29"}],
    )
    same(net.networks(is_router_external=True), [made])
    return made, subnet


def routers(net, external, subnet):
    made = net.create_router(name="edge", external_gateway_info={"network_id": external.id, "enable_snat": True})
    address = made.external_gateway_info["external_fixed_ips"][0]["ip_address"]
    assert made.status == "ACTIVE" and address.startswith("172.22.7."), made
    leg = net.add_interface_to_router(made, subnet_id=subnet.id)
    assert leg["subnet_id"] == subnet.id and leg["id"] == made.id, leg
    assert net.get_port(leg["port_id"]).fixed_ips[0]["ip_address"] == "10.0.0.1"
    with refused(exceptions.BadRequestException):
        net.add_interface_to_router(made, subnet_id=subnet.id)
    with refused(exceptions.ConflictException):
        net.delete_router(made, ignore_missing=False)
    with refused(exceptions.ConflictException):
        net.delete_port(leg["port_id"], ignore_missing=False)
    with refused(exceptions.ConflictException):
        net.delete_subnet(subnet, ignore_missing=False)
    route = {"destination": "10.8.0.0/16", "nexthop": "10.0.0.77"}
    more = {"destination": "10.7.0.0/16", "nexthop": "10.0.0.77"}
    assert net.update_router(made, routes=[route]).routes == [route]
    added = net.add_extra_routes_to_router(made, {"router": {"routes": [more]}})
    assert sorted(one["destination"] for one in added.routes) == ["10.7.0.0/16", "10.8.0.0/16"], added.routes
    left = net.remove_extra_routes_from_router(made, {"router": {"routes": [route]}})
    assert left.routes == [more], left.routes
    with refused(exceptions.BadRequestException, "10.99.0.1"):
        net.update_router(made, routes=[{"destination": "10.6.0.0/16", "nexthop": "10.99.0.1"}])
    net.update_router(made, routes=[])
    return made


def floating_ips(net, external, router, port):
    made = net.create_ip(floating_network_id=external.id, port_id=port.id)
    assert (made.router_id, made.fixed_ip_address) == (router.id, "10.0.0.51"), made
    assert net.find_ip(made.floating_ip_address).id == made.id, "by its address"
    same(net.ips(port_id=port.id), [made])
    with refused(exceptions.ConflictException):
        net.create_ip(floating_network_id=external.id, port_id=port.id)
    with refused(exceptions.ConflictException):
        net.update_router(router, external_gateway_info={})
    free = net.update_ip(made, port_id=None)
    assert free.port_id is None and free.fixed_ip_address is None and free.status == "DOWN", free
    assert net.find_available_ip().id == made.id
    net.update_ip(made, port_id=port.id)
    net.delete_port(port, ignore_missing=False)
    assert net.get_ip(made.id).port_id is None, "it is let go with its port"
    net.delete_ip(made, ignore_missing=False)
    with refused(exceptions.NotFoundException):
        net.delete_ip(made, ignore_missing=False)


def quotas(cloud, net):
    project = cloud.current_project_id
    before = net.get_quota(project).networks
    assert net.update_quota(project, networks=before + 7).networks == before + 7
    assert net.get_quota(project, details=True).networks["used"] >= 2
    assert net.get_quota_default(project).networks == before
    with refused(exceptions.BadRequestException):
        net.update_quota(project, networks=1, check_limit=True)
    net.update_quota(project, subnets=0)
    network = net.create_network(name="full")
    with refused(exceptions.ConflictException, "subnet"):
        net.create_subnet(network_id=network.id, ip_version=4, cidr="10.5.0.0/24")
    net.delete_network(network, ignore_missing=False)
    net.delete_quota(project)
    assert net.get_quota(project).networks == before


def others(net, network):
    assert {zone.name for zone in net.availability_zones()}
    assert list(net.agents()) == []
    assert "router" in {extension.alias for extension in net.extensions()}
    assert net.find_extension("no-such-extension") is None
    left = {view.network_id: view for view in net.network_ip_availabilities()}
    assert left[network.id].used_ips > 0 and left[network.id].total_ips > 100, left
    group = net.create_address_group(name="corp", addresses=["10.0.0.0/8"])
    assert net.add_addresses_to_address_group(group, ["192.0.2.0/24"]).addresses[-1] == "192.0.2.0/24"
    assert net.remove_addresses_from_address_group(group, ["10.0.0.0/8"]).addresses == ["192.0.2.0/24"]
    net.delete_address_group(group)
    policy = net.create_rbac_policy(
        object_type="network", object_id=network.id, action="access_as_shared", target_project_id="*"
    )
    assert net.get_network(network.id).is_shared
    net.delete_rbac_policy(policy, ignore_missing=False)
    scope = net.create_address_scope(name="scope", ip_version=4)
    pool = net.create_subnet_pool(name="pool", prefixes=["10.64.0.0/16"], default_prefix_length=24)
    pooled = net.create_network(name="pooled")
    subnet = net.create_subnet(network_id=pooled.id, subnet_pool_id=pool.id, ip_version=4)
    assert subnet.cidr == "10.64.0.0/24", subnet
    net.delete_network(pooled, ignore_missing=False)
    net.delete_subnet_pool(pool, ignore_missing=False)
    net.delete_address_scope(scope, ignore_missing=False)


def main():
    cloud = openstack.connect(cloud="nanboku")
    net = cloud.network
    network = networks(net)
    subnet = subnets(net, network)
    port = ports(net, network, subnet)
    made = bulk(net, network)
    pages(net, network, made)
    tags(net, network, subnet, port)
    preconditions(net, network)
    groups(net, port)
    external, _ = outside(net)
    router = routers(net, external, subnet)
    floating_ips(net, external, router, port)
    quotas(cloud, net)
    others(net, network)
    for one in made:
        net.delete_port(one, ignore_missing=False)
    net.remove_interface_from_router(router, subnet_id=subnet.id)
    net.delete_router(router, ignore_missing=False)
    for one in (network, external):
        net.delete_network(one, ignore_missing=False)
    assert list(net.networks()) == [] and list(net.ports()) == []
    print("done")


if __name__ == "__main__":
    main()
