"""Artifact Hub, an index of Helm charts: which there are, and where each version of them lies.

It holds no charts itself. Sources: artifacthub.io/docs/api (openapi.yaml of artifacthub/hub: searchPackages,
getHelmPackageDetails, getHelmPackageVersionDetails, addUserWebhook and its neighbours); its docs/helm_charts_repositories.md, "OCI support": the URL of a repository in a
registry is oci://REGISTRY/NAMESPACE/CHART, and versions are tags, in which + is written as _.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from service import errors
from service.model.digest import Digest
from service.model.reference import validate_repository, validate_tag
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.strategies import Receiver, Strategies
from service.registry.results import RepositoryPage

API = "/api/v1/packages"
HOOKS = "/api/v1/webhooks/user"
NEW_RELEASE = 0  # a kind of events
HELM = 0  # a kind of packages
ROWS_A_PAGE = 60  # the API's most
KEPT_SECONDS = 30.0
"""For so long what the API says of a package is taken for true."""
KEPT_PACKAGES = 1000
OCI = "oci://"


class Package(NamedTuple):
    """One chart: `place` is where it is in a registry, as HOST/NAME; None: in a classic repository."""

    place: str | None
    versions: dict[str, str]  # by tag, the newest first


class Archive(NamedTuple):
    """Where the archive of one version is, and what the index says that it is."""

    url: str
    digest: Digest


def open_artifacthub(plane: ControlPlane) -> Strategies:
    """Return Artifact Hub's strategies."""
    hub = ArtifactHub(plane)
    return Strategies(
        repositories=hub,
        maker=NoPushes(plane.name),
        index=hub,
        webhooks=None if plane.credential().anonymous else HubWebhooks(plane, hub),
    )


class ArtifactHub:
    """Requests to one Artifact Hub's API; a repository of it is REPOSITORY/CHART. For any number of threads."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.name = plane.name
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def ping(self) -> None:
        """Ask the least; raises RegistryError."""
        self._get(f"/search?kind={HELM}&limit=1")

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield all charts that are not deprecated; a cursor is an offset."""
        offset: int | None = int(cursor) if cursor is not None and cursor.isdigit() else 0
        while offset is not None:
            target = f"/search?kind={HELM}&limit={ROWS_A_PAGE}&offset={offset}"
            reply = self._plane.call("GET", f"{API}{target}", headers=self.headers())
            rows = reply.value.get("packages") if isinstance(reply.value, dict) else None
            rows = [] if rows is None else rows
            if not isinstance(rows, list):
                raise errors.ProtocolError(f"{self.name}: a list of its API that is none")
            total = reply.headers.get("pagination-total-count", "")
            seen = offset + len(rows)
            offset = seen if rows and total.isdigit() and seen < int(total) else None
            names = dict.fromkeys(filter(None, map(_name, rows)))
            yield RepositoryPage(tuple(names), None if offset is None else str(offset))

    def package(self, repository: str, *, fresh: bool = False) -> Package:
        """Return where a chart is, and its versions, as of now or of lately; raises RepositoryNotFound."""
        if fresh:
            with self._lock:
                self._kept.pop(_target(repository), None)
        told = self._details(repository)
        within = told.get("repository")
        url = within.get("url") if isinstance(within, dict) else None
        if not isinstance(url, str):
            raise errors.ProtocolError(f"{self.name}: {repository} without a repository's URL")
        rows = told.get("available_versions")
        texts = [
            row["version"]
            for row in rows or ()
            if isinstance(row, dict) and isinstance(row.get("version"), str)
        ]
        place = url.removeprefix(OCI).rstrip("/") if url.startswith(OCI) else None
        return Package(place, {tag: text for text in texts if (tag := _tag(text))})

    def archive(self, repository: str, version: str) -> Archive:
        """Return where the archive of a version is. Raises RepositoryNotFound, Unsupported.

        Unsupported for what the index has no URL or no sha256 digest of: nothing could be held to it.
        """
        told = self._details(repository, version)
        url, digest = told.get("content_url"), str(told.get("digest") or "").removeprefix("sha256:")
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise self._refused(repository, version, "has no address of its archive")
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise self._refused(repository, version, "has no sha256 digest to hold its archive to")
        return Archive(url, Digest.parse(f"sha256:{digest}"))

    def package_id(self, repository: str) -> str:
        """Return what the API knows a chart by; raises RepositoryNotFound."""
        return str(self._details(repository).get("package_id"))

    def _refused(self, repository: str, version: str, why: str) -> errors.Unsupported:
        return errors.Unsupported(
            f"{self.name}: {repository} {version}: the index {why}", registry=self.name
        )

    def _details(self, repository: str, version: str = "") -> dict[str, Any]:
        target = _target(repository)
        return self._get(f"{target}/{quote(version, safe='')}" if version else target)

    def _get(self, target: str) -> dict[str, Any]:
        with self._lock:
            since, value = self._kept.get(target, (0.0, None))
        if value is not None and time.monotonic() - since < KEPT_SECONDS:
            return value
        try:
            value = self._plane.call("GET", f"{API}{target}", headers=self.headers()).value
        except errors.NotFound as error:
            raise errors.RepositoryNotFound(
                error.message, registry=self.name, status=404, oci_code=error.oci_code
            ) from error
        if not isinstance(value, dict):
            raise errors.ProtocolError(f"{self.name}: its API answers no object")
        with self._lock:
            self._kept[target] = time.monotonic(), value
            self._kept.move_to_end(target)
            if len(self._kept) > KEPT_PACKAGES:
                self._kept.popitem(last=False)
        return value

    def headers(self) -> dict[str, str]:
        """Return the headers of an API key: its id as user, its secret as password; none without one."""
        given = self._plane.presented()
        if given.anonymous:
            return {}
        return {"X-API-KEY-ID": given.username, "X-API-KEY-SECRET": given.password}


