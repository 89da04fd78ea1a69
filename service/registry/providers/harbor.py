"""Harbor 2: projects, artifacts and tags by /api/v2.0 (its swagger.yaml), with Basic credentials.

Robots (`robot$name`, `robot$project+name`) are users like others here; GET /repositories is not asked,
since it shows a robot the public projects only (src/server/v2.0/handler/repository.go).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from service.errors import Denied, ManifestNotFound, NotFound, ProtocolError
from service.registry.links import next_cursor
from service.registry.providers.control_plane import ControlPlane, Reply
from service.registry.providers.strategies import Receiver, Strategies
from service.registry.results import RepositoryPage

API = "/api/v2.0"
PROJECTS_A_PAGE = 20
ROWS_A_PAGE = 100  # Harbor's most
EVENTS = frozenset({"PUSH_ARTIFACT", "DELETE_ARTIFACT"})


def open_harbor(plane: ControlPlane) -> Strategies:
    """Return Harbor's strategies."""
    harbor = Harbor(plane)
    return Strategies(
        repositories=HarborRepositories(harbor),
        tags_with_digests=HarborArtifacts(harbor),
        maker=HarborProjects(harbor),
        tag_deleter=HarborTags(harbor),
        webhooks=HarborWebhooks(harbor),
    )


class Harbor:
    """Requests to one Harbor's API, and its pages."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def ask(
        self, method: str, path: str, *, body: object = None, accept: tuple[int, ...] = (200,)
    ) -> Reply:
        """Ask below /api/v2.0; raises RegistryError."""
        return self._plane.call(
            method, f"{API}{path}", headers=self._plane.basic(), body=body, accept=accept
        )

    def pages(self, target: str) -> Iterator[tuple[list[dict[str, Any]], str | None]]:
        """Yield pages of a list from `target` (below /api/v2.0) on, with where the next one is."""
        seen: set[str] = set()
        following: str | None = target
        while following is not None:
            if following in seen:
                raise ProtocolError(f"{self._plane.name}: a list of its API goes in a circle")
            seen.add(following)
            reply = self.ask("GET", following)
            rows = [] if reply.value is None else reply.value  # an empty list may be null
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ProtocolError(f"{self._plane.name}: a list of its API that is none")
            link = next_cursor(self._plane.origin, f"{API}{following}", reply.headers.get("link"))
            following = None
            if link is not None:
                if not link.startswith(f"{API}/"):
                    raise ProtocolError(f"{self._plane.name}: a list of its API goes on elsewhere")
                following = link.removeprefix(API)
            yield rows, following


class HarborRepositories:
    """Repositories, project by project: a page is those of some projects."""

    def __init__(self, harbor: Harbor) -> None:
        self._harbor = harbor

    def pages(self, cursor: str | None) -> Iterator[RepositoryPage]:
        """Yield the repositories of every project that the credentials see."""
        first = cursor or f"/projects?page=1&page_size={PROJECTS_A_PAGE}"
        for projects, following in self._harbor.pages(first):
            names = [
                name for project in projects for name in self._of(_text(project, "name")) if name
            ]
            yield RepositoryPage(tuple(dict.fromkeys(names)), following)

    def _of(self, project: str) -> Iterator[str]:
        path = f"/projects/{_segment(project)}/repositories?page=1&page_size={ROWS_A_PAGE}"
        try:
            for rows, _ in self._harbor.pages(path):
                yield from (_text(row, "name") for row in rows)
        except (NotFound, Denied):  # it went meanwhile, or shows nothing: the others are listed
            return


class HarborArtifacts:
    """Artifacts with their tags: 100 digests a request."""

    def __init__(self, harbor: Harbor) -> None:
        self._harbor = harbor

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest; tags of accessories (signatures) are not among them."""
        path = f"{_repository(repository)}/artifacts?page=1&page_size={ROWS_A_PAGE}&with_tag=true"
        for artifacts, _ in self._harbor.pages(path):
            yield {
                _text(tag, "name"): _text(artifact, "digest")
                for artifact in artifacts
                for tag in artifact.get("tags") or ()
                if isinstance(tag, dict)
            }


