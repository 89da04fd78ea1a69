"""A contract fake of Docker Hub: its registry, its token service and hub.docker.com.

Sources: [api] Docker Hub API reference (docs.docker.com/reference/api/hub/latest: authentication,
repositories, tags); [limits] docs.docker.com/docker-hub/usage/pulls (headers of manifest answers; [pulls] 429 with TOOMANYREQUESTS, HEADs are free);
[catalog] the registry has none; [referrers] nor a referrers API (fallback tags).
"""

from __future__ import annotations

import json
import re
import time
from typing import Self

from api.samples.auth import BearerAuth, TokenService
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from tests.contract.leaks import Secret

JSON = {"Content-Type": "application/json"}
HUB = Profile(name="dockerhub", referrers_api=False, single_post=False, deletes_tags=False)


class FakeHub(SampleRegistry):
    """Docker Hub; `namespaces` are the user's, `without_digest` tags of which no digest is told."""

    def __init__(self, user: str, password: str, *, ttl_seconds: int = 5, page: int = 100) -> None:
        self.user, self.password = user, password
        self.tokens = TokenService(
            {user: password}, service="registry.docker.io", ttl_seconds=ttl_seconds
        )
        super().__init__(profile=HUB, auth=BearerAuth(self.tokens))
        self.hub = HttpServer(self._handle_hub)
        self.namespaces = [user]
        self.without_digest: set[str] = set()
        self.issued: dict[str, float] = {}
        self._count = 0
        self.pulls: dict[str, int] = {}  # what is left of accounts' quotas, of those that have one
        self._page = page
        self._ttl_seconds = ttl_seconds

    def start(self) -> Self:
        self.hub.start()
        return super().start()

    def close(self) -> None:
        super().close()
        self.hub.close()

    def secrets(self) -> list[Secret]:
        """The password is for both; the API's tokens are for the API."""
        both = frozenset({self.host, self.hub.authority})
        tokens = [Secret(one, frozenset({self.hub.authority})) for one in self.issued]
        return [Secret(self.password, both, (self.user,)), *tokens]

    def _handle(self, request: Request) -> Response:
        if request.path == "/v2/_catalog":  # [catalog]
            return Response(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
        if "/manifests/" not in request.path or request.method not in ("GET", "HEAD"):
            return super()._handle(request)
        user = self._bearer(request) if self.pulls else ""
        left = self.pulls.get(user, 98)
        if left == 0 and request.method == "GET":  # [pulls]
            words = "You have reached your pull rate limit."
            error = ApiError(429, "TOOMANYREQUESTS", words)
            answer = Response(429, {"Content-Type": "application/json"}, error.body)
        else:
            answer = super()._handle(request)
            if user in self.pulls and request.method == "GET" and answer.status == 200:
                left = self.pulls[user] = left - 1
        answer.headers |= {
            "ratelimit-limit": "100;w=21600",
            "ratelimit-remaining": f"{left};w=21600",
        }
        return answer

    def _bearer(self, request: Request) -> str:
        """Whose token a request bears."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = [one.account for one in self.tokens.requests if one.status == 200]
        return dict(zip(self.tokens.issued, given, strict=False)).get(token, "")

    def _handle_hub(self, request: Request) -> Response:
        if (request.method, request.path) == ("POST", "/v2/auth/token"):
            given = json.loads(request.body.read(1 << 16))
            if given != {"identifier": self.user, "secret": self.password}:
                return _json(401, {"detail": "Incorrect authentication credentials"})
            self._count += 1
            self.issued[f"hub-{self._count}"] = time.monotonic() + self._ttl_seconds
            return _json(200, {"access_token": f"hub-{self._count}"})
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if time.monotonic() >= self.issued.get(token, 0.0):
            return _json(401, {"detail": "Authentication credentials were not provided."})
        if request.path == "/v2/repositories/namespaces/":
            return _json(200, {"namespaces": self.namespaces})
        if found := re.fullmatch(r"/v2/repositories/([^/]+)/", request.path):
            space = found[1]
            names = [
                n.partition("/")[2]
                for n in self.storage.repositories()
                if n.startswith(f"{space}/")
            ]
            return self._listed(request, [{"name": n, "namespace": space} for n in names])
        if found := re.fullmatch(
            r"/v2/repositories/([^/]+/[^/]+)/tags/(?:([^/]+)/)?", request.path
        ):
            return self._tags(request, found[1], found[2])
        return _json(404, {"message": "object not found"})

    def _tags(self, request: Request, name: str, tag: str | None) -> Response:
        tags = self.storage.tags(name)
        if tags is None:
            return _json(404, {"message": "object not found"})
        if tag is None:
            rows = [
                {"name": t, "full_size": 1} | ({} if t in self.without_digest else {"digest": d})
                for t, d in sorted(tags.items())
            ]
            return self._listed(request, rows)
        if request.method != "DELETE" or not self.storage.delete_tag(name, tag):
            return _json(404, {"message": "tag not found"})
        return Response(204)

    def _listed(self, request: Request, rows: list[dict[str, object]]) -> Response:
        query = request.query()
        size = min(int(query["page_size"]), self._page)
        number = int(query["page"])
        start = (number - 1) * size
        following = f"{self.hub.url}{request.path}?page={number + 1}&page_size={size}"
        more = start + size < len(rows)
        page = rows[start : start + size]
        return _json(
            200, {"count": len(rows), "next": following if more else None, "results": page}
        )


def _json(status: int, value: object) -> Response:
    return Response(status, dict(JSON), json.dumps(value).encode())