class HubWebhooks:
    """One webhook a receiver, of the API key's user; its list of packages is what is kept of each chart."""

    def __init__(self, plane: ControlPlane, hub: ArtifactHub) -> None:
        self._plane = plane
        self._hub = hub

    def place(self, repository: str) -> str:
        """Return the chart."""
        return repository

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make the webhook, or add the chart to it; raises RepositoryNotFound."""
        package = self._hub.package_id(place)
        found = self._find(receiver)
        listed = _packages(found)
        wanted = self._document(receiver, [*listed, *({package} - set(listed))])
        if found is None:
            self._ask("POST", HOOKS, body=wanted, accept=(201,))
            return True
        known = {name: found.get(name) for name in ("url", "secret", "active", "event_kinds")}
        if package in listed and known == {name: wanted[name] for name in known}:
            return False
        self._ask("PUT", f"{HOOKS}/{found.get('webhook_id')}", body=wanted, accept=(204,))
        return True

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Take the chart off the webhook, and the webhook away with its last one."""
        found, package = self._find(receiver), self._hub.package_id(place)
        listed = _packages(found)
        if found is None or package not in listed:
            return False
        path, left = f"{HOOKS}/{found.get('webhook_id')}", [one for one in listed if one != package]
        if left:
            self._ask("PUT", path, body=self._document(receiver, left), accept=(204,))
        else:
            self._ask("DELETE", path, accept=(204,))
        return True

    def _document(self, receiver: Receiver, packages: list[str]) -> dict[str, Any]:
        return {
            "name": receiver.name,
            "description": "made by Transship",
            "url": receiver.address,
            "secret": receiver.secret,
            "active": True,
            "event_kinds": [NEW_RELEASE],
            "packages": [{"package_id": one} for one in packages],
        }

    def _find(self, receiver: Receiver) -> dict[str, Any] | None:
        rows = self._ask("GET", f"{HOOKS}?limit={ROWS_A_PAGE}").value or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise errors.ProtocolError(f"{self._hub.name}: a list of webhooks that is none")
        return next((row for row in rows if row.get("name") == receiver.name), None)

    def _ask(
        self, method: str, target: str, *, body: object = None, accept: tuple[int, ...] = (200,)
    ) -> Reply:
        headers = self._hub.headers()
        return self._plane.call(method, target, headers=headers, body=body, accept=accept)


class NoPushes:
    """Tells whoever pushes that there is nothing to push into."""

    def __init__(self, registry: str) -> None:
        self._registry = registry

    def place(self, repository: str) -> str:
        """Return the repository."""
        return repository

    def exists(self, place: str) -> bool:
        """Raise Unsupported."""
        raise errors.Unsupported(
            f"{self._registry} is an index of charts: nothing can be pushed into {place}",
            registry=self._registry,
        )

    def make(self, place: str) -> None:
        """Raise Unsupported."""
        self.exists(place)


def _packages(webhook: dict[str, Any] | None) -> list[str]:
    rows = webhook.get("packages") if webhook is not None else None
    return [
        str(row["package_id"])
        for row in rows or ()
        if isinstance(row, dict) and "package_id" in row
    ]


def _target(repository: str) -> str:
    name, _, chart = validate_repository(repository).partition("/")
    return f"/helm/{quote(name, safe='')}/{quote(chart, safe='')}"


def _name(row: Any) -> str | None:
    within = row.get("repository") if isinstance(row, dict) else None
    if not isinstance(within, dict):
        return None
    try:
        return validate_repository(f"{within.get('name')}/{row.get('normalized_name')}")
    except errors.InvalidReference:
        return None


def _tag(version: str) -> str | None:
    try:
        return validate_tag(version.replace("+", "_"))
    except errors.InvalidReference:
        return None
