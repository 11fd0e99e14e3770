"""A session of the real `openstack` command line and SDK against a running controller.

usage: session.py    (OS_CLIENT_CONFIG_FILE names a clouds.yaml with an administrator in the cloud `nanboku`)

Each command is a process that logs in by itself, forked from this one, so that only starting Python is saved. The last line is `done`; anything else that goes wrong ends it with an exception.
"""

import json
import os
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")

import openstack  # noqa: E402
import openstackclient.shell  # noqa: E402
import yaml  # noqa: E402

COUNT = 0


def in_child(argv, prepare=lambda: None):
    """Exit code, standard output and standard error of a command in a process of its own, which it prepares."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 70
            try:
                prepare()
                code = openstackclient.shell.OpenStackShell().run(argv)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()


def run(cloud, line, fails=None, fmt=True):
    """Standard output of a command, parsed if it prints an object; with `fails` it must fail and say so."""
    global COUNT
    COUNT += 1
    words = line.split()
    argv = ["--os-cloud", cloud, *words] + (["-f", "json"] if fmt and not fails else [])
    code, out, err = in_child(argv)
    if fails:
        assert code != 0, f"{cloud}: {line} did not fail: {out}"
        assert fails in err, f"{cloud}: {line}: '{fails}' is not in: {err}"
        return None
    assert code == 0, f"{cloud}: {line}: {err}"
    text = out.strip()
    return json.loads(text) if fmt and text else text


def quiet(cloud, line):
    """A command that prints nothing."""
    text = run(cloud, line, fmt=False)
    assert text == "", f"{cloud}: {line} printed {text}"


def names(cloud, noun, column="Name"):
    return sorted(row[column] for row in run(cloud, f"{noun} list"))


def write_clouds(path, clouds):
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        yaml.safe_dump({"clouds": clouds}, file)


def cloud_of(admin, **auth):
    """A cloud like the administrator's with other credentials."""
    same = {key: admin["auth"][key] for key in ["auth_url", "user_domain_id", "project_domain_id"]}
    return {**admin, "auth": {**same, **auth}}


def make_people(path):
    with open(path) as file:
        admin = yaml.safe_load(file)["clouds"]["nanboku"]
    clouds = {"nanboku": admin}
    for name in ["red", "blue"]:
        project = run("nanboku", f"project create {name} --description of_{name}")
        assert project["name"] == name and project["domain_id"] == "default", project
        run("nanboku", f"user create {name} --project {name} --password pw-{name}")
        quiet("nanboku", f"role add --project {name} --user {name} member")
        clouds[name] = cloud_of(admin, username=name, password=f"pw-{name}", project_name=name)
    run("nanboku", "user create auditor --password pw-auditor")
    quiet("nanboku", "role add --project red --user auditor reader")
    clouds["auditor"] = cloud_of(admin, username="auditor", password="pw-auditor", project_name="red")
    write_clouds(path, clouds)
    return admin, clouds


def identity(admin, clouds, path):
    token = run("red", "token issue")
    assert token["project_id"] and token["user_id"] and len(token["id"]) == 64, token
    assert {entry["Name"] for entry in run("red", "catalog list")} == {"keystone", "neutron"}
    assert names("nanboku", "project") == ["admin", "blue", "red"]
    assert names("nanboku", "user") == ["admin", "auditor", "blue", "red"]
    assert names("nanboku", "role") == ["admin", "member", "reader"]
    assert run("nanboku", "project show red")["description"] == "of_red"
    assert run("nanboku", "user show red")["name"] == "red"
    assert run("nanboku", "domain list")[0]["ID"] == "default"
    assigned = run("nanboku", "role assignment list --user red --names")
    assert [(row["Role"], row["Project"]) for row in assigned] == [("member", "red@Default")], assigned
    assert len(run("nanboku", "service list")) == 2 and len(run("nanboku", "endpoint list")) == 6
    run("red", "project create mine", fails="403")
    made = run("red", "application credential create robot --role reader")
    assert [row["Name"] for row in run("red", "application credential list")] == ["robot"]
    auth = {"auth_url": admin["auth"]["auth_url"], "application_credential_id": made["ID"]}
    robot = {**admin, "auth": {**auth, "application_credential_secret": made["Secret"]}}
    robot["auth_type"] = "v3applicationcredential"
    clouds["robot"] = robot
    clouds["wrong"] = cloud_of(admin, username="red", password="guess", project_name="red")
    write_clouds(path, clouds)
    assert run("robot", "token issue")["project_id"] == token["project_id"]
    run("wrong", "token issue", fails="401")


def fabric():
    """What the operator makes for all."""
    run(
        "nanboku",
        "network create outside --external --provider-network-type vlan "
        "--provider-physical-network physnet1 --provider-segment 2207",
    )
    run(
        "nanboku",
        "subnet create outside4 --network outside --subnet-range 172.22.7.0/24 --no-dhcp "
        "--allocation-pool start=172.22.7.20,end=172.22.7.99",
    )


