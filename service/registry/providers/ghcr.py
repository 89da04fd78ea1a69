"""GitHub Container Registry: packages and their versions by api.github.com (REST API 2022-11-28).

The password is a classic personal access token with read:packages; read:org shows the organisations. A
version with several tags can only be deleted whole there, so tags are never deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from service import errors
from service.registry.links import next_link
from service.registry.origin import resolve_url
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.strategies import NONE, Receiver, Strategies
from service.registry.results import RepositoryPage

ROWS_A_PAGE = 100
EVENTS = ("package", "registry_package")
USER = "user"


def open_ghcr(plane: ControlPlane) -> Strategies:
    """Return GitHub's strategies; none for anonymous registries."""
    if plane.credential().anonymous:
        return NONE
    github = GitHub(plane)
    return Strategies(
        repositories=GitHubPackages(github),
        tags_with_digests=GitHubVersions(github),
        webhooks=GitHubHooks(github),
    )


class GitHub:
    """Requests to GitHub's API as one user."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    @property
    def name(self) -> str:
        """The registry's name."""
        return self._plane.name

    def ask(
        self, method: str, target: str, *, body: object = None, accept: tuple[int, ...] = (200,)
    ) -> Reply:
        """Ask the API; raises RegistryError."""
        headers = {
            "Authorization": f"Bearer {self._plane.presented().password}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        return self._plane.call(method, target, headers=headers, body=body, accept=accept)

    def pages(self, target: str) -> Iterator[tuple[list[dict[str, Any]], str | None]]:
        """Yield pages of a list from `target` on, with where the next one is."""
        seen: set[str] = set()
        following: str | None = target
        while following is not None:
            if following in seen:
                raise errors.ProtocolError(f"{self.name}: a list of its API goes in a circle")
            seen.add(following)
            reply = self.ask("GET", following)
            rows = reply.value
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise errors.ProtocolError(f"{self.name}: a list of its API that is none")
            following = self._next(following, reply.headers.get("link"))
            yield rows, following

    def _next(self, current: str, header: str | None) -> str | None:
        link = next_link(header) if header else None
        if link is None:
            return None
        origin, target = resolve_url(self._plane.origin, current, link)
        if origin != self._plane.origin:
            raise errors.ProtocolError(f"{self.name}: a list of its API goes on elsewhere")
        return target


class GitHubPackages:
    """Container packages of the user, then of each organisation that the user is a member of."""

    def __init__(self, github: GitHub) -> None:
        self._github = github

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield pages; a cursor is the target of one."""
        owners = [f"/{USER}"]
        for rows, _ in self._github.pages(f"/user/orgs?per_page={ROWS_A_PAGE}"):
            owners += [f"/orgs/{quote(str(row.get('login')), safe='')}" for row in rows]
        lists = [f"{o}/packages?package_type=container&per_page={ROWS_A_PAGE}" for o in owners]
        begin = 0
        if cursor is not None:
            starts = [n for n, one in enumerate(lists) if _owner(one) == _owner(cursor)]
            if not starts:
                raise errors.ProtocolError(f"{self._github.name}: a cursor of nobody's packages")
            begin = starts[0]
            lists[begin] = cursor
        for position in range(begin, len(lists)):
            for rows, following in self._github.pages(lists[position]):
                after = lists[position + 1] if position + 1 < len(lists) else None
                names = tuple(_name(row) for row in rows)
                yield RepositoryPage(names, following or after)


class GitHubVersions:
    """Versions of a package: a digest with its tags."""

    def __init__(self, github: GitHub) -> None:
        self._github = github

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, 100 versions a page, the newest first."""
        owner, _, package = repository.partition("/")
        path = f"/packages/container/{quote(package, safe='')}/versions?per_page={ROWS_A_PAGE}"
        try:
            yield from self._of(f"/orgs/{quote(owner, safe='')}{path}")
        except errors.NotFound:
            yield from self._of(f"/users/{quote(owner, safe='')}{path}")

    def _of(self, target: str) -> Iterator[Mapping[str, str]]:
        for rows, _ in self._github.pages(target):
            yield {
                tag: row["name"]
                for row in rows
                if str(row.get("name")).startswith("sha256:")
                for tag in row.get("metadata", {}).get("container", {}).get("tags") or ()
            }


def _owner(target: str) -> str:
    return target.partition("/packages")[0]


def _name(row: Mapping[str, Any]) -> str:
    """Return a repository's name: GitHub's owners have capital letters, ghcr.io's have none."""
    return f"{row.get('owner', {}).get('login')}/{row.get('name')}".lower()


class GitHubHooks:
    """Webhooks of organisations ("Organization webhooks"); a user has none for packages."""

    def __init__(self, github: GitHub) -> None:
        self._github = github

    def place(self, repository: str) -> str:
        """Return the organisation."""
        return repository.partition("/")[0]

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make the webhook, or set all that it has anew, as its secret is never told.

        Raises Unsupported for an owner that is no organisation, or shows no webhooks: admin:org_hook is missing.
        """
        config = {
            "url": receiver.address,
            "content_type": "json",
            "insecure_ssl": "0",
            "secret": receiver.secret,
        }
        wanted = {"config": config, "events": list(EVENTS), "active": True}
        found = self._find(place, receiver)
        if found is None:
            self._github.ask("POST", _hooks(place), body={"name": "web", **wanted}, accept=(201,))
            return True
        self._github.ask("PATCH", f"{_hooks(place)}/{found.get('id')}", body=wanted)
        told = found.get("config")
        same = isinstance(told, dict) and told.get("content_type") == "json"
        events = found.get("events")
        right = isinstance(events, list) and sorted(map(str, events)) == list(EVENTS)
        return not (same and right and found.get("active") is True)

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove the webhook."""
        found = self._find(place, receiver)
        if found is None:
            return False
        target = f"{_hooks(place)}/{found.get('id')}"
        return self._github.ask("DELETE", target, accept=(204, 404)).status == 204

    def _find(self, place: str, receiver: Receiver) -> dict[str, Any] | None:
        try:
            for rows, _ in self._github.pages(f"{_hooks(place)}?per_page={ROWS_A_PAGE}"):
                for row in rows:
                    config = row.get("config")
                    if isinstance(config, dict) and config.get("url") == receiver.address:
                        return row
        except errors.NotFound as error:
            raise errors.Unsupported(
                f"{self._github.name}: {place} shows no webhooks",
                registry=self._github.name,
                status=404,
                hint="it has to be an organisation, and the token needs admin:org_hook",
            ) from error
        return None


def _hooks(owner: str) -> str:
    return f"/orgs/{quote(owner, safe='')}/hooks"
