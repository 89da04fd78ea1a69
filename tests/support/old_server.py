"""A registry as an old or careless server would serve it: HTTP/1.0, no lengths, lower-case names (row F119).

    with RealRegistry() as real, OldServer(real.url, manner="http-1.0") as old: ...

Built on Python's own http.server, so that nothing of our server's strictness is in it.
"""

from __future__ import annotations

import gzip
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

MANNERS = ("http-1.0", "lower-case", "continue", "gzip-lists")
"""http-1.0: no keep-alive and no Content-Length of what is got, which ends where the connection does;
lower-case: names of headers; continue: two interim answers before each; gzip-lists: JSON lists packed
though nobody asked for it."""

_DROPPED = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class OldServer:
    """Passes everything on to a registry and answers in its manner."""

    def __init__(self, upstream: str, manner: str) -> None:
        assert manner in MANNERS
        self.manner = manner
        self.served = 0
        self._upstream = urlsplit(upstream).netloc
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0" if manner == "http-1.0" else "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                outer.answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that goes away is no fault of ours."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Ask the registry, and say it in this manner."""
        self.served += 1
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            connection.putrequest(
                handler.command, handler.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in handler.headers.items():
                if name.lower() not in _DROPPED | {"expect"}:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            self._send(handler, answer, data)
        finally:
            connection.close()

    def _send(
        self, handler: BaseHTTPRequestHandler, answer: http.client.HTTPResponse, data: bytes
    ) -> None:
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in _DROPPED]
        length = answer.getheader("Content-Length", str(len(data)))
        if self.manner == "gzip-lists" and handler.path.partition("?")[0].endswith("/tags/list"):
            data = gzip.compress(data)
            length = str(len(data))
            headers.append(("Content-Encoding", "gzip"))
        if self.manner != "http-1.0" or handler.command == "HEAD":
            headers.append(("Content-Length", length))
        if self.manner == "lower-case":
            headers = [(name.lower(), value) for name, value in headers]
        if self.manner == "continue":
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        handler.send_response_only(answer.status)
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)
