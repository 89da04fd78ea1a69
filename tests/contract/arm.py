"""A contract fake of Azure Resource Manager: subscriptions, registries in them, and the registries' webhooks.

Sources: [subs] Azure REST reference, Subscriptions - List (2022-12-01); [acr] ibid., Microsoft.ContainerRegistry, Registries - List and
Webhooks (2023-07-01), spoken with by azure-mgmt-containerregistry 15 (2025-11-01, the same shapes) in test_acr_webhooks.py; the pattern of
webhooks' names is the one of its version 10; [async] learn.microsoft.com/azure/azure-resource-manager/management/async-operations (201 and
202, then provisioningState or Location). Strict: what is asked without an api-version that is in them is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

from api.samples.http_messages import Request, Response
from tests.contract.identities import Served
from tests.contract.leaks import Secret

JSON = {"Content-Type": "application/json; charset=utf-8"}
SUBSCRIPTION = "00000000-0000-0000-0000-000000000002"
FORBIDDEN = "00000000-0000-0000-0000-000000000001"
GROUP = "fleet"
KIND = "providers/Microsoft.ContainerRegistry/registries"
VERSIONS = ("2023-07-01", "2025-11-01")
WRITABLE = ("serviceUri", "customHeaders", "status", "scope", "actions")


class ArmError(Exception):
    """[acr] An error of Resource Manager, with its HTTP status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class FakeArm(Served):
    """Two subscriptions, one of which may not be looked into; the other has `registries`, two a page.

    `hooks` maps a webhook's name to its scope and properties.
    """

    def __init__(self, login_server: str) -> None:
        super().__init__()
        servers = ("one.azurecr.io", "two.azurecr.io", login_server)
        self.registries = {f"registry{n}": server for n, server in enumerate(servers)}
        self.issued: list[str] = []
        self.hooks: dict[str, tuple[str, dict[str, Any]]] = {}
        self.fails = False
        self.next_at = self.url
        self.requests: list[tuple[str, str]] = []

    def issue(self) -> str:
        """Return a new access token."""
        self.issued.append(f"entra-access-{len(self.issued)}-for-resource-manager")
        return self.issued[-1]

    def secrets(self) -> list[Secret]:
        """Its tokens are for it alone."""
        own = frozenset({self.authority})
        return [Secret(one, own) for one in self.issued]

    def answer(self, request: Request) -> Response:
        """Answer one request."""
        body = request.body.read(1 << 16)
        self.requests.append((request.method, request.path))
        known = {f"Bearer {one}" for one in self.issued}
        try:
            if request.headers.get("authorization") not in known:
                raise ArmError(401, "InvalidAuthenticationToken", "the token is not valid")  # noqa: TRY301
            return self._act(request, json.loads(body) if body else {})
        except ArmError as error:
            told = {"error": {"code": error.code, "message": str(error)}}
            return Response(error.status, dict(JSON), json.dumps(told).encode())

    def _act(self, request: Request, body: dict[str, Any]) -> Response:
        version = request.query().get("api-version", "")
        if request.path == "/subscriptions" and version == "2022-12-01":
            return _json(200, {"value": [_subscription(FORBIDDEN), _subscription(SUBSCRIPTION)]})
        if version not in VERSIONS:
            raise ArmError(400, "InvalidApiVersionParameter", "the api-version is invalid")
        if request.path == f"/subscriptions/{FORBIDDEN}/{KIND}":
            raise ArmError(403, "AuthorizationFailed", "does not have authorization to read")
        if request.path == f"/subscriptions/{SUBSCRIPTION}/{KIND}":
            return self._listed(request)
        if request.path == "/operations/done":
            return Response(204)
        group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{KIND}"
        found = re.fullmatch(
            rf"{group}/registry2/webhooks/([^/]+)(/getCallbackConfig)?", request.path
        )
        if found is None or not re.fullmatch(r"[a-zA-Z0-9]{5,50}", found[1]):
            raise ArmError(404, "ResourceNotFound", "the resource was not found")
        return self._webhook(request, found[1], body, callback=found[2] is not None)

    def _listed(self, request: Request) -> Response:
        """[acr] Registries - List."""
        start = int(request.query().get("$skiptoken", "0"))
        rows = [
            {
                "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{KIND}/{name}",
                "name": name,
                "type": "Microsoft.ContainerRegistry/registries",
                "location": "westeurope",
                "sku": {"name": "Basic", "tier": "Basic"},
                "properties": {"loginServer": server, "provisioningState": "Succeeded"},
            }
            for name, server in self.registries.items()
        ]
        told: dict[str, Any] = {"value": rows[start : start + 2]}
        if start + 2 < len(rows):
            version = request.query()["api-version"]
            told["nextLink"] = (
                f"{self.next_at}{request.path}?api-version={version}&$skiptoken={start + 2}"
            )
        return _json(200, told)

    def _webhook(
        self, request: Request, name: str, body: dict[str, Any], *, callback: bool
    ) -> Response:
        """[acr] Webhooks - Get, Get Callback Config, Create, Update, Delete."""
        given = body.get("properties") or {}
        if set(given) - set(WRITABLE):
            raise ArmError(400, "InvalidRequestContent", "no such member")
        if request.method == "PUT" and name not in self.hooks:
            if not body.get("location") or not given.get("serviceUri") or not given.get("actions"):
                raise ArmError(400, "InvalidRequestContent", "a member is missing")
            state = "Failed" if self.fails else "Creating"
            self.hooks[name] = (given.get("scope") or "", {**given, "provisioningState": state})
            return self._shown(name, 201)
        if name not in self.hooks:
            if request.method == "DELETE":
                return Response(204)
            raise ArmError(404, "ResourceNotFound", f"the resource {name} was not found")
        _, told = self.hooks[name]
        if callback and request.method == "POST":
            return _json(200, {key: told.get(key) for key in ("serviceUri", "customHeaders")})
        if request.method == "PATCH":
            changed = {**told, **given, "provisioningState": "Updating"}
            self.hooks[name] = (changed.get("scope") or "", changed)
            return self._shown(name, 200)
        if request.method == "DELETE":
            told["provisioningState"] = "Deleting"
            done = f"{self.url}/operations/done?api-version={request.query()['api-version']}"
            return Response(202, {"Location": done, "Retry-After": "0"})
        if request.method != "GET":
            raise ArmError(405, "MethodNotAllowed", "no such method")
        return self._looked_at(name)

    def _looked_at(self, name: str) -> Response:
        """[async] What is under way is shown so once, and is done then."""
        shown = self._shown(name, 200)
        _, told = self.hooks[name]
        if told["provisioningState"] == "Deleting":
            del self.hooks[name]
        elif told["provisioningState"] != "Failed":
            told["provisioningState"] = "Succeeded"
        return shown

    def _shown(self, name: str, status: int) -> Response:
        _, told = self.hooks[name]
        kept = ("status", "scope", "actions", "provisioningState")
        group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{KIND}"
        row = {
            "id": f"{group}/registry2/webhooks/{name}",
            "name": name,
            "type": "Microsoft.ContainerRegistry/registries/webhooks",
            "location": "westeurope",
            "tags": {},
            "properties": {key: told.get(key) for key in kept},
        }
        return _json(status, row)


def _subscription(identity: str) -> dict[str, Any]:
    """[subs]"""
    return {
        "id": f"/subscriptions/{identity}",
        "subscriptionId": identity,
        "displayName": "Fleet",
        "state": "Enabled",
    }


def _json(status: int, value: Any) -> Response:
    return Response(status, dict(JSON), json.dumps(value).encode())
