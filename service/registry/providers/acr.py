"""Azure Container Registry: tags with digests, and one tag deleted, by /acr/v1 of the registry itself.

Its API takes the registry's own tokens, with the scopes metadata_read and delete (ACR REST API, 2021-07-01).
The machine's identity (`keyless: azure`) is exchanged for the registry's refresh token at the registry itself. Webhooks are in
acr_webhooks.py.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping

from service import errors
from service.model.endpoint import Credential
from service.model.reference import validate_repository, validate_tag
from service.registry.access import Access
from service.registry.http import Http
from service.registry.links import next_cursor
from service.registry.providers.acr_webhooks import NO_TENANT, AcrWebhooks, arm_scope
from service.registry.providers.azure_identity import machine_token
from service.registry.providers.control_plane import MAX_ANSWER_BYTES, ControlPlane
from service.registry.providers.strategies import Strategies

ROWS_A_PAGE = 100
LIVED = 0.8
"""A refresh token is renewed when so much of its life is over; Azure's live three hours."""
UNSAID_SECONDS = 3600.0
MINIMUM_SECONDS = 60.0


def open_acr(plane: ControlPlane) -> Strategies:
    """Return ACR's strategies."""
    tags = AcrTags(plane.http)
    if plane.keyless != "azure":
        return Strategies(tags_with_digests=tags, tag_deleter=tags, no_webhooks=NO_TENANT)
    manager = machine_token(plane.name, arm_scope(plane.hosts[0]))
    return Strategies(
        login=AcrLogin(plane.at_registry(), machine_token(plane.name)),
        tags_with_digests=tags,
        tag_deleter=tags,
        webhooks=AcrWebhooks(plane, manager),
    )


class AcrLogin:
    """The registry's refresh token for an access token of Entra's (ACR, "AAD-OAuth": /oauth2/exchange)."""

    def __init__(self, plane: ControlPlane, token: Callable[[], str]) -> None:
        """`plane` calls the registry; `token` tells an access token of Entra's for registries."""
        self._plane = plane
        self._token = token

    def login(self) -> Credential:
        """Return a refresh token, which the registry's token service takes, and when to get the next."""
        before = time.monotonic()
        form = {
            "grant_type": "access_token",
            "service": self._plane.http.origin.authority,
            "access_token": self._token(),
        }
        value = self._plane.call("POST", "/oauth2/exchange", form=form).value
        token = value.get("refresh_token") if isinstance(value, dict) else None
        if not isinstance(token, str) or not token:
            raise errors.ProtocolError(f"{self._plane.name}: no refresh_token in its answer")
        return Credential(identity_token=token, renew_at=before + LIVED * _life_seconds(token))


def _life_seconds(token: str) -> float:
    """Return how long a JWT is good, by its `exp`; an hour for one that does not say."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        life = float(claims["exp"]) - time.time()
    except (ValueError, LookupError, TypeError):
        return UNSAID_SECONDS
    return life if life > 0 else MINIMUM_SECONDS


class AcrTags:
    """Tags of ACR, with digests or one at a time."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def pages(self, repository: str) -> Iterator[Mapping[str, str]]:
        """Yield tag to digest, 100 a page."""
        access = Access("metadata", repository)
        target: str | None = f"/acr/v1/{validate_repository(repository)}/_tags?n={ROWS_A_PAGE}"
        seen: set[str] = set()
        while target is not None:
            if target in seen:
                raise errors.ProtocolError(f"{self._http.name}: a list of tags goes in a circle")
            seen.add(target)
            answer = self._http.request("GET", "api", target, access, limit=MAX_ANSWER_BYTES)
            if answer.status != 200:
                raise self._http.error(answer, "GET", target, "tags")
            yield self._digests(answer.body)
            target = next_cursor(self._http.origin, target, answer.headers.get("link"))

    def _digests(self, body: bytes) -> dict[str, str]:
        try:
            rows = json.loads(body).get("tags") or []
            return {row["name"]: row["digest"] for row in rows}
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
            raise errors.ProtocolError(f"{self._http.name}: a list of tags that is none") from None

    def delete(self, repository: str, tag: str) -> None:
        """Delete one tag; raises ManifestNotFound, and Rejected for one that is locked."""
        target = f"/acr/v1/{validate_repository(repository)}/_tags/{validate_tag(tag)}"
        answer = self._http.request("DELETE", "api", target, Access("delete", repository))
        if answer.status in (200, 202, 204):
            return
        error = self._http.error(answer, "DELETE", target, "manifest")
        if isinstance(error, errors.Unsupported):  # this tag's lock, not what the registry can do
            raise errors.Rejected(
                error.message, registry=error.registry, status=405, oci_code=error.oci_code
            )
        raise error
