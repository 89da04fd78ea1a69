"""Who may read what at a gateway: Basic and Bearer by pull tokens, and a token endpoint (distribution-spec's).

Decided by names alone, before anything is asked for: an answer says nothing of what is there.
"""

from __future__ import annotations

import base64
import binascii
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from api.gateway.messages import Answer, Request
from service.errors import InvalidReference
from service.model.gateway import GatewayConfig
from service.model.pull_token import ACCESS, LOGIN, PullGrant, PullKeys
from service.model.reference import validate_repository
from service.telemetry import get_logger

log = get_logger("gateway")

ACCESS_SECONDS = 300
MOST_SCOPES = 32
POLL_SECONDS = 5.0
REALM_PATH = "/token"


class Login:
    """Judges requests; what was revoked is asked for now and then, as far as SQL answers."""

    def __init__(
        self,
        config: GatewayConfig,
        keys: PullKeys | None,
        revoked: Callable[[], Iterable[str]],
        remembered: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """`revoked` returns ids; where it raises, the last ones count. `remembered` are those of before."""
        self._config = config
        self._keys = keys
        self._read_revoked = revoked
        self._revoked = frozenset(remembered)
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="revoked", daemon=True)

    def start(self) -> None:
        """Ask now, and from then on."""
        self._revoked = frozenset(self._read_revoked())
        self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._stop.set()

    def refusal(self, request: Request, name: str) -> Answer | None:
        """Return why a name may not be read by this request; None when it may."""
        if self._config.is_anonymous(name):
            return None
        grant = self._grant(request)
        if grant is not None and grant.may_pull(name):
            return None
        text = "authentication required" if grant is None else "the pull token is not for this name"
        scope = f'scope="repository:{name}:pull"'
        error = "" if grant is None else ',error="insufficient_scope"'
        return self._challenge(request, f",{scope}{error}", text)

    def ping(self, request: Request) -> Answer:
        """Answer GET /v2/: 401 tells clients where tokens are had."""
        if self._grant(request) is not None or self._may_all_anonymous():
            return Answer.of_json(200, {})
        return self._challenge(request, "", "authentication required")

    def token(self, request: Request) -> Answer:
        """Give out a token for the names that are asked for and granted; for none of them, one for nothing.

        Source: distribution's token specification: what is not granted is left out.
        """
        now = self._clock()
        shown = request.headers.get("authorization", "")
        grant = self._basic(shown) if shown else None
        if self._keys is None or (shown and grant is None):
            return self._unauthorized("the pull token is none, is revoked or has expired")
        names = [name for name in _scopes(request) if self._allows(grant, name)]
        until = now + ACCESS_SECONDS
        if grant is not None and grant.expires_at is not None:
            until = min(until, grant.expires_at)
        given = PullGrant(grant.id if grant else "", "", tuple(names), until)
        text = self._keys.sign(given, ACCESS)
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return Answer.of_json(
            200,
            {
                "token": text,
                "access_token": text,
                "expires_in": max(1, int(until - now)),
                "issued_at": issued,
            },
            **{"Cache-Control": "no-store"},
        )

    def _allows(self, grant: PullGrant | None, name: str) -> bool:
        return self._config.is_anonymous(name) or (grant is not None and grant.may_pull(name))

    def _grant(self, request: Request) -> PullGrant | None:
        header = request.headers.get("authorization", "")
        scheme, _, shown = header.partition(" ")
        if scheme.lower() == "basic":
            return self._basic(header)
        if scheme.lower() != "bearer" or self._keys is None:
            return None
        shown = shown.strip()
        return self._alive(self._keys.read(shown, ACCESS) or self._keys.read(shown, LOGIN))

    def _basic(self, header: str) -> PullGrant | None:
        scheme, _, shown = header.partition(" ")
        if scheme.lower() != "basic" or self._keys is None:
            return None
        try:
            text = base64.b64decode(shown.strip(), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            return None
        return self._alive(self._keys.read(text.partition(":")[2], LOGIN))

    def _alive(self, grant: PullGrant | None) -> PullGrant | None:
        if grant is None or grant.is_over(self._clock()) or grant.id in self._revoked:
            return None
        return grant

    def _may_all_anonymous(self) -> bool:
        return "**" in self._config.anonymous

    def _challenge(self, request: Request, more: str, text: str) -> Answer:
        scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else "http"
        base = self._config.url or f"{scheme}://{request.host}"
        service = base.partition("://")[2]
        challenge = f'Bearer realm="{base}{REALM_PATH}",service="{service}"{more}'
        answer = Answer.refusal(401, "UNAUTHORIZED", text)
        return replace(answer, headers={**answer.headers, "WWW-Authenticate": challenge})

    @staticmethod
    def _unauthorized(text: str) -> Answer:
        answer = Answer.refusal(401, "UNAUTHORIZED", text)
        answer.headers["WWW-Authenticate"] = 'Basic realm="transship"'
        return answer

    def _poll(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self._revoked = frozenset(self._read_revoked())
            except (
                Exception
            ):  # a thread that ended would take revoked tokens for good ones for ever
                log.exception("revoked_not_read")


def _scopes(request: Request) -> list[str]:
    """Return the repositories that a token is asked for, to pull; other scopes are left out.

    Names only: what is given out is read as patterns, and `team/**` is, as a text, one of `team/*`.
    """
    names = []
    for scope in request.query.get("scope", "").split()[:MOST_SCOPES]:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository" and "pull" in actions.split(","):
            with suppress(InvalidReference):
                names.append(validate_repository(name))
    return names
