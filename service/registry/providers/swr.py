"""Huawei SWR, shared edition: long-term logins, organizations, repositories and deletions by its own APIs.

The registry's credential is an access key (AK) with its secret key (SK); the user is the AK, or `REGION@AK`
as the console shows it. A password of 64 hexadecimal digits is a long-term login and is presented as it
is; it deletes nothing, since requests to the management API are signed with the secret key. Sources:
support.huaweicloud.com, "Obtaining a Long-Term Valid Login Command" and "Deleting the Image with a Specified Tag"
(DeleteRepoTag); the older API as Harbor speaks it (src/pkg/reg/adapter/huawei), with the same login.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from service.errors import Denied, ManifestNotFound, NotFound, ProtocolError, Unsupported
from service.model.endpoint import Credential
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.sdk_hmac import sign
from service.registry.providers.steps import make_unless_there
from service.registry.providers.strategies import Strategies
from service.registry.results import RepositoryPage
from service.registry.tokens import basic_value

API = "/dockyard/v2"
MANAGE = "/v2/manage"

_HOST = re.compile(r"swr\.([a-z0-9-]+)\.myhuaweicloud\.(com|eu)")
_LONG_TERM = re.compile(r"[0-9a-f]{64}")


def open_swr(plane: ControlPlane) -> Strategies:
    """Return SWR's strategies."""
    swr = Swr(plane)
    given = plane.credential()
    signs = not given.anonymous and not _LONG_TERM.fullmatch(given.password)
    return Strategies(
        login=SwrLogin(swr),
        repositories=SwrRepositories(swr),
        maker=SwrOrganizations(swr),
        tag_deleter=SwrTags(plane) if signs else None,
    )


def long_term(credential: Credential, host: str, registry: str) -> Credential:
    """Return the login that an access key stands for: its password does not end.

    Raises Unsupported where neither the user nor the host of the `registry` tells the region.
    """
    if credential.anonymous or _LONG_TERM.fullmatch(credential.password):
        return credential
    region, key, _ = _key_of(credential, host, registry)
    secret, text = credential.password.encode(), key.encode()
    password = hmac.new(secret, text, hashlib.sha256).hexdigest()
    return replace(credential, username=f"{region}@{key}", password=password)


def _key_of(credential: Credential, host: str, registry: str) -> tuple[str, str, str]:
    """Return region, AK and top-level domain of an access key's user."""
    found = _HOST.fullmatch(host)
    region, at, key = credential.username.rpartition("@")
    if not at and found is None:
        raise Unsupported(
            f"{registry}: {host} does not tell which region of Huawei Cloud it is",
            registry=registry,
            hint="write the user as REGION@AK",
        )
    return region or (found[1] if found else ""), key, found[2] if found else "com"


class Swr:
    """Requests to one region's API."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.name = plane.name

    def login(self) -> Credential:
        """Return what the registry and its API take."""
        host, _ = self._plane.hosts
        return long_term(self._plane.credential(), host, self.name)

    def ask(
        self, method: str, path: str, *, body: object = None, accept: tuple[int, ...] = (200,)
    ) -> Reply:
        """Ask below /dockyard/v2; raises RegistryError."""
        login = self.login()
        headers = {} if login.anonymous else {"Authorization": basic_value(login)}
        return self._plane.call(method, f"{API}{path}", headers=headers, body=body, accept=accept)


class SwrLogin:
    """The long-term login of an access key."""

    def __init__(self, swr: Swr) -> None:
        self._swr = swr

    def login(self) -> Credential:
        """Return it; nothing is asked for it."""
        return self._swr.login()


class SwrRepositories:
    """The account's own repositories; the list has no pages."""

    def __init__(self, swr: Swr) -> None:
        self._swr = swr

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:  # noqa: ARG002 - there is one page
        """Yield them as one page."""
        rows = self._swr.ask("GET", "/repositories?filter=center::self").value
        rows = [] if rows is None else rows
        if not isinstance(rows, list):
            raise ProtocolError(f"{self._swr.name}: a list of repositories that is none")
        yield RepositoryPage(tuple(dict.fromkeys(filter(None, map(_name, rows)))), None)


class SwrOrganizations:
    """The organization of a repository is the first part of its name."""

    def __init__(self, swr: Swr) -> None:
        self._swr = swr

    def place(self, repository: str) -> str:
        """Return the organization's name."""
        return repository.partition("/")[0]

    def exists(self, place: str) -> bool:
        """Whether the account has such an organization."""
        reply = self._swr.ask("GET", f"/namespaces/{quote(place, safe='')}", accept=(200, 404))
        found = reply.value.get("name") if isinstance(reply.value, dict) else None
        return reply.status == 200 and found == place

    def make(self, place: str) -> None:
        """Make it; raises Denied where the credentials may not, Rejected where another account has the name."""
        body = {"namespace": place}
        try:
            make_unless_there(
                lambda: self._swr.ask("POST", "/namespaces", body=body, accept=(200, 201)),
                lambda: self.exists(place),
            )
        except Denied as error:
            raise Denied(
                f"{error.registry} has no organization {place} and does not let it be made: {error.message}",
                registry=error.registry,
                status=error.status,
                oci_code=error.oci_code,
                hint="make the organization, or use an access key that may create organizations",
            ) from error


class SwrTags:
    """DeleteRepoTag of the management API, signed with the access key: it takes the tag alone."""

    def __init__(self, plane: ControlPlane) -> None:
        self._credential = plane.credential
        region, _, domain = _key_of(plane.credential(), plane.hosts[0], plane.name)
        self._plane = plane.at(f"https://swr-api.{region}.myhuaweicloud.{domain}")

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound, Denied."""
        namespace, _, name = repository.partition("/")
        repo = quote(name.replace("/", "$"), safe="$")  # as the API's documentation has it
        path = f"{MANAGE}/namespaces/{quote(namespace, safe='')}/repos/{repo}/tags/{quote(tag, safe='')}"
        try:
            self._plane.call(
                "DELETE", path, signed=lambda _: self._headers(path), accept=(200, 204)
            )
        except NotFound as error:
            raise ManifestNotFound(
                error.message, registry=error.registry, status=404, oci_code=error.oci_code
            ) from error

    def _headers(self, path: str) -> dict[str, str]:
        credential = self._credential()
        return sign(
            credential.username.rpartition("@")[2],
            credential.password,
            method="DELETE",
            path=path,
            host=self._plane.origin.authority,
            moment=datetime.now(UTC),
        )


def _name(row: Any) -> str:
    if not isinstance(row, dict):
        return ""
    namespace, name = row.get("namespace"), row.get("name")
    return f"{namespace}/{name}" if isinstance(namespace, str) and isinstance(name, str) else ""
