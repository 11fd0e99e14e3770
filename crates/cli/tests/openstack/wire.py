"""Requests as they are on the wire, without a client library: shared by the scripts beside it."""

import http.client
import json
import os
import urllib.parse

import yaml


class Wire:
    """A connection to the network API of the cloud `nanboku` in OS_CLIENT_CONFIG_FILE, with its token."""

    def __init__(self):
        with open(os.environ["OS_CLIENT_CONFIG_FILE"]) as file:
            self.cloud = yaml.safe_load(file)["clouds"]["nanboku"]
        self.auth = self.cloud["auth"]
        self.root = self.auth["auth_url"].removesuffix("/identity/v3")
        self.headers = {}
        self.token = None

    def send(self, method, path, body=None, **headers):
        """Status, headers and parsed body of an answer."""
        url = urllib.parse.urlsplit(self.root)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        options = {}
        if url.scheme == "https":
            import ssl

            options["context"] = ssl.create_default_context(cafile=self.cloud.get("cacert"))
        connection = kind(url.netloc, **options)
        sent = {"Content-Type": "application/json", **{key.replace("_", "-"): text for key, text in headers.items()}}
        if self.token:
            sent["X-Auth-Token"] = self.token
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, dict(answer.headers), json.loads(text) if text else None

    def log_in(self, methods=("password",), scope=True):
        user = {"name": self.auth["username"], "domain": {"id": "default"}, "password": self.auth["password"]}
        body = {"auth": {"identity": {"methods": list(methods), "password": {"user": user}}}}
        if scope:
            body["auth"]["scope"] = {"project": {"name": self.auth["project_name"], "domain": {"id": "default"}}}
        status, headers, token = self.send("POST", "/identity/v3/auth/tokens", body)
        assert status == 201, token
        self.token = {key.lower(): text for key, text in headers.items()}["x-subject-token"]
        return token["token"]

    def ok(self, want, method, path, body=None, **headers):
        """The body of an answer that has exactly that status."""
        status, _, said = self.send(method, path, body, **headers)
        assert status == want, f"{method} {path} {body}: {status}, not {want}: {said}"
        return said

    def create(self, name, attributes, collection=None):
        collection = collection or name.replace("_", "-") + "s"
        return self.ok(201, "POST", f"/v2.0/{collection}", {name: attributes})[name]

    def refused(self, status, kind, method, path, body=None, **headers):
        """An answer that is a refusal of that status and type, in Neutron's form."""
        got, said_headers, said = self.send(method, path, body, **headers)
        error = (said or {}).get("NeutronError", {})
        assert (got, error.get("type")) == (status, kind), f"{method} {path} {body}: {got} {said}, not {status} {kind}"
        assert set(error) == {"type", "message", "detail"} and error["message"], said
        content = {key.lower(): text for key, text in said_headers.items()}["content-type"]
        assert content.split(";")[0] == "application/json", content
