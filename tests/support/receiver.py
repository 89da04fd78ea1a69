"""A webhook's receiver, as good or bad as a test wants it."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed_with(self, secret: str) -> bool:
        """Whether the signature is HMAC-SHA256 of the time, a dot and the body."""
        parts = dict(part.split("=", 1) for part in self.headers["transship-signature"].split(","))
        told = f"{parts['t']}.".encode() + self.body
        expected = hmac.new(secret.encode(), told, hashlib.sha256).hexdigest()
        return hmac.compare_digest(parts["v1"], expected)


@dataclass
class Receiver:
    """Listens on a free port of this machine.

    `mode`: ok, refuse (500), redirect, hang (says nothing), drip (a byte of reply now and then),
    flood (a reply without end).
    """

    mode: str = "ok"
    received: list[Received] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.append(Received(self.path, headers, self.rfile.read(length)))
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A sender that goes away in the middle is no fault of the receiver."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/events"

    @property
    def types(self) -> list[str]:
        """The types of what came in, sorted."""
        return sorted(one.event["type"] for one in self.received)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.mode == "hang":
            self.let_go.wait(60)
            return
        handler.send_response({"refuse": 500, "redirect": 302}.get(self.mode, 200))
        if self.mode == "redirect":
            handler.send_header("Location", f"{self.url}/elsewhere")
        if self.mode in {"drip", "flood"}:
            handler.end_headers()
            while not self.let_go.wait(0.2 if self.mode == "drip" else 0):
                handler.wfile.write(b"x" if self.mode == "drip" else b"x" * 65536)
            return
        handler.send_header("Content-Length", "0")
        handler.end_headers()
