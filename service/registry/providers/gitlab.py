"""GitLab: repositories of the projects that the user is a member of, by /api/v4 of GitLab itself.

The API is at the host of the registry's token service. The password of the registry's credential is a
personal, group or project access token with read_api; deploy and job tokens cannot list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service import errors
from service.registry.providers.control_plane import ControlPlane
from service.registry.providers.strategies import NONE, Strategies
from service.registry.results import RepositoryPage

PROJECTS_A_PAGE = 20
ROWS_A_PAGE = 100


def open_gitlab(plane: ControlPlane) -> Strategies:
    """Return GitLab's strategies; none for anonymous registries."""
    if plane.credential().anonymous:
        return NONE
    return Strategies(repositories=GitLabRepositories(plane))


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
        token = self._plane.presented().password
        reply = self._plane.call(
            "GET", f"/api/v4{path}&page={page}", headers={"PRIVATE-TOKEN": token}
        )
        rows = reply.value
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise errors.ProtocolError(f"{self._plane.name}: a list of its API that is none")
        following = reply.headers.get("x-next-page", "")
        if following.isdigit() and int(following) <= page:
            raise errors.ProtocolError(f"{self._plane.name}: a list of its API goes in a circle")
        return rows, int(following) if following.isdigit() else None
