"""Referrers: what is attached to a manifest, where the registry keeps the list itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.errors import InvalidManifest, ProtocolError
from service.model import strict_json
from service.model.descriptor import Descriptor, parse_descriptor
from service.model.digest import Digest
from service.model.manifest import MAX_MANIFEST_BYTES
from service.model.media_types import OCI_INDEX, normalise
from service.model.reference import validate_repository
from service.registry.access import Access
from service.registry.http import REDIRECTS, Answer, Http
from service.registry.links import next_cursor
from service.registry.packed import unpacked

MAX_PAGES = 100
_ACCEPT_LINE = f"Accept: {OCI_INDEX}\r\n"


class Referrers:
    """The referrers call of one registry; remembers that the registry does not have it."""

    def __init__(self, http: Http, never: Callable[[], bool] = lambda: False) -> None:
        """`never`: whether the registry is known to have no referrers API."""
        self._http = http
        self._never = never
        self._unsupported = False

    def of(self, repository: str, digest: Digest) -> tuple[Descriptor, ...] | None:
        """Return what is attached to the digest; None where the registry has no referrers API.

        Source: distribution-spec, "Listing Referrers" (end-12). A 404, an answer that is no index,
        and a redirect to another host (GHCR) all mean that there is no API.
        """
        if self._unsupported or self._never():
            return None
        validate_repository(repository)
        target: str | None = f"/v2/{repository}/referrers/{digest}"
        found: dict[Digest, Descriptor] = {}
        seen: set[str] = set()
        while target is not None:
            if target in seen or len(seen) >= MAX_PAGES:
                raise ProtocolError(f"{self._http.name}: the list of referrers goes in a circle")
            seen.add(target)
            answer = self._ask(target, repository)
            if answer is None:
                return None
            for item in self._entries(answer):
                found.setdefault(item.digest, item)
            target = next_cursor(self._http.origin, target, answer.headers.get("link"))
        return tuple(found.values())

    def _ask(self, target: str, repository: str) -> Answer | None:
        answer = self._http.request(
            "GET",
            "referrers",
            target,
            Access("pull", repository),
            headers=_ACCEPT_LINE,
            limit=MAX_MANIFEST_BYTES,
            follow=False,
        )
        status = answer.status
        if status == 200:
            if normalise(answer.headers.get("content-type", "")) == OCI_INDEX:
                return answer
            self._unsupported = True
            return None
        if status in REDIRECTS or status in (404, 405, 501):
            error = self._http.error(answer, "GET", target, "referrers")
            # A registry that has the API may still not know the repository.
            self._unsupported = error.oci_code != "NAME_UNKNOWN"
            return None
        if status == 400:  # Quay, for a subject it does not know
            return None
        raise self._http.error(answer, "GET", target, "referrers")

    def _entries(self, answer: Answer) -> list[Descriptor]:
        try:
            value: Any = strict_json.loads(unpacked(answer, self._http.name, MAX_MANIFEST_BYTES))
            items = value.get("manifests") if isinstance(value, dict) else None
            return [parse_descriptor(item, f"manifests[{n}]") for n, item in enumerate(items or [])]
        except InvalidManifest as error:
            raise ProtocolError(f"{self._http.name}: referrers: {error.message}") from None