def pools():
    """Prefixes that the operator shares, and what a member gets of them."""
    run("nanboku", "address scope create corp --share --ip-version 4")
    run(
        "nanboku",
        "subnet pool create site --pool-prefix 10.64.0.0/16 --default-prefix-length 24 --default --share "
        "--address-scope corp",
    )
    run("red", "subnet pool create mine --pool-prefix 10.99.0.0/16 --share", fails="403")
    assert names("red", "subnet pool") == ["site"] and names("red", "address scope") == ["corp"]
    run("red", "network create pooled")
    subnet = run("red", "subnet create pooled --network pooled --subnet-pool site --prefix-length 26")
    assert subnet["cidr"] == "10.64.0.0/26", subnet
    port = run("red", "port create booted --network pooled --extra-dhcp-option name=bootfile-name,value=pxelinux.0")
    options = [(option["opt_name"], option["opt_value"]) for option in port["extra_dhcp_opts"]]
    assert options == [("bootfile-name", "pxelinux.0")], port
    run("nanboku", "subnet pool delete site", fails="existing allocations")
    quiet("nanboku", "subnet pool set site --description all_of_it --tag fabric")
    shown = run("red", "subnet pool show site")
    assert (shown["description"], shown["tags"]) == ("all_of_it", ["fabric"]), shown
    for cloud, thing in [
        ("red", "port delete booted"),
        ("red", "subnet delete pooled"),
        ("red", "network delete pooled"),
        ("nanboku", "subnet pool delete site"),
        ("nanboku", "address scope delete corp"),
    ]:
        quiet(cloud, thing)


def vpc(cloud):
    """A member's whole VPC; both members use the same names and addresses."""
    network = run(cloud, f"network create net --description of_{cloud}")
    assert network["status"] == "ACTIVE" and network["provider:network_type"] is None, network
    run(cloud, "subnet create sub --network net --subnet-range 10.0.0.0/24 --dns-nameserver 9.9.9.9")
    port = run(cloud, "port create vm --network net --fixed-ip subnet=sub,ip-address=10.0.0.11")
    assert port["fixed_ips"][0]["ip_address"] == "10.0.0.11" and port["binding_host_id"] is None, port
    run(cloud, "router create r")
    quiet(cloud, "router set r --external-gateway outside")
    quiet(cloud, "router add subnet r sub")
    shown = run(cloud, "router show r")
    assert shown["status"] == "ACTIVE" and shown["external_gateway_info"]["enable_snat"], shown
    assert [info["ip_address"] for info in shown["interfaces_info"]] == ["10.0.0.1"], shown
    floating = run(cloud, f"floating ip create outside --port vm --description of_{cloud}")
    assert floating["fixed_ip_address"] == "10.0.0.11" and floating["floating_ip_address"].startswith("172.22.7.")
    quiet(cloud, "network set net --tag production")
    assert run(cloud, "network show net")["tags"] == ["production"]
    return floating["floating_ip_address"]


def groups():
    """Security groups, address groups, and sharing them, as the real command line does it."""
    default = run("red", "security group show default")
    assert len(default["rules"]) == 4, default
    web = run("red", "security group create web --description front")
    assert len(web["rules"]) == 2 and web["stateful"], web
    rule = run("red", "security group rule create web --protocol tcp --dst-port 80:443 --remote-ip 10.9.0.5/16")
    assert (rule["port_range_min"], rule["port_range_max"], rule["normalized_cidr"]) == (80, 443, "10.9.0.0/16"), rule
    run("red", "security group rule create web --protocol tcp --dst-port 80:443 --remote-ip 10.9.0.5/16", fails="exists")
    run("red", "security group rule create web --protocol icmp --icmp-type 8 --icmp-code 0 --remote-group default")
    run("red", "security group rule create web --ethertype IPv6 --protocol ipv6-icmp")
    assert len(run("red", "security group rule list web")) == 5
    assert len(run("red", "security group rule list web --ingress --long")) == 3
    quiet("red", "security group rule delete " + rule["id"])
    quiet("red", "security group set web --name www --tag production")
    assert run("red", "security group show www")["tags"] == ["production"]
    run("red", "security group set default --name mine", fails="409")
    run("red", "security group delete default", fails="409")
    fast = run("red", "security group create fast --stateless")
    assert fast["stateful"] is False, fast
    shown = run("red", "port show vm")
    assert shown["security_group_ids"] == [default["id"]], shown
    quiet("red", "port set vm --no-security-group --security-group www")
    run("red", "port set vm --security-group fast", fails="409")
    run("red", "security group delete www", fails="in use")
    quiet("red", "port unset vm --security-group www")
    quiet("red", "port set vm --security-group default")
    quiet("red", "port set vm --allowed-address ip-address=10.0.0.99")
    assert run("red", "port show vm")["allowed_address_pairs"][0]["ip_address"] == "10.0.0.99"
    run("red", "port set vm --disable-port-security", fails="409")
    run("blue", "security group show " + fast["id"], fails="No")

    offices = run("red", "address group create offices --address 10.8.0.0/16")
    quiet("red", "address group set offices --address 10.7.0.0/16")
    quiet("red", "address group unset offices --address 10.8.0.0/16")
    assert run("red", "address group show offices")["addresses"] == ["10.7.0.0/16"]
    run("red", "security group rule create www --remote-address-group offices")
    run("red", "address group delete offices", fails="in use")
    assert names("red", "address group") == ["offices"] and names("blue", "address group") == []

    shared = run("nanboku", f"network rbac create --type security_group --action access_as_shared --target-project blue {fast['id']}")
    assert shared["action"] == "access_as_shared", shared
    assert run("blue", "security group show fast")["id"] == fast["id"]
    run("blue", "security group rule create fast", fails="403")
    run("red", "network rbac create --type network --action access_as_shared --target-all-projects net", fails="403")
    given = run("nanboku", f"network rbac create --type address_group --action access_as_shared --target-all-projects {offices['id']}")
    assert names("blue", "address group") == ["offices"]
    assert len(run("nanboku", "network rbac list --type security_group")) == 1
    quiet("nanboku", "network rbac set --target-project red " + given["id"])
    assert run("nanboku", "network rbac show " + given["id"])["object_type"] == "address_group"
    quiet("nanboku", f"network rbac delete {given['id']} {shared['id']}")
    assert names("blue", "address group") == []
    quiet("red", "security group delete fast www")
    quiet("red", "address group delete offices")


