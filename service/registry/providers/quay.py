"""Quay: repositories by namespace, tags with digests, and organizations, by /api/v1 with an OAuth access token.

The registry's credential is the user name `$oauthtoken` with the token of an OAuth application as password; robots
and other users have the catalog and the distribution API. Sources: the Red Hat Quay API guide, `user`,
`repository.listRepos`, `tag.listRepoTags` and `organization.createOrganization`, `repositorynotification`; quay's endpoints/api of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from service import errors
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.steps import make_unless_there
from service.registry.providers.strategies import NONE, Receiver, Strategies
from service.registry.results import RepositoryPage

API = "/api/v1"
OAUTH_USER = "$oauthtoken"
ROWS_A_PAGE = 100


def open_quay(plane: ControlPlane) -> Strategies:
    """Return Quay's strategies; none where the credential is not an OAuth token."""
    if plane.credential().username != OAUTH_USER:
        return NONE
    quay = Quay(plane)
    return Strategies(
        repositories=QuayRepositories(quay),
        tags_with_digests=QuayTags(quay),
        maker=QuayOrganizations(quay),
        webhooks=QuayNotifications(quay),
    )


class Quay:
    """Requests to one Quay's API."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.name = plane.name

    def send(
        self, method: str, path: str, *, body: object = None, accept: tuple[int, ...] = (200,)
    ) -> Reply:
        """Ask below /api/v1; raises RegistryError."""
        headers = {"Authorization": f"Bearer {self._plane.credential().password}"}
        return self._plane.call(method, f"{API}{path}", headers=headers, body=body, accept=accept)

    def ask(self, path: str) -> dict[str, Any]:
        """Get an object below /api/v1; raises RegistryError."""
        value = self.send("GET", path).value
        if not isinstance(value, dict):
            raise errors.ProtocolError(f"{self.name}: its API answers no object")
        return value

    def rows(self, path: str, member: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Get a page of a list: the answer, and its rows."""
        answer = self.ask(path)
        rows = answer.get(member) or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise errors.ProtocolError(f"{self.name}: a list of its API that is none")
        return answer, rows


class QuayRepositories:
    """Repositories, namespace by namespace: a page is those of one."""

    def __init__(self, quay: Quay) -> None:
        self._quay = quay

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield the repositories of the user and of the user's organizations; the cursor is the last namespace."""
        left = [name for name in self._namespaces() if cursor is None or name > cursor]
        for position, namespace in enumerate(left):
            names = tuple(dict.fromkeys(self._of(namespace)))
            yield RepositoryPage(names, namespace if position + 1 < len(left) else None)

    def _namespaces(self) -> list[str]:
        user = self._quay.ask("/user/")
        organizations = user.get("organizations") or []
        names = [user.get("username"), *(row.get("name") for row in organizations)]
        return sorted({name for name in names if isinstance(name, str)})

    def _of(self, namespace: str) -> Iterator[str]:
        seen: set[str] = set()
        token = ""
        while True:
            path = f"/repository?namespace={quote(namespace, safe='')}"
            answer, rows = self._quay.rows(
                f"{path}&next_page={quote(token, safe='')}" if token else path, "repositories"
            )
            for row in rows:
                if row.get("kind", "image") == "image":
                    yield f"{row.get('namespace')}/{row.get('name')}"
            token = str(answer.get("next_page") or "")
            if not token:
                return
            if token in seen:
                raise errors.ProtocolError(f"{self._quay.name}: a list of its API goes in a circle")
            seen.add(token)


class QuayTags:
    """Tags that are there now: 100 digests a request."""

    def __init__(self, quay: Quay) -> None:
        self._quay = quay

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest; tags of the past are not among them."""
        page, more = 1, True
        while more:
            path = f"/repository/{quote(repository, safe='/')}/tag/"
            answer, rows = self._quay.rows(
                f"{path}?limit={ROWS_A_PAGE}&page={page}&onlyActiveTags=true", "tags"
            )
            yield {
                row["name"]: row["manifest_digest"]
                for row in rows
                if isinstance(row.get("name"), str) and isinstance(row.get("manifest_digest"), str)
            }
            page, more = page + 1, bool(rows) and answer.get("has_additional") is True


class QuayOrganizations:
    """The namespace of a repository is a user or an organization; the push makes the repository."""

    def __init__(self, quay: Quay) -> None:
        self._quay = quay

    def place(self, repository: str) -> str:
        """Return the namespace's name."""
        return repository.partition("/")[0]

    def exists(self, place: str) -> bool:
        """Whether there is such an organization or user."""
        name = quote(place, safe="")
        return any(
            self._quay.send("GET", path, accept=(200, 404)).status == 200
            for path in (f"/organization/{name}", f"/users/{name}")
        )

    def make(self, place: str) -> None:
        """Make an organization; raises Denied where the token may not."""
        try:
            make_unless_there(
                lambda: self._quay.send(
                    "POST", "/organization/", body={"name": place}, accept=(200, 201)
                ),
                lambda: self.exists(place),
            )
        except errors.Denied as error:
            raise errors.Denied(
                f"{error.registry} has no organization {place} and does not let it be made: {error.message}",
                registry=error.registry,
                status=error.status,
                oci_code=error.oci_code,
                hint="make the organization, or use an OAuth token with user:admin",
            ) from error


class QuayNotifications:
    """Notifications of pushes, repository by repository; they cannot be changed, so a wrong one is made anew."""

    def __init__(self, quay: Quay) -> None:
        self._quay = quay

    def place(self, repository: str) -> str:
        """Return the repository."""
        return repository

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make the notification; raises Denied without repo:admin."""
        found = self._of(place, receiver)
        config = {"url": receiver.with_secret}
        right = [one for one in found if one.get("config") == config]
        for one in found:
            if one not in right[:1]:
                self._delete(place, one)
        if right:
            return len(found) > 1
        body = {
            "event": "repo_push",
            "method": "webhook",
            "config": config,
            "eventConfig": {},
            "title": receiver.name,
        }
        self._quay.send("POST", _notifications(place), body=body, accept=(200, 201))
        return True

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove the notification."""
        found = self._of(place, receiver)
        for one in found:
            self._delete(place, one)
        return bool(found)

    def _of(self, place: str, receiver: Receiver) -> list[dict[str, Any]]:
        _, rows = self._quay.rows(_notifications(place), "notifications")
        return [row for row in rows if row.get("title") == receiver.name]

    def _delete(self, place: str, row: Mapping[str, Any]) -> None:
        path = f"{_notifications(place)}{quote(str(row.get('uuid')), safe='')}"
        self._quay.send("DELETE", path, accept=(200, 204, 400, 404))  # 400: it is gone


def _notifications(repository: str) -> str:
    return f"/repository/{quote(repository, safe='/')}/notification/"
