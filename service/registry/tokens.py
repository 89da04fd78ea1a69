"""Asking a token service for a token (distribution's token and OAuth2 specifications)."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx

from service.errors import NetworkError, NotFound, ProtocolError, RegistryError
from service.model.endpoint import Credential
from service.registry.origin import with_query
from service.registry.pool import Pool
from service.registry.transport import Transport
from service.registry.wire_errors import error_from

CLIENT_ID = "transship"
MAX_TOKEN_BODY = 64 * 1024
MINIMUM_LIFE_SECONDS = 60  # the token specification's default, and its least
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


class Token(NamedTuple):
    """A bearer token and the monotonic second from which it is to be renewed."""

    value: str
    renew_at: float


def basic_value(credential: Credential) -> str:
    """Return the Authorization value for Basic (RFC 7617, UTF-8)."""
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


class TokenService:
    """One registry's token service, spoken to through httpx on our transport; no redirects."""

    def __init__(
        self, pool: Pool, registry: str, user_agent: str, counted: Callable[[str, int], None]
    ) -> None:
        self._registry = registry
        self._counted = counted
        self._client = httpx.Client(
            transport=Transport(pool),
            trust_env=False,
            follow_redirects=False,
            headers={"User-Agent": user_agent, "Accept": "application/json"},
        )

    def fetch(
        self, realm: str, service: str, scopes: tuple[str, ...], credential: Credential
    ) -> Token:
        """Ask for one token; raises AuthenticationFailed, Denied, NetworkError, ProtocolError."""
        if credential.identity_token:
            response = self._post(realm, service, scopes, credential)
            if response is not None:
                return self._read(*response)
        answer = self._get(realm, service, scopes, credential)
        return self._read(*answer, anonymous=credential.anonymous)

    def _get(
        self, realm: str, service: str, scopes: tuple[str, ...], credential: Credential
    ) -> tuple[int, httpx.Headers, bytes]:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        query.append(("client_id", CLIENT_ID))
        headers = {}
        if not credential.anonymous:
            if credential.username:
                query.append(("account", credential.username))
            password = credential.password or credential.identity_token
            name = credential.username or "<token>"
            headers["Authorization"] = basic_value(Credential(name, password))
        return self._send("GET", with_query(realm, urlencode(query)), headers=headers)

    def _post(
        self, realm: str, service: str, scopes: tuple[str, ...], credential: Credential
    ) -> tuple[int, httpx.Headers, bytes] | None:
        """Present an identity token as OAuth2 does; None where the service knows no POST."""
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": CLIENT_ID,
            "scope": " ".join(scopes),
            "refresh_token": credential.identity_token,
        }
        response = self._send("POST", realm, data=form)
        return None if response[0] in (404, 405) else response

    def _send(self, method: str, url: str, **parts: Any) -> tuple[int, httpx.Headers, bytes]:
        try:
            with self._client.stream(method, url, **parts) as response:
                self._counted(method, response.status_code)
                body = bytearray()
                for piece in response.iter_raw():
                    body += piece
                    if len(body) > MAX_TOKEN_BODY:
                        raise ProtocolError(
                            f"{self._registry}: the token service answers over 64 KiB"
                        )
                return response.status_code, response.headers, bytes(body)
        except httpx.HTTPError as error:
            if isinstance(error.__cause__, RegistryError):
                raise error.__cause__ from None
            raise NetworkError(f"{self._registry}: the token service: {error}") from None

    def _read(
        self, status: int, headers: httpx.Headers, body: bytes, *, anonymous: bool = False
    ) -> Token:
        received = time.monotonic()
        if status != 200:
            error = error_from(
                status,
                headers,
                body,
                registry=self._registry,
                action="asking for a token",
                anonymous=anonymous,
            )
            if isinstance(error, NotFound):  # the service is not there: that says nothing of images
                raise ProtocolError(error.message, registry=self._registry, status=status)
            raise error
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise ProtocolError(f"{self._registry}: the token service's answer is no JSON object")
        value = answer.get("access_token") or answer.get("token")
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise ProtocolError(f"{self._registry}: the token service's answer holds no token")
        life = _life_seconds(answer)
        return Token(value, received + life - max(5.0, life * 0.1))


def _life_seconds(answer: dict[str, Any]) -> float:
    """Return how long the token is good, from now; a clock that differs from ours is not believed."""
    life = answer.get("expires_in")
    if isinstance(life, bool) or not isinstance(life, int | float) or not life > 0:
        life = MINIMUM_LIFE_SECONDS
    life = min(max(float(life), MINIMUM_LIFE_SECONDS), 86400.0)
    try:
        issued = datetime.fromisoformat(str(answer.get("issued_at"))).timestamp()
    except (ValueError, OverflowError):
        return life
    age = time.time() - issued
    return life - age if 0 < age < life - 10 else life
