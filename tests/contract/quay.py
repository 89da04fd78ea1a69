"""A contract fake of Quay: /v2/auth and /api/v1 over the sample registry.

Sources: [auth] quay endpoints/v2/v2auth.py: realm /v2/auth, `$oauthtoken` takes an OAuth token as password; [api] the Red Hat
Quay API guide, endpoints/api/{user,repository,tag}.py: next_page, has_additional, onlyActiveTags; [catalog] endpoints/v2/catalog.py.
Strict: what is not in them is 404.
"""

from __future__ import annotations

import json
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
        self.past: list[dict[str, Any]] = []
        self._page = page

    def _handle(self, request: Request) -> Response:
        if request.path == "/v2/auth":
            return self.tokens.handle(request)
        if not request.path.startswith("/api/"):
            return super()._handle(request)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _json(401, {"error_type": "invalid_token", "message": "Invalid bearer token"})
        path = request.path.removeprefix("/api/v1")
        if path == "/user/":
            organizations = [{"name": name} for name in self.organizations]
            return _json(200, {"username": "me", "organizations": organizations})
        if path == "/repository":
            return self._repositories(request.query())
        if path.startswith("/repository/") and path.endswith("/tag/"):
            return self._tags(
                path.removeprefix("/repository/").removesuffix("/tag/"), request.query()
            )
        return _json(404, {"error_type": "not_found"})

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