class HarborProjects:
    """The project of a repository is the first part of its name."""

    def __init__(self, harbor: Harbor) -> None:
        self._harbor = harbor

    def place(self, repository: str) -> str:
        """Return the project's name."""
        return repository.partition("/")[0]

    def exists(self, place: str) -> bool:
        """Whether there is such a project."""
        path = f"/projects?project_name={quote(place, safe='')}"
        return self._harbor.ask("HEAD", path, accept=(200, 404)).status == 200

    def make(self, place: str) -> None:
        """Make a private project; raises Denied where the credentials may not."""
        body = {"project_name": place, "metadata": {"public": "false"}}
        try:
            self._harbor.ask("POST", "/projects", body=body, accept=(201, 409))
        except Denied as error:
            raise Denied(
                f"{error.registry} has no project {place} and does not let it be made: {error.message}",
                registry=error.registry,
                status=error.status,
                oci_code=error.oci_code,
                hint="make the project, or use a user or system robot that may create projects",
            ) from error


class HarborTags:
    """Tags as rows of their own: deleting one leaves the artifact and its other tags."""

    def __init__(self, harbor: Harbor) -> None:
        self._harbor = harbor

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound, and Rejected for one that is immutable."""
        name = quote(tag, safe="")
        path = f"{_repository(repository)}/artifacts/{name}/tags/{name}"
        try:
            self._harbor.ask("DELETE", path)
        except NotFound as error:
            raise ManifestNotFound(
                error.message, registry=error.registry, status=404, oci_code=error.oci_code
            ) from error


class HarborWebhooks:
    """Webhook policies, project by project (swagger.yaml, WebhookPolicy)."""

    def __init__(self, harbor: Harbor) -> None:
        self._harbor = harbor

    def place(self, repository: str) -> str:
        """Return the project's name."""
        return repository.partition("/")[0]

    def register(self, place: str, receiver: Receiver) -> bool:
        """Make or correct the policy; raises Denied where the credentials may not."""
        target = {
            "type": "http",
            "address": receiver.address,
            "auth_header": f"Bearer {receiver.secret}",
            "skip_cert_verify": False,
        }
        policy = {
            "name": receiver.name,
            "description": "made by Transship",
            "event_types": sorted(EVENTS),
            "targets": [target],
            "enabled": True,
        }
        found = self._find(place, receiver)
        if found is None:
            self._harbor.ask("POST", _policies(place), body=policy, accept=(201,))
            return True
        targets = found.get("targets")
        first = targets[0] if isinstance(targets, list) and targets else None
        same = isinstance(first, dict) and target.items() <= first.items()
        if same and found.get("enabled") is True and set(found.get("event_types") or ()) == EVENTS:
            return False
        path = f"{_policies(place)}/{found.get('id')}"
        self._harbor.ask("PUT", path, body={**policy, "id": found.get("id")})
        return True

    def remove(self, place: str, receiver: Receiver) -> bool:
        """Remove the policy."""
        found = self._find(place, receiver)
        if found is None:
            return False
        path = f"{_policies(place)}/{found.get('id')}"
        return self._harbor.ask("DELETE", path, accept=(200, 404)).status == 200

    def _find(self, place: str, receiver: Receiver) -> dict[str, Any] | None:
        rows = self._harbor.pages(f"{_policies(place)}?page=1&page_size={ROWS_A_PAGE}")
        return next(
            (row for page, _ in rows for row in page if row.get("name") == receiver.name), None
        )


def _policies(project: str) -> str:
    return f"/projects/{_segment(project)}/webhook/policies"


def _repository(repository: str) -> str:
    """Return the path of a repository, whose name below its project is encoded twice (swagger.yaml)."""
    project, _, name = repository.partition("/")
    return f"/projects/{_segment(project)}/repositories/{_segment(_segment(name))}"


def _segment(text: str) -> str:
    return quote(text, safe="")


def _text(row: Mapping[str, Any], member: str) -> str:
    value = row.get(member)
    return value if isinstance(value, str) else ""
