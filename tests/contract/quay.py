"""A contract fake of Quay: /v2/auth and /api/v1 over the sample registry.

Sources: [auth] quay endpoints/v2/v2auth.py: realm /v2/auth, `$oauthtoken` takes an OAuth token as password; [api] the Red Hat
Quay API guide, endpoints/api/{user,repository,tag}.py: next_page, has_additional, onlyActiveTags; [catalog] endpoints/v2/catalog.py; [organizations]
endpoints/api/organization.py (createOrganization needs user:admin; a name that is there is 400).
Strict: what is not in them is 404.
"""

from __future__ import annotations

import json
import re
import threading
from typing import Any

from api.samples.auth import BearerAuth, TokenService
from api.samples.http_messages import Request, Response
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry

JSON = {"Content-Type": "application/json"}
QUAY = Profile(name="quay")


class FakeQuay(SampleRegistry):
    """Quay on one port; `robots` are users of the registry that the API does not know."""

    def __init__(self, token: str, robots: dict[str, str] | None = None, *, page: int = 2) -> None:
        self.token = token
        users = {"$oauthtoken": token, **(robots or {})}
        self.tokens = TokenService(users, service="quay", ttl_seconds=5)
        auth = BearerAuth(self.tokens)
        super().__init__(profile=QUAY, auth=auth)
        auth.realm = f"{self.url}/v2/auth"
        self.organizations: list[str] = []
        self.taken: set[str] = set()  # namespaces of others
        self.may_make = True
        self.hooks: dict[str, tuple[str, dict[str, Any]]] = {}
        self._making = threading.Lock()
        self.past: list[dict[str, Any]] = []
        self._page = page

    def _handle(self, request: Request) -> Response:
        if request.path == "/v2/auth":
            return self.tokens.handle(request)
        if not request.path.startswith("/api/"):
            return self._registry(request)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _json(401, {"error_type": "invalid_token", "message": "Invalid bearer token"})
        path = request.path.removeprefix("/api/v1")
        if path == "/user/":
            organizations = [{"name": name} for name in self.organizations]
            return _json(200, {"username": "me", "organizations": organizations})
        if path == "/organization/" and request.method == "POST":
            return self._make(json.loads(request.body.read(1 << 16))["name"])
        if found := re.fullmatch(r"/repository/(.+)/notification/([^/]*)", path):
            return self._notifications(request, found[1], found[2])
        kind, _, name = path.removeprefix("/").partition("/")
        if kind in ("organization", "users") and request.method == "GET":
            there = [*self.organizations, *self.taken] if kind == "organization" else ["me"]
            if name in there:
                return _json(200, {"name": name})
            return _json(404, {"error_type": "not_found", "status": 404})
        if path == "/repository":
            return self._repositories(request.query())
        if path.startswith("/repository/") and path.endswith("/tag/"):
            return self._tags(
                path.removeprefix("/repository/").removesuffix("/tag/"), request.query()
            )
        return _json(404, {"error_type": "not_found"})

    def _registry(self, request: Request) -> Response:
        """[auth] A namespace that is not there gives no scope, so 401 by the registry."""
        found = re.match(r"/v2/([^/]+)/.+/(?:blobs|manifests|tags)/", request.path)
        answer = super()._handle(request)
        if found and answer.status < 300 and found[1] not in ("me", *self.organizations):
            headers = {"WWW-Authenticate": f'Bearer realm="{self.url}/v2/auth",service="quay"'}
            return Response(401, {**JSON, **headers}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        return answer

    def _notifications(self, request: Request, repository: str, identity: str) -> Response:
        """[api] repositorynotification: listed, made and deleted, never changed."""
        if repository not in self.storage.repositories():
            return _json(404, {"error_type": "not_found"})
        mine = {uuid: body for uuid, (where, body) in self.hooks.items() if where == repository}
        if request.method == "GET" and not identity:
            return _json(200, {"notifications": [{**b, "uuid": u} for u, b in mine.items()]})
        if request.method == "POST" and not identity:
            body = json.loads(request.body.read(1 << 16))
            if not {"event", "method", "config", "eventConfig"} <= set(body):
                return _json(400, {"error_message": "a member is missing"})
            with self._making:
                uuid = f"uuid-{len(self.hooks)}-{len(body['config']['url'])}"
                self.hooks[uuid] = (repository, body)
            return _json(201, {**body, "uuid": uuid})
        if request.method != "DELETE" or self.hooks.pop(identity, None) is None:
            return _json(400, {"error_message": "No repository notification found"})
        return Response(204)

    def _make(self, name: str) -> Response:
        """[organizations]"""
        if not self.may_make:
            return _json(403, {"error_type": "insufficient_scope", "message": "Unauthorized"})
        with self._making:
            if name == "me" or name in self.taken or name in self.organizations:
                words = "A user or organization with this name already exists"
                return _json(400, {"error_type": "invalid_request", "error_message": words})
            self.organizations.append(name)
        return _json(201, "Created")

    def _repositories(self, query: dict[str, str]) -> Response:
        """[api] listRepos: one of namespace, starred or public is needed."""
        if "namespace" not in query:
            return _json(400, {"error_message": "namespace, starred or public must be set"})
        start = f"{query['namespace']}/"
        names = [name for name in self.storage.repositories() if name.startswith(start)]
        first = int(query.get("next_page", "0").removeprefix("token-"))
        rows = [
            {
                "namespace": query["namespace"],
                "name": name.removeprefix(start),
                "kind": "image",
                "is_public": False,
            }
            for name in names[first : first + self._page]
        ]
        answer: dict[str, Any] = {"repositories": rows}
        if first + self._page < len(names):
            answer["next_page"] = f"token-{first + self._page}"
        return _json(200, answer)

    def _tags(self, repository: str, query: dict[str, str]) -> Response:
        """[api] listRepoTags."""
        rows = [
            {"name": tag, "manifest_digest": digest, "reversion": False}
            for tag, digest in sorted((self.storage.tags(repository) or {}).items())
        ]
        if query.get("onlyActiveTags") != "true":
            rows += self.past
        number, size = int(query.get("page", "1")), min(int(query["limit"]), self._page)
        page = rows[(number - 1) * size : number * size]
        return _json(
            200, {"tags": page, "page": number, "has_additional": number * size < len(rows)}
        )


def _json(status: int, value: object) -> Response:
    return Response(status, dict(JSON), json.dumps(value).encode())
