"""Webhooks of Azure Container Registry, by Azure Resource Manager: one a registry, of all its repositories.

Resource Manager takes access tokens of Entra's that are for it. The machine's identity has them (`keyless: azure`); a user and
password do not tell their tenant, a service principal's neither. In which subscription and resource group the registry is, is
looked up by its login server. Sources: Azure's REST reference, Subscriptions - List (2022-12-01), and Registries - List
and Webhooks of Microsoft.ContainerRegistry (2023-07-01), as azure-mgmt-containerregistry speaks it.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from service import errors
from service.registry.origin import split_url
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.strategies import Receiver

SUBSCRIPTIONS = "api-version=2022-12-01"
REGISTRIES = "api-version=2023-07-01"
ACTIONS = ("push", "delete")
SETTLING_SECONDS = 60.0
SETTLING_PAUSE_SECONDS = 0.5
NO_TENANT = (
    "makes webhooks by Resource Manager, which takes tokens of Entra's only: a user and password, a service "
    "principal's too, do not tell the tenant that these are of, and keyless: azure needs none"
)
"""Why there are none for a user and password."""
_SETTLING = ("Creating", "Updating", "Deleting")
_SCOPES = {
    "cn": "https://management.chinacloudapi.cn/.default",
    "us": "https://management.core.usgovcloudapi.net/.default",
}


def arm_scope(host: str) -> str:
    """Return what a token for Resource Manager is for, in the cloud of a registry's host."""
    return _SCOPES.get(host.rpartition(".")[2], "https://management.azure.com/.default")


def webhook_name(receiver: Receiver) -> str:
    """Return what Azure takes for a webhook's name: 5 to 50 letters and digits, one a receiver."""
    letters = re.sub(r"[^a-zA-Z0-9]", "", receiver.name)[:40]
    return letters + hashlib.sha256(receiver.name.encode()).hexdigest()[:8]


class _Registry(NamedTuple):
    path: str
    location: str


class AcrWebhooks:
    """One webhook a registry and receiver. For any number of threads."""

    def __init__(self, plane: ControlPlane, token: Callable[[], str]) -> None:
        """`plane` calls Resource Manager; `token` tells an access token for it."""
        self._plane = plane
        self._token = token
        self._lock = threading.Lock()
        self._found: _Registry | None = None

    def place(self, repository: str) -> str:
        """Return the registry, by its login server."""
        del repository
        return self._plane.hosts[0]

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make the webhook, or set it right; raises Denied where the identity does not see the registry."""
        registry = self._registry(place)
        path = _webhook(registry, receiver)
        wanted = {
            "serviceUri": receiver.address,
            "customHeaders": {"Authorization": f"Bearer {receiver.secret}"},
            "status": "enabled",
            "scope": "",
            "actions": list(ACTIONS),
        }
        found = self._ask("GET", path, accept=(200, 404))
        if found.status == 200:
            if self._is_right(path, found.value, wanted):
                return False
            self._ask("PATCH", path, body={"properties": wanted}, accept=(200, 201))
        else:
            body = {"location": registry.location, "properties": wanted}
            self._ask("PUT", path, body=body, accept=(200, 201))
        self._settle(path)
        return True

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove the webhook; raises Denied where the identity does not see the registry."""
        path = _webhook(self._registry(place), receiver)
        if self._ask("DELETE", path, accept=(200, 202, 204, 404)).status not in (200, 202):
            return False
        self._settle(path)
        return True

    def _registry(self, login_server: str) -> _Registry:
        with self._lock:
            if self._found is None:
                self._found = self._look_up(login_server)
            return self._found

    def _look_up(self, login_server: str) -> _Registry:
        for subscription in self._rows(f"/subscriptions?{SUBSCRIPTIONS}"):
            identity = quote(str(subscription.get("subscriptionId")), safe="")
            kind = "providers/Microsoft.ContainerRegistry/registries"
            try:
                for row in self._rows(f"/subscriptions/{identity}/{kind}?{REGISTRIES}"):
                    server = str(_members(row, "properties").get("loginServer"))
                    if server.lower() == login_server:
                        path = quote(str(row.get("id")), safe="/")
                        return _Registry(path, str(row.get("location")))
            except errors.Denied:  # another subscription, of which it may see less
                continue
        raise errors.Denied(
            f"{self._plane.name}: there is no registry {login_server} that the machine's identity sees in Resource Manager",
            registry=self._plane.name,
        )

    def _is_right(self, path: str, row: Any, wanted: Mapping[str, Any]) -> bool:
        """Whether a webhook is as it should be; address and headers are told by a call of their own."""
        told = _members(row, "properties")
        same = told.get("status") == wanted["status"] and not told.get("scope")
        if not same or sorted(told.get("actions") or ()) != sorted(wanted["actions"]):
            return False
        called = self._ask("POST", f"{path.replace('?', '/getCallbackConfig?')}").value
        keys = ("serviceUri", "customHeaders")
        return isinstance(called, dict) and all(called.get(key) == wanted[key] for key in keys)

    def _settle(self, path: str) -> None:
        """Wait until a webhook is made, changed or gone; raises ServerError, Rejected."""
        registry = self._plane.name
        deadline = time.monotonic() + SETTLING_SECONDS
        while True:
            found = self._ask("GET", path, accept=(200, 404))
            state = _members(found.value, "properties").get("provisioningState")
            if found.status == 404 or state == "Succeeded":
                return
            if state not in _SETTLING:
                raise errors.Rejected(
                    f"{registry}: Azure says of its webhook: {str(state)[:40]!r}", registry=registry
                )
            if time.monotonic() > deadline:
                raise errors.ServerError(
                    f"{registry}: Azure takes too long with its webhook", registry=registry
                )
            time.sleep(SETTLING_PAUSE_SECONDS)

    def _rows(self, target: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, page by page."""
        seen: set[str] = set()
        while target not in seen:
            seen.add(target)
            value = self._ask("GET", target).value
            rows = value.get("value") if isinstance(value, dict) else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise errors.ProtocolError(f"{self._plane.name}: a list of Azure's that is none")
            yield from rows
            link = value.get("nextLink")
            if not link:
                return
            origin, target = split_url(str(link))
            if origin != self._plane.origin:
                break
        raise errors.ProtocolError(
            f"{self._plane.name}: a list of Azure's goes in a circle, or on at another host"
        )

    def _ask(
        self, method: str, target: str, *, body: object = None, accept: tuple[int, ...] = (200,)
    ) -> Reply:
        headers = {"Authorization": f"Bearer {self._token()}"}
        return self._plane.call(method, target, headers=headers, body=body, accept=accept)


def _webhook(registry: _Registry, receiver: Receiver) -> str:
    return f"{registry.path}/webhooks/{webhook_name(receiver)}?{REGISTRIES}"


def _members(row: Any, name: str) -> Mapping[str, Any]:
    found = row.get(name) if isinstance(row, dict) else None
    return found if isinstance(found, dict) else {}
