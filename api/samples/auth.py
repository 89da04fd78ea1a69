"""Who may do what at the sample registry: Basic, or Bearer with a token service.

Follows the distribution project's token specification: challenge with realm, service and scope;
GET with Basic or nothing; POST with a refresh token or a password grant.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs

from api.samples.http_messages import Request, Response
from api.samples.manifests import ApiError

Scopes = dict[str, frozenset[str]]  # "repository:name" or "registry:catalog" -> actions


class Auth(Protocol):
    """What the registry asks before it does anything."""

    def check(self, request: Request, resource: str, action: str) -> None:
        """Raise ApiError 401 with a challenge unless the request may do this."""

    def allows(self, request: Request, resource: str, action: str) -> bool:
        """Whether the request may do this, besides what it is for (a mount's source)."""


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """User and password of a Basic Authorization header."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None


@dataclass(slots=True)
class BasicAuth:
    """One password file for everything."""

    users: Mapping[str, str]
    realm: str = "sample"

    def check(self, request: Request, resource: str, action: str) -> None:
        """See Auth."""
        if not self.allows(request, resource, action):
            challenge = {"WWW-Authenticate": f'Basic realm="{self.realm}"'}
            raise ApiError(401, "UNAUTHORIZED", headers=challenge)

    def allows(self, request: Request, resource: str, action: str) -> bool:  # noqa: ARG002
        """See Auth."""
        found = basic_credentials(request)
        return found is not None and self.users.get(found[0]) == found[1]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request for a token, as the service saw it."""

    method: str
    account: str  # empty: anonymous
    service: str
    scopes: tuple[str, ...]
    status: int


@dataclass(slots=True)
class _Token:
    scopes: Scopes
    expires: float
    uses: int | None


@dataclass(slots=True)
class TokenService:
    """Issues opaque tokens. Anonymous callers get `pull` where `anonymous_pull` is set.

    `ttl_seconds` and `uses` (requests until it expires) bound a token; `fields` are the names under
    which it is returned; `denied` holds (user, resource, action) that are left out silently. `requests` and `issued`
    tell what it was asked and gave.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    identity_tokens: Mapping[str, str] = field(default_factory=dict)  # refresh token -> user
    service: str = "sample-registry"
    anonymous_pull: bool = False
    ttl_seconds: int = 300
    uses: int | None = None
    fields: tuple[str, ...] = ("token", "access_token")
    denied: set[tuple[str, str, str]] = field(default_factory=set)
    allow_post: bool = True
    requests: list[TokenRequest] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, request: Request) -> Response:
        """Answer one request of the realm; to be used as an HttpServer's handler."""
        if request.method == "POST" and self.allow_post:
            form = parse_qs(request.body.read(64 << 10).decode())
            scopes = tuple(" ".join(form.get("scope", [])).split())
            user = self._posted_user(form)
        elif request.method == "GET":
            form = parse_qs(request.query_text)
            scopes = tuple(part for text in form.get("scope", []) for part in text.split())
            user = self._basic_user(request)
        else:
            return Response(405)
        service = form.get("service", [""])[0]
        status = 401 if user is None else 400 if service != self.service else 200
        with self._lock:
            self.requests.append(TokenRequest(request.method, user or "", service, scopes, status))
        if user is None:
            return Response(401, {"WWW-Authenticate": 'Basic realm="token"'})
        if status != 200:
            return Response(status, {"Content-Type": "text/plain"}, b"unknown service\n")
        body: dict[str, object] = dict.fromkeys(self.fields, self._issue(user, scopes))
        body["expires_in"] = self.ttl_seconds
        body["issued_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return Response(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def revoke_all(self) -> None:
        """Let every token expire now."""
        with self._lock:
            self._tokens.clear()

    def grants(self, token: str, resource: str, action: str, *, use: bool = True) -> bool:
        """Whether a token allows the action; counts a use."""
        with self._lock:
            found = self._tokens.get(token)
            if found is None or time.monotonic() >= found.expires or found.uses == 0:
                return False
            if found.uses is not None and use:
                found.uses -= 1
            return not action or action in found.scopes.get(resource, frozenset())

    def _posted_user(self, form: dict[str, list[str]]) -> str | None:
        grant = form.get("grant_type", [""])[0]
        if grant == "refresh_token":
            return self.identity_tokens.get(form.get("refresh_token", [""])[0])
        user = form.get("username", [""])[0]
        if grant == "password" and self.users.get(user) == form.get("password", [""])[0]:
            return user
        return None

    def _basic_user(self, request: Request) -> str | None:
        found = basic_credentials(request)
        if found is None:
            return "" if "authorization" not in request.headers else None
        return found[0] if self.users.get(found[0]) == found[1] else None

    def _issue(self, user: str, asked: tuple[str, ...]) -> str:
        granted: Scopes = {}
        for scope in asked:
            resource, colon, actions = scope.rpartition(":")
            wanted = set(actions.split(",")) if colon else set()
            if not user:
                wanted &= {"pull"} if self.anonymous_pull else set()
            wanted = {action for action in wanted if (user, resource, action) not in self.denied}
            granted[resource] = granted.get(resource, frozenset()) | wanted
        token = secrets.token_urlsafe(24)
        with self._lock:
            self.issued.append(token)
            expires = time.monotonic() + self.ttl_seconds
            self._tokens[token] = _Token(granted, expires, self.uses)
        return token


@dataclass(slots=True)
class BearerAuth:
    """Tokens of a TokenService; `realm` is its address (the registry's own /token when empty)."""

    tokens: TokenService
    realm: str = ""

    def check(self, request: Request, resource: str, action: str) -> None:
        """See Auth."""
        token = _bearer(request)
        if token is not None and self.tokens.grants(token, resource, action):
            return
        challenge = f'Bearer realm="{self.realm}",service="{self.tokens.service}"'
        if resource:
            challenge += f',scope="{resource}:{_asked(action)}"'
        if token is not None:
            known = self.tokens.grants(token, "", "", use=False)
            challenge += f',error="{"insufficient_scope" if known else "invalid_token"}"'
        raise ApiError(401, "UNAUTHORIZED", headers={"WWW-Authenticate": challenge})

    def allows(self, request: Request, resource: str, action: str) -> bool:
        """See Auth."""
        token = _bearer(request)
        return token is not None and self.tokens.grants(token, resource, action, use=False)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def _asked(action: str) -> str:
    return "pull,push" if action == "push" else action
