"""The command line's side of the API: TRANSSHIP_URL and TRANSSHIP_TOKEN, problems as errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from service.errors import (
    InvalidConfiguration,
    NetworkError,
    NotFoundInStore,
    ServerError,
    TransshipError,
)


class Refused(TransshipError):
    """The server refuses the request."""

    code = "refused"
    failure_class = "invalid"


class ApiClient:
    """One server."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=30,
            trust_env=False,
            follow_redirects=False,
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> ApiClient:
        """Read the variables. Raises InvalidConfiguration naming the one that is missing."""
        source = os.environ if environ is None else environ
        for name in ("TRANSSHIP_URL", "TRANSSHIP_TOKEN"):
            if not source.get(name):
                raise InvalidConfiguration(
                    f"{name} is not set, and this command asks a server",
                    field=name,
                    hint="`transship up` prints the server's address and where its token is",
                )
        return cls(source["TRANSSHIP_URL"], source["TRANSSHIP_TOKEN"])

    def get(self, *parts: str, **query: str | int | None) -> Any:
        """Return the JSON of a resource."""
        return self._send("GET", parts, params={k: v for k, v in query.items() if v is not None})

    def put(self, *parts: str, body: Any) -> Any:
        """Create or replace a resource."""
        return self._send("PUT", parts, json=body)

    def post(self, *parts: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Act on a resource."""
        extra = {} if body is None else {"json": body}
        return self._send("POST", parts, headers=dict(headers or {}), **extra)

    def delete(self, *parts: str) -> Any:
        """Delete a resource."""
        return self._send("DELETE", parts)

    def items(self, *parts: str, limit: int | None = None, **query: str | None) -> Iterator[Any]:
        """Yield the items of a list, page by page."""
        cursor: str | None = None
        seen = 0
        while True:
            page = self.get(*parts, cursor=cursor, **query)
            for item in page["items"]:
                yield item
                seen += 1
                if limit is not None and seen >= limit:
                    return
            cursor = page["next"]
            if cursor is None:
                return

    def _send(self, method: str, parts: tuple[str, ...], **options: Any) -> Any:
        path = "/" + "/".join(quote(part, safe="") for part in parts)
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise NetworkError(f"{self.url} does not answer: {error}", hint="is it up?") from None
        if response.is_success:
            return response.json() if response.content else None
        raise _problem(response)


def _problem(response: httpx.Response) -> TransshipError:
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    title = problem.get("detail") or problem.get("title") or f"HTTP {response.status_code}"
    hint = problem.get("hint", "")
    for error in problem.get("errors", []):
        title += f"\n  {error.get('field', '')}: {error.get('message', error)}"
    if response.status_code == 404:
        return NotFoundInStore(title, hint=hint)
    if response.status_code == 401:
        return Refused(title, hint=hint or "check TRANSSHIP_TOKEN")
    if response.status_code >= 500:
        return ServerError(title, hint=hint)
    return Refused(title, hint=hint)
