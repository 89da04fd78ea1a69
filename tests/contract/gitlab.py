"""A contract fake of GitLab: /jwt/auth and /api/v4 on one host, the registry on another.

Sources: [api] docs.gitlab.com/api/projects and api/container_registry, as python-gitlab speaks them, which
judges this fake in test_gitlab.py; [pages] docs.gitlab.com/api/rest (X-Next-Page); [jwt]
docs.gitlab.com/administration/packages/container_registry (service container_registry); [make]
docs.gitlab.com/api/projects "Create a project" and api/namespaces; a path that is taken is 400.
"""

from __future__ import annotations

import json
import re
import threading
from typing import Any, Self
from urllib.parse import unquote

from api.samples.auth import BearerAuth, TokenService
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.registry import SampleRegistry

JSON = {"Content-Type": "application/json"}


class FakeGitLab(SampleRegistry):
    """GitLab; `projects` maps a project's path to whether its registry is switched on."""

    def __init__(self, user: str, token: str, *, page: int = 100, ttl_seconds: int = 5) -> None:
        self.token = token
        self.tokens = TokenService(
            {user: token}, service="container_registry", ttl_seconds=ttl_seconds
        )
        self.gitlab = HttpServer(self._handle_gitlab)
        super().__init__(auth=BearerAuth(self.tokens, f"{self.gitlab.url}/jwt/auth"))
        self.projects: dict[str, bool] = {}
        self.groups: dict[str, int] | None = None  # path to id; None: no project is needed
        self.may_make = True
        self._making = threading.Lock()
        self._page = page

    def start(self) -> Self:
        self.gitlab.start()
        return super().start()

    def close(self) -> None:
        super().close()
        self.gitlab.close()

    def _handle(self, request: Request) -> Response:
        if request.path == "/v2/_catalog":  # administrators only
            return Response(401, dict(JSON), b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        found = re.fullmatch(r"/v2/(.+?)/(?:blobs|manifests|tags)/.*", request.path)
        answer = super()._handle(request)
        if found is None or self.groups is None or answer.status >= 300:
            return answer
        if any(found[1] == path or found[1].startswith(f"{path}/") for path in self.projects):
            return answer
        return Response(403, dict(JSON), b'{"errors":[{"code":"DENIED"}]}')

    def _handle_gitlab(self, request: Request) -> Response:
        if request.path == "/jwt/auth":
            return self.tokens.handle(request)
        if request.headers.get("private-token") != self.token:
            return _json(401, {"message": "401 Unauthorized"})
        if request.path == "/api/v4/projects" and request.method == "POST":
            return self._make(json.loads(request.body.read(1 << 16)))
        found = re.fullmatch(r"/api/v4/(projects|namespaces)/(.*[^/0-9][^/]*)", request.path)
        if found is not None and not found[2].endswith("/registry/repositories"):
            return self._one(found[1], unquote(found[2]))
        paths = list(self.projects)
        if (
            request.path == "/api/v4/projects"
            and request.query().get("membership", "").lower() == "true"
        ):
            rows = [{"id": n + 1, "path_with_namespace": path} for n, path in enumerate(paths)]
            return self._listed(request, rows)
        found = re.fullmatch(r"/api/v4/projects/(\d+)/registry/repositories", request.path)
        if found is None or int(found[1]) > len(paths):
            return _json(404, {"message": "404 Project Not Found"})
        path = paths[int(found[1]) - 1]
        if not self.projects[path]:
            return _json(403, {"message": "403 Forbidden"})
        names = [n for n in self.storage.repositories() if n == path or n.startswith(f"{path}/")]
        rows = [
            {
                "id": n + 1,
                "name": name.removeprefix(path).lstrip("/"),
                "path": name,
                "project_id": int(found[1]),
                "location": f"{self.host}/{name}",
            }
            for n, name in enumerate(names)
        ]
        return self._listed(request, rows)

    def _one(self, kind: str, path: str) -> Response:
        """[api] A project or namespace by its path, encoded."""
        if kind == "namespaces" and path in (self.groups or {}):
            row = {"id": (self.groups or {})[path], "full_path": path, "kind": "group"}
            return _json(200, row)
        if kind == "projects" and path in self.projects:
            number = list(self.projects).index(path) + 1
            return _json(200, {"id": number, "path_with_namespace": path})
        return _json(404, {"message": "404 Not Found"})

    def _make(self, asked: dict[str, Any]) -> Response:
        """[make]"""
        if not self.may_make:
            return _json(403, {"error": "insufficient_scope", "scope": "api"})
        group = {number: path for path, number in (self.groups or {}).items()}.get(
            asked.get("namespace_id", 0)
        )
        if group is None or asked.get("visibility") != "private":
            return _json(400, {"message": {"namespace": ["is not valid"]}})
        path = f"{group}/{asked['path']}"
        with self._making:
            if path in self.projects:
                return _json(400, {"message": {"path": ["has already been taken"]}})
            self.projects[path] = True
        row = {"id": len(self.projects), "path_with_namespace": path, "visibility": "private"}
        return _json(201, row)

    def _listed(self, request: Request, rows: list[dict[str, Any]]) -> Response:
        """[pages]"""
        query = request.query()
        size, number = (
            min(int(query.get("per_page", "20")), self._page),
            int(query.get("page", "1")),
        )
        start = (number - 1) * size
        more = start + size < len(rows)
        headers = {"X-Page": str(number), "X-Next-Page": str(number + 1) if more else ""}
        if more:
            keep = "".join(f"&{k}={v}" for k, v in query.items() if k != "page")
            place = f"{self.gitlab.url}{request.path}?page={number + 1}{keep}"
            headers["Link"] = f'<{place}>; rel="next"'
        return Response(200, {**JSON, **headers}, json.dumps(rows[start : start + size]).encode())


def _json(status: int, value: object) -> Response:
    return Response(status, dict(JSON), json.dumps(value).encode())
