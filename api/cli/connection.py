"""How commands speak to a server: TRANSSHIP_URL and TRANSSHIP_TOKEN, or the data folder of `up`."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import httpx

from service.errors import Conflict, InvalidConfiguration, InvalidInput, NetworkError, ServerError

PAGE = 200
ANSWER_SECONDS = 30.0
DOWNLOAD_SECONDS = 600.0
"""So long a server may take to make what it then sends at once, such as the receipt of a million copies."""

STREAM_SECONDS = 40.0
"""Longer than the server lets a stream be silent."""


class Connection:
    """One server's API. Answers are JSON objects; every error is one of our tree."""

    def __init__(
        self, url: str, token: str, *, hint: str = "check TRANSSHIP_URL, and that the server runs"
    ) -> None:
        """Refuse, by InvalidConfiguration, a URL that would carry the token in the clear.

        `hint` is what to do when the server does not answer.
        """
        self._hint = hint
        parsed = httpx.URL(url)
        local = parsed.host in {"127.0.0.1", "::1", "localhost"}
        if parsed.scheme != "https" and not (parsed.scheme == "http" and local):
            raise InvalidConfiguration(
                f"TRANSSHIP_URL={url!r} is not https://, and not on this machine",
                field="TRANSSHIP_URL",
                hint="the token would cross the network in the clear",
            )
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}", "User-Agent": "transship/0.1"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=5),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Return what the API answers below /api/v1.

        Raises NetworkError when there is no answer, ServerError for 5xx, Conflict for 409 and 412,
        InvalidInput for what else is refused, with the words of the problem document.
        """
        return self._ask(method, path, body, headers, httpx.Timeout(ANSWER_SECONDS, connect=5))

    def ask_patiently(self, path: str) -> Any:
        """Return what the API answers to GET, of something that takes long to make; raises as `ask` does."""
        return self._ask("GET", path, None, {}, httpx.Timeout(DOWNLOAD_SECONDS, connect=5))

    def _ask(
        self, method: str, path: str, body: Any, headers: dict[str, str], patience: httpx.Timeout
    ) -> Any:
        try:
            response = self._http.request(
                method,
                f"/api/v1{path}",
                json=body,
                headers=headers,
                follow_redirects=False,
                timeout=patience,
            )
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error
        if response.is_success:
            return response.json() if response.content else {}
        raise _problem(response)

    def download(self, path: str, to: Path) -> Mapping[str, str]:
        """Write what the API answers below /api/v1 to a file, piece by piece; returns the answer's headers.

        Raises as `ask` does.
        """
        patience = httpx.Timeout(DOWNLOAD_SECONDS, connect=5)
        try:
            with self._http.stream("GET", f"/api/v1{path}", timeout=patience) as response:
                if not response.is_success:
                    response.read()
                    raise _problem(response)
                with to.open("wb") as file:
                    for piece in response.iter_bytes(1 << 20):
                        file.write(piece)
                return response.headers
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error

    def items(self, path: str, **query: str | list[str]) -> Iterator[dict[str, Any]]:
        """Yield a list's items, page by page."""
        pairs: list[tuple[str, str]] = [("limit", str(PAGE))]
        for name, value in query.items():
            pairs += [(name, one) for one in ([value] if isinstance(value, str) else value)]
        cursor: str | None = None
        while True:
            here = [*pairs, ("cursor", cursor)] if cursor else pairs
            page = self.ask("GET", f"{path}?{urlencode(here)}")
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def events(
        self, execution: str, deadline: float | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (event, data) of an execution until it ends, or until `deadline` (time.monotonic).

        Opens the stream again when it breaks.
        """
        ended = False
        while not ended and not _is_past(deadline):
            for name, data in self._stream(execution, deadline):
                ended = name in {"end", "problem"}
                yield name, data

    def _stream(
        self, execution: str, deadline: float | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        path = f"/api/v1/executions/{execution}/events"
        left = STREAM_SECONDS if deadline is None else deadline - time.monotonic()
        patience = httpx.Timeout(min(STREAM_SECONDS, max(0.05, left)), connect=5)
        try:
            with self._http.stream("GET", path, timeout=patience) as response:
                if not response.is_success:
                    response.read()
                    raise _problem(response)
                name = ""
                for line in response.iter_lines():
                    if _is_past(deadline):
                        return
                    key, _, value = line.partition(": ")
                    if key == "event":
                        name = value
                    elif key == "data":
                        yield name, json.loads(value)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.ReadTimeout) and _is_past(deadline):
                return
            raise self._no_answer(error) from error

    def _no_answer(self, error: httpx.HTTPError) -> NetworkError:
        return NetworkError(
            f"{self.url} does not answer: {error or type(error).__name__}",
            hint=self._hint,
        )


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def connect(data: Path | None) -> Connection:
    """Return a connection to the server that the variables or the data folder name.

    Raises InvalidConfiguration when they name none.
    """
    if data is not None:
        return Connection(*_of_data(data), hint=f"look at the logs in {data / 'logs'}")
    url, token = os.environ.get("TRANSSHIP_URL"), os.environ.get("TRANSSHIP_TOKEN")
    if url and token:
        return Connection(url, token)
    if url or token:
        missing = "TRANSSHIP_TOKEN" if url else "TRANSSHIP_URL"
        raise InvalidConfiguration(
            f"{missing} is not set",
            field=missing,
            hint="set both TRANSSHIP_URL and TRANSSHIP_TOKEN, or give --data, the folder of "
            "`transship up`",
        )
    raise InvalidConfiguration(
        "this asks a server, and none is named",
        hint="set TRANSSHIP_URL and TRANSSHIP_TOKEN, or give --data, the folder of `transship up`",
    )


def _of_data(data: Path) -> tuple[str, str]:
    try:
        facts = json.loads((data / "engine.json").read_text("utf-8"))
        found = str(facts["api"]), (data / "admin.token").read_text("ascii").strip()
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidConfiguration(
            f"{data} is not the data folder of a running `transship up`",
            field="--data",
            hint="start it, or set TRANSSHIP_URL and TRANSSHIP_TOKEN",
        ) from None
    if _is_free(data / "engine.lock"):
        raise InvalidConfiguration(
            f"the `transship up` of {data} is not running",
            field="--data",
            hint=f"start it again: transship up --data {data}",
        )
    return found


def _is_free(lock: Path) -> bool:
    """Whether nobody holds the lock of a data folder; one without the file has never been held."""
    try:
        with lock.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _problem(response: httpx.Response) -> Exception:
    try:
        problem = response.json()
        detail, hint = str(problem["detail"]), str(problem.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        detail, hint = f"the server answered {response.status_code}", ""
    if response.status_code >= 500:
        return ServerError(detail, hint=hint, status=response.status_code)
    if response.status_code in {409, 412}:
        return Conflict(detail, hint=hint)
    if response.status_code == 401:
        hint = "check TRANSSHIP_TOKEN"
    return InvalidInput(detail, hint=hint)
