"""What Schemathesis does not know of this API: hooks for scripts/fuzz-api, and its commands `token`, `prepare` and
`delete-all`.

Requests are about things that are there, mostly: ids of answers are put where ids are expected.
"""

import http.client
import json
import os
import random
import socket
import sys
import urllib.request

# Before what they hold on to.
ORDER = [
    "floatingips",
    "routers",
    "ports",
    "subnets",
    "rbac-policies",
    "networks",
    "security-groups",
    "subnetpools",
    "address-scopes",
    "address-groups",
]
KINDS = {path.replace("-", "_"): path for path in ORDER}


def token():
    """Of the administrator."""
    user = {"name": "admin", "domain": {"id": "default"}, "password": os.environ["NANBOKU_PASSWORD"]}
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    request = urllib.request.Request(
        os.environ["NANBOKU_URL"] + "/identity/v3/auth/tokens",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return answer.headers["X-Subject-Token"]


class Api(http.client.HTTPConnection):
    """The administrator's socket."""

    def __init__(self):
        super().__init__("localhost")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["NANBOKU_SOCKET"])

    def call(self, method, path, body=None):
        self.request(method, path, json.dumps(body) if body is not None else None)
        answer = self.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None


def prepare():
    """A VPC with a way out."""
    api = Api()

    def make(kind, **attributes):
        status, said = api.call("POST", f"/v2.0/{kind}s", {kind: attributes})
        assert status == 201, said
        return said[kind]["id"]

    flat = {"router:external": True, "provider:network_type": "flat", "provider:physical_network": "physnet2"}
    outside = make("network", name="outside", **flat)
    make("subnet", network_id=outside, ip_version=4, cidr="172.22.7.0/24")
    inside = make("network", name="inside")
    subnet = make("subnet", network_id=inside, ip_version=4, cidr="10.0.0.0/16")
    router = make("router", external_gateway_info={"network_id": outside})
    api.call("PUT", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet})
    make("port", network_id=inside)


def delete_all():
    """Everything but default groups, which come back by themselves."""
    api = Api()
    for router in api.call("GET", "/v2.0/routers")[1]["routers"]:
        path = f"/v2.0/routers/{router['id']}"
        api.call("PUT", path, {"router": {"routes": []}})
        legs = f"/v2.0/ports?device_owner=network:router_interface&device_id={router['id']}"
        for port in api.call("GET", legs)[1]["ports"]:
            api.call("PUT", f"{path}/remove_router_interface", {"port_id": port["id"]})
    for path in ORDER:
        name = path.replace("-", "_")
        for thing in api.call("GET", f"/v2.0/{path}")[1][name]:
            status, said = api.call("DELETE", f"/v2.0/{path}/{thing['id']}")
            default = path == "security-groups" and thing["name"] == "default"
            assert status in (204, 404) or default, f"{path}: {status} {said}"
    for quota in api.call("GET", "/v2.0/quotas")[1]["quotas"]:
        api.call("DELETE", "/v2.0/quotas/" + urllib.request.quote(quota["project_id"], safe=""))


def hooks():
    import schemathesis
    from hypothesis import strategies

    chance = random.Random(int(os.environ.get("FUZZ_ROUND_SEED", "1")))
    ids = {}
    byte = strategies.integers(0, 255)
    net = strategies.builds(lambda a, b, length: f"10.{a}.{b}.0/{length}", byte, byte, strategies.integers(20, 30))
    schemathesis.openapi.format("cidr", net | strategies.just("2001:db8:1::/64") | strategies.just("0.0.0.0/0"))
    schemathesis.openapi.format(
        "mac", strategies.builds(lambda a, b: f"fa:16:3e:00:{a:02x}:{b:02x}", byte, byte)
    )

    def known(name):
        """Id of a thing that a key, or a path's collection, is about."""
        for part, kind in {
            "network": "networks",
            "subnet": "subnets",
            "port": "ports",
            "router": "routers",
            "address_group": "address_groups",
            "group": "security_groups",
            "pool": "subnetpools",
            "scope": "address_scopes",
            "object": "networks",
        }.items():
            if part in name and ids.get(kind):
                return chance.choice(ids[kind])
        return None

    def with_ids(value):
        if isinstance(value, list):
            return [with_ids(item) for item in value]
        if not isinstance(value, dict):
            return value
        changed = {}
        for key, item in value.items():
            id = known(key) if str(key).endswith("_id") and isinstance(item, str) else None
            changed[key] = id if id and chance.random() < 0.8 else with_ids(item)
        return changed

    @schemathesis.hook
    def before_call(context, case, kwargs):
        if isinstance(case.body, (dict, list)):
            case.body = with_ids(case.body)
        collection = case.path.split("/")[2] if case.path.count("/") > 1 else ""
        id = known(collection.replace("-", "_"))
        if id and case.path_parameters and "id" in case.path_parameters and chance.random() < 0.7:
            case.path_parameters["id"] = id

    @schemathesis.hook
    def after_call(context, case, response):
        if response.status_code not in (200, 201) or case.method not in ("GET", "POST"):
            return
        body = response.json()
        for kind in KINDS.keys() & body.keys():
            if case.method == "GET" and not case.query and isinstance(body[kind], list):
                ids[kind] = [thing["id"] for thing in body[kind] if "id" in thing]
        name = case.path.rsplit("/", 1)[-1].replace("-", "_")
        made = body.get(name.removesuffix("s"))
        if case.method == "POST" and isinstance(made, dict) and "id" in made:
            ids.setdefault(name, []).append(made["id"])

    @schemathesis.check
    def neutron_error(context, response, case):
        if response.status_code < 400:
            return
        body = response.json()
        if response.status_code == 401:
            assert set(body) == {"error"}, body
            return
        assert set(body) == {"NeutronError"}, body
        error = body["NeutronError"]
        assert set(error) == {"type", "message", "detail"} and error["type"] and error["message"], body


if __name__ == "__main__":
    {"token": lambda: print(token()), "prepare": prepare, "delete-all": delete_all}[sys.argv[1]]()
else:
    hooks()
