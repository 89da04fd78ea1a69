"""Docker Hub: repositories, digests and deletions by hub.docker.com (Docker Hub API, version 2).

The registry's user and password (or access token) are exchanged for a token of ten minutes. Without
them there is no list: nobody wants all of Docker Hub.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from service import errors
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.strategies import NONE, Strategies
from service.registry.results import RepositoryPage

TOKEN_SECONDS = 540.0  # of its 600
ROWS_A_PAGE = 100


def open_dockerhub(plane: ControlPlane) -> Strategies:
    """Return Docker Hub's strategies; none for anonymous registries."""
    if plane.credential().anonymous:
        return NONE
    hub = Hub(plane)
    return Strategies(
        repositories=HubRepositories(hub),
        tags_with_digests=HubTags(hub),
        tag_deleter=HubTags(hub),
    )


class Hub:
    """Requests to Docker Hub's API as one user."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    @property
    def name(self) -> str:
        """The registry's name."""
        return self._plane.name

    def ask(self, method: str, path: str, *, accept: tuple[int, ...] = (200,)) -> Reply:
        """Ask below /v2, with a new token where the last one is refused. Raises RegistryError."""
        token = self._current(stale="")
        headers = {"Authorization": f"Bearer {token}"}
        reply = self._plane.call(method, f"/v2{path}", headers=headers, accept=(*accept, 401))
        if reply.status != 401:
            return reply
        headers = {"Authorization": f"Bearer {self._current(stale=token)}"}
        return self._plane.call(method, f"/v2{path}", headers=headers, accept=accept)

    def rows(self, path: str, page: int) -> tuple[list[dict[str, Any]], bool]:
        """Return one page of a list, and whether there is another one."""
        value = self.ask("GET", f"{path}?page={page}&page_size={ROWS_A_PAGE}").value
        rows = value.get("results") if isinstance(value, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise errors.ProtocolError(f"{self.name}: a list of its API that is none")
        return rows, bool(value.get("next")) and bool(rows)

    def _current(self, stale: str) -> str:
        with self._lock:
            if not self._token or self._token == stale or time.monotonic() >= self._renew_at:
                credential = self._plane.presented()
                body = {"identifier": credential.username, "secret": credential.password}
                reply = self._plane.call("POST", "/v2/auth/token", body=body)
                token = reply.value.get("access_token") if isinstance(reply.value, dict) else None
                if not isinstance(token, str) or not token.isprintable() or " " in token:
                    raise errors.ProtocolError(f"{self.name}: its API answers no token")
                self._token = token
                self._renew_at = time.monotonic() + TOKEN_SECONDS
            return self._token


class HubRepositories:
    """Repositories of all namespaces of the user: a page is 100 of one namespace."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield pages; a cursor is `namespace page`."""
        names = self._namespaces()
        begin, _, text = (cursor or "").partition(" ")
        number = int(text) if text.isdigit() else 1
        if begin:
            names = [name for name in names if name >= begin]
            number = number if names[:1] == [begin] else 1
        for position, namespace in enumerate(names):
            more = True
            while more:
                rows, more = self._hub.rows(f"/repositories/{quote(namespace, safe='')}/", number)
                found = tuple(f"{namespace}/{row.get('name')}" for row in rows)
                number += 1
                after = names[position + 1] if position + 1 < len(names) else None
                rest = f"{after} 1" if after else None
                yield RepositoryPage(found, f"{namespace} {number}" if more else rest)
            number = 1

    def _namespaces(self) -> list[str]:
        value = self._hub.ask("GET", "/repositories/namespaces/").value
        names = value.get("namespaces") if isinstance(value, dict) else None
        if not isinstance(names, list):
            raise errors.ProtocolError(f"{self._hub.name}: no namespaces in its API's answer")
        return sorted({name for name in names if isinstance(name, str)})


class HubTags:
    """Tags, with digests or one at a time."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest; old tags, of which Docker Hub tells no digest, are left out."""
        number, more = 0, True
        while more:
            number += 1
            rows, more = self._hub.rows(f"{_path(repository)}/tags/", number)
            yield {
                row["name"]: row["digest"]
                for row in rows
                if isinstance(row.get("name"), str) and isinstance(row.get("digest"), str)
            }

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound, Denied."""
        path = f"{_path(repository)}/tags/{quote(tag, safe='')}/"
        try:
            self._hub.ask("DELETE", path, accept=(200, 202, 204))
        except errors.NotFound as error:
            raise errors.ManifestNotFound(
                error.message, registry=error.registry, status=404
            ) from error


def _path(repository: str) -> str:
    """Return the path of a repository; official ones are in `library`."""
    namespace, slash, name = repository.partition("/")
    if not slash:
        namespace, name = "library", namespace
    return f"/repositories/{quote(namespace, safe='')}/{quote(name, safe='')}"
