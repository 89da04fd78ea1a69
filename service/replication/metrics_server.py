"""The small server of one process's /healthz and /metrics (TRANSSHIP_METRICS_LISTEN).

Metrics name rules and registries: whoever asks for them from elsewhere has to show the token of
TRANSSHIP_METRICS_TOKEN_FILE. Without one they are shown on loopback only.
"""

from __future__ import annotations

import hmac
import ipaddress
import threading
from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, generate_latest

from service.errors import InvalidConfiguration

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LISTEN = "TRANSSHIP_METRICS_LISTEN"
TOKEN_FILE = "TRANSSHIP_METRICS_TOKEN_FILE"  # noqa: S105 - the name of a variable
SHORTEST = 16
SILENT_SECONDS = 10.0
"""So long who has connected may send or take nothing."""


def read_token(path: str) -> str:
    """Return the token that a scrape has to show; "" when no file is named. Raises InvalidConfiguration."""
    if not path:
        return ""
    try:
        token = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(
            f"{TOKEN_FILE}={path!r} cannot be read: {error}", field=TOKEN_FILE
        ) from None
    if len(token) < SHORTEST:
        raise InvalidConfiguration(
            f"{TOKEN_FILE}: the token has fewer than {SHORTEST} characters",
            field=TOKEN_FILE,
            hint="write 32 random characters into it, as from `openssl rand -hex 16`",
        )
    return token


def bears(authorization: str, token: str) -> bool:
    """Whether a header `Authorization` bears this token; "" is no token and nobody bears it."""
    scheme, _, shown = authorization.partition(" ")
    same = hmac.compare_digest(shown.strip().encode(), token.encode())
    return bool(token) and scheme.lower() == "bearer" and same


def serve(registry: CollectorRegistry, listen: str, token: str) -> Callable[[], None]:
    """Serve on HOST:PORT in the background; returns what ends it.

    Raises InvalidConfiguration when the address cannot be listened on, or is another machine's to reach and
    there is no token.
    """
    host, _, port = listen.rpartition(":")
    if not token and not is_loopback(host):
        raise InvalidConfiguration(
            f"{LISTEN}={listen!r} can be reached from elsewhere, and metrics name rules and registries",
            field=LISTEN,
            hint=f"set {TOKEN_FILE} to a file with the token that Prometheus shows, or listen on 127.0.0.1",
        )
    answering = _Answering(registry, token)
    try:
        server = make_server(host, int(port), answering, _Server, _Quiet)
    except (OSError, ValueError) as error:
        raise InvalidConfiguration(
            f"{LISTEN}={listen!r} cannot be listened on: {error}", field=LISTEN
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def end() -> None:
        server.shutdown()
        server.server_close()

    return end


class _Answering:
    """The application: two paths."""

    def __init__(self, registry: CollectorRegistry, token: str) -> None:
        self._registry = registry
        self._token = token

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/healthz":
            start("200 OK", [("Content-Type", "application/json")])
            return [b'{"status": "alive"}']
        if path != "/metrics":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not found: try /healthz or /metrics\n"]
        if self._token and not bears(environ.get("HTTP_AUTHORIZATION", ""), self._token):
            headers = [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")]
            start("401 Unauthorized", headers)
            return [f"show the token of {TOKEN_FILE}: Authorization: Bearer ...\n".encode()]
        start("200 OK", [("Content-Type", CONTENT_TYPE)])
        return [generate_latest(self._registry)]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on a host; an empty one is all of them."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each in a thread: who connects and says nothing must not keep a check of health from its answer."""

    daemon_threads = True
    block_on_close = False


class _Quiet(WSGIRequestHandler):
    timeout = SILENT_SECONDS

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: a scrape every few seconds is no event."""
