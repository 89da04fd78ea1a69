"""GitLab: repositories of the projects that the user is a member of, and new projects, by /api/v4 of GitLab itself.

The API is at the host of the registry's token service. The password of the registry's credential is a
personal, group or project access token with read_api, or with api to make projects; deploy and job tokens can do neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from service import errors
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.steps import make_unless_there
from service.registry.providers.strategies import NONE, Strategies
from service.registry.results import RepositoryPage

PROJECTS_A_PAGE = 20
ROWS_A_PAGE = 100


def open_gitlab(plane: ControlPlane) -> Strategies:
    """Return GitLab's strategies; none for anonymous registries."""
    if plane.credential().anonymous:
        return NONE
    return Strategies(repositories=GitLabRepositories(plane), maker=GitLabProjects(plane))


class GitLabRepositories:
    """Registry repositories, project by project: a page is those of some projects."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield the repositories of the user's projects; a cursor is a page's number."""
        number = int(cursor) if cursor is not None and cursor.isdigit() else 1
        path = (
            f"/projects?membership=true&simple=true&order_by=id&sort=asc&per_page={PROJECTS_A_PAGE}"
        )
        more: int | None = number
        while more is not None:
            projects, more = self._rows(path, more)
            names = [name for project in projects for name in self._of(project.get("id"))]
            yield RepositoryPage(tuple(names), None if more is None else str(more))

    def _of(self, project: Any) -> Iterator[str]:
        """Yield a project's repositories; one without a registry, or that shows none, has none."""
        if not isinstance(project, int):
            raise errors.ProtocolError(f"{self._plane.name}: a project without a number")
        path = f"/projects/{project}/registry/repositories?per_page={ROWS_A_PAGE}"
        more: int | None = 1
        while more is not None:
            try:
                rows, more = self._rows(path, more)
            except (errors.NotFound, errors.Denied):
                return
            yield from (row["path"] for row in rows if isinstance(row.get("path"), str))

    def _rows(self, path: str, page: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return a page of a list, and the number of the next one."""
        reply = _ask(self._plane, "GET", f"{path}&page={page}")
        rows = reply.value
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise errors.ProtocolError(f"{self._plane.name}: a list of its API that is none")
        following = reply.headers.get("x-next-page", "")
        if following.isdigit() and int(following) <= page:
            raise errors.ProtocolError(f"{self._plane.name}: a list of its API goes in a circle")
        return rows, int(following) if following.isdigit() else None


class GitLabProjects:
    """A repository's name is a project's path, and up to two more parts."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def place(self, repository: str) -> str:
        """Return the repository itself: which of its parts are the project's is for GitLab to tell."""
        return repository

    def exists(self, place: str) -> bool:
        """Whether one of the paths that the name begins with is a project's.

        Tokens that may not ask are told that there is one: the registry's own refusal says more.
        """
        try:
            return any(self._is_there("projects", path) for path in _beginnings(place, 2))
        except (errors.AuthenticationFailed, errors.Denied):
            return True

    def make(self, place: str) -> None:
        """Make a private project below the longest group, or user, that the name begins with.

        Raises Denied where there is no such group, or the token may not.
        """
        group = next(
            (path for path in _beginnings(place, 1) if self._is_there("namespaces", path)), None
        )
        if group is None or group == place:
            raise self._denied(place, f"no group has a name that {place} could be a project of")
        name = place.removeprefix(f"{group}/").partition("/")[0]
        namespace = _ask(self._plane, "GET", f"/namespaces/{quote(group, safe='')}").value
        body = {
            "name": name,
            "path": name,
            "namespace_id": namespace.get("id") if isinstance(namespace, dict) else None,
            "visibility": "private",
            "container_registry_access_level": "enabled",
        }
        try:
            make_unless_there(
                lambda: _ask(self._plane, "POST", "/projects", body=body, accept=(201,)),
                lambda: self._is_there("projects", f"{group}/{name}"),
            )
        except errors.Denied as error:
            raise self._denied(f"{group}/{name}", error.message) from error

    def _is_there(self, kind: str, path: str) -> bool:
        answer = _ask(self._plane, "GET", f"/{kind}/{quote(path, safe='')}", accept=(200, 404))
        return answer.status == 200

    def _denied(self, project: str, why: str) -> errors.Denied:
        return errors.Denied(
            f"{self._plane.name} has no project {project} and does not let it be made: {why}",
            registry=self._plane.name,
            hint="make the project, or its group, or use a token with api of a user who may create projects",
        )


def _beginnings(repository: str, least: int) -> list[str]:
    """Return the paths of at least so many parts that a name begins with, the longest first."""
    parts = repository.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), least - 1, -1)]


def _ask(
    plane: ControlPlane,
    method: str,
    path: str,
    *,
    body: object = None,
    accept: tuple[int, ...] = (200,),
) -> Reply:
    """Ask below /api/v4; raises RegistryError."""
    headers = {"PRIVATE-TOKEN": plane.presented().password}
    return plane.call(method, f"/api/v4{path}", headers=headers, body=body, accept=accept)