def apart(addresses):
    """Two projects with the same names see their own; nobody sees or touches the other's."""
    for cloud in ["red", "blue"]:
        assert names(cloud, "network") == ["net", "outside"]
        assert names(cloud, "subnet") == ["sub"], "which addresses there are outside is not for all"
        assert names(cloud, "router") == ["r"]
        assert names(cloud, "floating ip", "Floating IP Address") == [addresses[cloud]]
        assert run(cloud, "network show net")["description"] == f"of_{cloud}"
        assert run(cloud, "network agent list") == []
    assert names("nanboku", "network") == ["net", "net", "outside"]
    assert len(run("nanboku", "floating ip list")) == 2
    foreign = run("blue", "port show vm")["id"]
    run("red", f"port show {foreign}", fails="No Port found")
    run("red", f"port delete {foreign}", fails="No Port found")
    run("red", "network set outside --name mine", fails="403")
    run("red", "network create open --share", fails="403")
    run("red", "network delete outside", fails="403")


def readers():
    for cloud in ["auditor", "robot"]:
        assert names(cloud, "network") == ["net", "outside"]
        run(cloud, "network create more", fails="403")
        run(cloud, "port delete vm", fails="403")


def with_sdk():
    """The SDK's own layer: bulk creation, waiting, and its cloud functions."""
    cloud = openstack.connect(cloud="blue")
    network = cloud.create_network("sdk")
    subnet = cloud.create_subnet(network.id, cidr="10.1.0.0/24", subnet_name="sdk")
    ports = [{"network_id": network.id, "name": f"bulk{i}"} for i in range(5)]
    made = list(cloud.network.create_ports(ports))
    assert len(made) == 5 and len({port.fixed_ips[0]["ip_address"] for port in made}) == 5
    assert len(list(cloud.network.ports(network_id=network.id, limit=2))) == 5
    assert cloud.network.find_port("bulk3").id == made[3].id
    assert cloud.network.update_port(made[0], name="first").name == "first"
    for port in made:
        cloud.network.delete_port(port, ignore_missing=False)
    assert cloud.delete_subnet(subnet.id) and cloud.delete_network("sdk")


def undo(cloud, address):
    run(cloud, "network delete net", fails="409")
    quiet(cloud, f"floating ip delete {address}")
    quiet(cloud, "router remove subnet r sub")
    quiet(cloud, "router unset r --external-gateway")
    for thing in ["router delete r", "port delete vm", "subnet delete sub", "network delete net"]:
        quiet(cloud, thing)
    assert names(cloud, "network") == ["outside"]


def main():
    path = os.environ["OS_CLIENT_CONFIG_FILE"]
    admin, clouds = make_people(path)
    identity(admin, clouds, path)
    fabric()
    pools()
    addresses = {cloud: vpc(cloud) for cloud in ["red", "blue"]}
    groups()
    apart(addresses)
    readers()
    with_sdk()
    for cloud, address in addresses.items():
        undo(cloud, address)
    quiet("nanboku", "user delete auditor")
    run("auditor", "token issue", fails="401")
    token = run("red", "token issue")["id"]
    quiet("red", f"token revoke {token}")
    print(f"{COUNT} commands")
    print("done")


if __name__ == "__main__":
    sys.exit(main())
