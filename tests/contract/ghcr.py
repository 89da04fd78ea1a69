"""A contract fake of GitHub's registry and api.github.com.

Sources: [api] docs.github.com/rest/packages/packages and rest/orgs/orgs (2022-11-28), the description that
github/rest-api-description has; [303] artifacthub/hub issue 4785: a referrers request is sent to an HTML
page of github.com; [hooks] rest/orgs/webhooks; [delete] docs.github.com: versions are deleted, tags are not.
"""

from __future__ import annotations

import json
import re
from typing import Any, Self

from api.samples.auth import BearerAuth, TokenService
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from tests.contract.leaks import Secret

JSON = {"Content-Type": "application/json; charset=utf-8"}
GHCR = Profile(name="ghcr", referrers_api=False, single_post=False, deletes_tags=False)


class FakeGitHub(SampleRegistry):
    """GitHub; `logins` has the owners' names as their owners write them."""

    def __init__(
        self, user: str, token: str, *, orgs: tuple[str, ...] = (), page: int = 100
    ) -> None:
        self.token = token
        self.tokens = TokenService({user.lower(): token}, service="ghcr.io", ttl_seconds=5)
        super().__init__(profile=GHCR, auth=BearerAuth(self.tokens))
        self.github = HttpServer(self._handle_github)
        self.user = user
        self.orgs = orgs
        self.hooks: dict[int, tuple[str, dict[str, Any]]] = {}
        self.wrong_link = ""  # in place of every Link
        self._page = page

    def start(self) -> Self:
        self.github.start()
        return super().start()

    def close(self) -> None:
        super().close()
        self.github.close()

    def secrets(self) -> list[Secret]:
        """The token is for both."""
        both = frozenset({self.host, self.github.authority})
        return [Secret(self.token, both, (self.user.lower(),))]

    def _handle(self, request: Request) -> Response:
        if "/referrers/" in request.path:  # [303]
            place = "https://github.com/-/v2/packages/container"
            return Response(303, {"Location": place, "Content-Type": "text/html"})
        if request.path == "/v2/_catalog":
            return Response(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
        return super()._handle(request)

    def _handle_github(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _json(401, {"message": "Bad credentials"})
        if request.path == "/user/orgs":
            return self._listed(request, [{"login": one} for one in self.orgs])
        if found := re.fullmatch(r"/orgs/([^/]+)/hooks(?:/(\d+))?", request.path):
            return self._hooks_of(request, found[1], found[2])
        packages = re.fullmatch(r"/(user|orgs/([^/]+))/packages", request.path)
        if packages and request.query().get("package_type") == "container":
            return self._packages(request, packages[2] or self.user)
        found = re.fullmatch(
            r"/(orgs|users)/([^/]+)/packages/container/([^/]+)/versions",
            request.target.partition("?")[0],
        )
        if found:
            kind, owner = found[1], found[2]
            if (kind == "orgs") == (owner in [one.lower() for one in self.orgs]):
                return self._versions(request, f"{owner}/{found[3].replace('%2F', '/')}")
        return _json(404, {"message": "Not Found"})

    def _hooks_of(self, request: Request, owner: str, number: str | None) -> Response:
        """[hooks] docs.github.com/rest/orgs/webhooks; a secret is told as asterisks."""
        if owner not in [one.lower() for one in self.orgs]:
            return _json(404, {"message": "Not Found"})
        mine = {one: body for one, (where, body) in self.hooks.items() if where == owner}
        if number is None and request.method == "GET":
            rows = [
                {**body, "id": one, "config": {**body["config"], "secret": "********"}}
                for one, body in mine.items()
            ]
            return self._listed(request, rows)
        if number is None:
            body = json.loads(request.body.read(1 << 16))
            if body.get("name") != "web" or "url" not in body["config"]:
                return _json(422, {"message": "Validation Failed"})
            self.hooks[len(self.hooks) + 1] = (owner, body)
            return _json(201, {"id": len(self.hooks)})
        if int(number) not in mine:
            return _json(404, {"message": "Not Found"})
        if request.method == "DELETE":
            del self.hooks[int(number)]
            return Response(204)
        changed = json.loads(request.body.read(1 << 16))
        self.hooks[int(number)] = (owner, {**mine[int(number)], **changed})
        return _json(200, {"id": int(number)})

    def _packages(self, request: Request, owner: str) -> Response:
        start = f"{owner.lower()}/"
        names = [n for n in self.storage.repositories() if n.startswith(start)]
        rows = [
            {
                "id": n + 1,
                "name": name.removeprefix(start),
                "package_type": "container",
                "owner": {"login": owner},
                "visibility": "private",
            }
            for n, name in enumerate(names)
        ]
        return self._listed(request, rows)

    def _versions(self, request: Request, name: str) -> Response:
        by_digest: dict[str, list[str]] = {}
        for tag, digest in (self.storage.tags(name) or {}).items():
            by_digest.setdefault(digest, []).append(tag)
        rows = [
            {
                "id": n + 1,
                "name": digest,
                "metadata": {"package_type": "container", "container": {"tags": tags}},
            }
            for n, (digest, tags) in enumerate(by_digest.items())
        ]
        untagged = {"container": {"tags": []}}
        return self._listed(request, [*rows, {"id": 99, "name": "sha256:0", "metadata": untagged}])

    def _listed(self, request: Request, rows: list[dict[str, Any]]) -> Response:
        query = request.query()
        size = min(int(query.get("per_page", "30")), self._page)
        number = int(query.get("page", "1"))
        start = (number - 1) * size
        headers = dict(JSON)
        if self.wrong_link:
            headers["Link"] = self.wrong_link
        elif start + size < len(rows):
            keep = "&".join(f"{k}={v}" for k, v in query.items() if k != "page")
            place = f"{self.github.url}{request.target.partition('?')[0]}?{keep}&page={number + 1}"
            headers["Link"] = f'<{place}>; rel="next", <{place}>; rel="last"'
        return Response(200, headers, json.dumps(rows[start : start + size]).encode())


def _json(status: int, value: object) -> Response:
    return Response(status, dict(JSON), json.dumps(value).encode())
