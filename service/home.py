"""The API at home, as a far region's agent asks it (docs/adr/0017)."""

from __future__ import annotations

import logging
from typing import Any

import httpx

from service.errors import InvalidConfiguration, InvalidInput, NetworkError, Rejected, ServerError
from service.settings import Settings

ANSWER_SECONDS = 15.0
REFUSED_FOR_GOOD = (400, 413, 422)


def check_address(url: str) -> None:
    """Raise InvalidConfiguration for an address that would carry token and secrets in the clear."""
    parsed = httpx.URL(url)
    local = parsed.host in {"127.0.0.1", "::1", "localhost"}
    if parsed.scheme != "https" and not (parsed.scheme == "http" and local):
        raise InvalidConfiguration(
            f"TRANSSHIP_URL={url!r} is not https://, and not on this machine",
            field="TRANSSHIP_URL",
            hint="token and secrets would cross the network in the clear",
        )


class HttpHome:
    """The API at home over HTTPS."""

    def __init__(self, settings: Settings) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request otherwise
        self._path = f"/api/v1/regions/{settings.region}"
        self._http = httpx.Client(
            base_url=settings.url.rstrip("/"),
            headers={"Authorization": f"Bearer {settings.token}", "User-Agent": "transship/0.1"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=5),
            trust_env=False,
        )

    def lease(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Renew the lease, and return the next page of copies."""
        return self._ask("lease", wish)

    def record(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Give account; returns the last number that home has, and what has changed there."""
        return self._ask("outcomes", batch)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = self._http.post(f"{self._path}/{what}", json=body)
        except httpx.HTTPError as error:
            raise NetworkError(f"home does not answer: {type(error).__name__}: {error}") from error
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        if response.status_code in REFUSED_FOR_GOOD:
            raise InvalidInput(f"home does not take {what}: {response.text[:300]}")
        kind = ServerError if response.status_code >= 500 else Rejected
        raise kind(
            f"home refuses {what}: {response.status_code} {response.text[:300]}",
            hint="look at TRANSSHIP_URL, and at the token: role agent, this region, not expired",
        )
