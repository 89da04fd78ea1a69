"""A token service, and a gate of its tokens before a registry: the tokend of reference/reliability.md 2.1.

    with FaultProxy(real.url) as proxy:
        gate = TokenGate(proxy)
        proxy.fault("/token", status=503)

Tokens are issued under /token of the proxy's own port, so a fault rule strikes the token service as any
other request. `tokens` bounds their lives in seconds or uses and counts who asked; `saying` changes what
an answer says; `realms` sends clients elsewhere for the tokens of single repositories.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import Any

from api.samples.auth import BearerAuth, TokenRequest, TokenService
from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError
from tests.support.fault_proxy import FaultProxy

ACCOUNT = "robot"
_PLACE = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/")
_JSON = {"Content-Type": "application/json"}


class TokenGate:
    """Has a FaultProxy ask for tokens; made with it, it is in force at once."""

    def __init__(self, proxy: FaultProxy, *, url: str = "", **options: Any) -> None:
        """`url` is the proxy's as its clients know it; `options` are those of TokenService."""
        self.password = f"pass-{secrets.token_urlsafe(18)}"
        self.realm = f"{url or proxy.url}/token"
        self.realms: dict[str, str] = {}  # repository -> realm
        self.tokens = TokenService({ACCOUNT: self.password}, **options)
        proxy.gate = self

    @property
    def credentials(self) -> dict[str, str]:
        """What the API takes as a registry's credentials."""
        return {"username": ACCOUNT, "password": self.password}

    def asked(self, repository: str) -> list[TokenRequest]:
        """Return the requests for tokens whose scopes name a repository; those a fault answered are not here."""
        wanted = f"repository:{repository}:"
        return [
            one
            for one in list(self.tokens.requests)
            if any(scope.startswith(wanted) for scope in one.scopes)
        ]

    def __call__(self, request: Request) -> Response | None:
        """Answer a request for a token or one without a good one; None lets it through."""
        if request.path == "/token":
            return self.tokens.handle(request)
        found = _PLACE.match(request.path)
        repository = found[1] if found else ""
        action = "pull" if request.method in ("GET", "HEAD") else "push"
        if request.path.startswith("/v2/_catalog"):
            resource, action = "registry:catalog", "*"
        elif repository:
            resource = f"repository:{repository}"
            if request.method == "DELETE" and "/blobs/uploads/" not in request.path:
                action = "delete"
        else:
            resource, action = "", ""
        realm = self.realms.get(repository, self.realm)
        try:
            BearerAuth(self.tokens, realm).check(request, resource, action)
        except ApiError as error:
            return Response(error.status, {**_JSON, **error.headers}, error.body)
        return None


def scope_of(repository: str) -> str:
    """Return what a fault rule's path matches of a request for a repository's token."""
    return f"/token.*scope=repository%3A{re.escape(repository.replace('/', '%2F'))}%3A"


def saying(**changes: Any) -> Callable[[Request, Response], None]:
    """A rule's `after`: a token's answer says these fields instead; `...` leaves one out."""

    def change(_request: Request, response: Response) -> None:
        body = {**json.loads(bytes(response.body)), **changes}
        kept = {name: value for name, value in body.items() if value is not ...}
        response.body = json.dumps(kept).encode()

    return change
