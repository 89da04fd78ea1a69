"""A contract fake of Azure Container Registry: its tokens and /acr/v1 over the sample registry.

Sources: [oauth2] github.com/Azure/acr, docs/AAD-OAuth.md (GET and POST /oauth2/token; only access_token is
answered; POST /oauth2/exchange); [rest] ACR REST API 2021-07-01, as azure-containerregistry speaks it, which judges this fake
in test_acr.py; [lock] learn.microsoft.com/azure/container-registry/container-registry-image-lock.
"""

from __future__ import annotations

import base64
import json
import re
import time
from urllib.parse import parse_qs

from api.samples.auth import BearerAuth, TokenService
from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError
from api.samples.profiles import Profile
from api.samples.registry import SampleRegistry
from tests.contract.leaks import Secret

JSON = {"Content-Type": "application/json; charset=utf-8"}
ACR = Profile(name="acr", deletes_tags=False)


class FakeAcr(SampleRegistry):
    """ACR; `locked` tags may not be deleted, `public` gives anybody every scope but push."""

    def __init__(
        self,
        user: str,
        password: str,
        *,
        ttl_seconds: int = 5,
        page: int = 100,
        public: bool = False,
    ) -> None:
        self.tokens = TokenService(
            {user: password}, ttl_seconds=ttl_seconds, fields=("access_token",)
        )
        super().__init__(profile=ACR, auth=BearerAuth(self.tokens))
        self.tokens.service = self.host
        self.auth = BearerAuth(self.tokens, f"{self.url}/oauth2/token")
        self.api.auth = self.auth
        self.locked: set[str] = set()
        self._page = page
        self._public = public
        self.entra: dict[str, str] = {}  # access tokens of Entra's, and who bears them
        self.refresh_seconds = 3 * 3600.0
        self.exchanged: list[str] = []

    def _handle(self, request: Request) -> Response:
        if request.path == "/oauth2/token":  # [oauth2]
            if self._public and request.method == "POST":
                request.body.read(1 << 16)
                token = self.tokens._issue("crew", ("repository:crew/app:metadata_read,delete",))
                return Response(200, dict(JSON), json.dumps({"access_token": token}).encode())
            return self.tokens.handle(request)
        if request.path == "/oauth2/exchange":
            return self._exchange(request)
        found = re.fullmatch(r"/acr/v1/(.+)/_tags(?:/([^/]+))?", request.path)
        if found is None:
            return super()._handle(request)
        try:
            return self._tags(request, found[1], found[2])
        except ApiError as error:
            return Response(error.status, {**JSON, **error.headers}, error.body)

    def secrets(self) -> list[Secret]:
        """Entra's tokens and refresh tokens are for the registry."""
        own = frozenset({self.host})
        return [Secret(one, own) for one in (*self.entra, *self.exchanged)]

    def _exchange(self, request: Request) -> Response:
        """[oauth2] An access token of Entra's for a refresh token, a JWT whose `exp` is its end."""
        form = parse_qs(request.body.read(1 << 16).decode())
        user = self.entra.get(form.get("access_token", [""])[0])
        right = form.get("grant_type") == ["access_token"] and form.get("service") == [self.host]
        if user is None or not right:
            error = ApiError(401, "UNAUTHORIZED", "authentication required")
            return Response(401, dict(JSON), error.body)
        claims = {"exp": int(time.time() + self.refresh_seconds), "n": len(self.exchanged)}
        parts = [{"alg": "RS256", "typ": "JWT"}, claims]
        packed = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in parts]
        token = b".".join([*packed, b"c2lnbmF0dXJl"]).decode()
        self.exchanged.append(token)
        self.tokens.identity_tokens = {token: user}  # the one before has ended
        return Response(200, dict(JSON), json.dumps({"refresh_token": token}).encode())

    def _tags(self, request: Request, name: str, tag: str | None) -> Response:
        """[rest] Tag_GetList, Tag_Delete."""
        action = "delete" if request.method == "DELETE" else "metadata_read"
        self.auth.check(request, f"repository:{name}", action)
        tags = self.storage.tags(name)
        if tags is None:
            raise ApiError(404, "NAME_UNKNOWN", "repository name not known to registry")
        if tag is None:
            return self._listed(request, name, tags)
        if request.method != "DELETE":
            raise ApiError(405, "UNSUPPORTED")
        if tag in self.locked:  # [lock]
            raise ApiError(405, "UNSUPPORTED", "The operation is disallowed.")
        if not self.storage.delete_tag(name, tag):
            raise ApiError(404, "TAG_UNKNOWN", "the specified tag does not exist")
        return Response(202)

    def _listed(self, request: Request, name: str, tags: dict[str, str]) -> Response:
        query = request.query()
        left = [tag for tag in sorted(tags) if tag > query.get("last", "")]
        page = left[: min(int(query.get("n") or 100), self._page)]
        allowed = dict.fromkeys(
            ("deleteEnabled", "writeEnabled", "readEnabled", "listEnabled"), True
        )
        rows = [
            {
                "name": tag,
                "digest": tags[tag],
                "createdTime": "2026-11-01T12:00:00.0000000Z",
                "lastUpdateTime": "2026-11-01T12:00:00.0000000Z",
                "signed": False,
                "changeableAttributes": allowed,
            }
            for tag in page
        ]
        headers = dict(JSON)
        if len(page) < len(left):
            headers["Link"] = f'</acr/v1/{name}/_tags?last={page[-1]}&n={len(page)}>; rel="next"'
        body = {"registry": self.host, "imageName": name, "tags": rows}
        return Response(200, headers, json.dumps(body).encode())
