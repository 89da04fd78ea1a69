"""A fault-injecting proxy in front of a real registry: the same faults as the sample registry's.

    with RealRegistry() as real, FaultProxy(real.url) as west:
        rule = west.fault("/blobs/uploads/", method="POST", status=503)
        ...
        assert rule.fired

The real registry is asked with the client's own Host, so that the addresses which it hands out lead
back to the proxy. Bodies are held whole: for contents of a few MiB. Every request is in `log`, with its
headers: what the service sent, and to whom.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit

from api.samples.faults import FaultPlan, FaultRule
from api.samples.http_messages import Access, Body, Request, Response, WireFault
from api.samples.http_server import HttpServer

_BODY_LIMIT = 256 << 20
_HOLD_SECONDS = 120.0
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade"})


class FaultProxy:
    """One proxy on one port; heal it with `faults.clear()`.

    `gate`, where one is set, sees every request that no rule has answered: what it returns is the answer
    (a challenge, a token), and the registry behind is then asked without credentials.
    """

    def __init__(
        self,
        upstream: str,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        parts = urlsplit(upstream)
        assert parts.scheme == "http", upstream
        self.upstream = parts.netloc
        self.faults = FaultPlan()
        self.gate: Callable[[Request], Response | None] | None = None
        self._server = HttpServer(self._handle, listen, tls=tls, server_name=server_name)
        self.url = self._server.url
        self.host = self._server.authority
        self.port = self._server.port
        self._local = threading.local()

    @property
    def log(self) -> list[Access]:
        """Every request so far; a request is here before its answer arrives."""
        return self._server.log

    def fault(self, path: str = "", **options: Any) -> FaultRule:
        """Add a fault rule; see FaultRule for the options."""
        return self.faults.add(FaultRule(path, **options))

    @property
    def connections(self) -> int:
        """How many connections clients have opened."""
        return self._server.connections

    def cut_connections(self) -> None:
        """Reset all open connections."""
        self._server.cut_connections()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.clear()
        self._server.close()

    def _handle(self, request: Request) -> Response:
        rule = self.faults.strike(request)
        if rule is None:
            return self._forward(request)
        if rule.before is not None:
            rule.before(request)
        if rule.hold is not None:
            rule.hold.wait(_HOLD_SECONDS)
        request.body.reset_at = rule.reset_request_at
        if rule.status is not None:
            response = Response(rule.status)
        elif rule.refuse_mount:
            response = self._forward(request, target=request.target.partition("?")[0])
        else:
            response = self._forward(request)
        rule.apply(response)
        if rule.forget_upload:
            self._forget(request, response)
        if rule.after is not None:
            rule.after(request, response)
        return response

    def _forward(self, request: Request, target: str = "") -> Response:
        if self.gate is not None:
            answered = self.gate(request)
            if answered is not None:
                return answered
        body = request.body.read(_BODY_LIMIT)
        headers = {k: v for k, v in request.headers.items() if k not in _HOP_BY_HOP}
        if self.gate is not None:
            headers.pop("authorization", None)
        headers.pop("expect", None)
        headers["content-length"] = str(len(body))
        return self._ask(request.method, target or request.target, body, headers)

    def _ask(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Response:
        for last in (False, True):
            connection = getattr(self._local, "connection", None)
            fresh = connection is None
            if connection is None:
                connection = http.client.HTTPConnection(self.upstream, timeout=60)
                self._local.connection = connection
            try:
                connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
                for name, value in headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                return self._answer(connection.getresponse())
            except (http.client.HTTPException, OSError):
                connection.close()
                self._local.connection = None
                if last or fresh:
                    break  # a kept connection may have ended; a new one says that the server is away
        return Response(502, close=True)

    @staticmethod
    def _answer(answer: http.client.HTTPResponse) -> Response:
        """Pass an answer on, one that the registry breaks off as well."""
        fault = None
        try:
            data = answer.read()
        except http.client.IncompleteRead as error:
            data = error.partial
            fault = WireFault(truncate_at=len(data))
        headers: dict[str, str] = {}
        for name, value in answer.getheaders():
            told = name.lower() == "content-length" and data and fault is None
            if name.lower() not in _HOP_BY_HOP and not told:
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Response(answer.status, headers, data, fault, close=fault is not None)

    def _forget(self, request: Request, response: Response) -> None:
        """End the upload session that was just handed out, behind the client's back."""
        location = response.headers.get("Location", "")
        if location:
            path = location.split("://", 1)[-1]
            path = path[path.index("/") :] if "://" in location else location
            self._ask("DELETE", path, b"", {"host": request.headers["host"], "content-length": "0"})


class _Shortened:
    """A request's body of which only the beginning is passed on."""

    def __init__(self, body: Body, count: int) -> None:
        self._body = body
        self._count = count
        self.reset_at: int | None = None

    @property
    def received(self) -> int:
        return self._body.received

    def read(self, limit: int) -> bytes:
        return self._body.read(limit)[: self._count]

    def drain(self) -> bool:
        return self._body.drain()


def taking(count: int) -> Callable[[Request], None]:
    """A rule's `before`: the registry is given only the first bytes of a PATCH, and says so truly."""

    def shorten(request: Request) -> None:
        headers = dict(request.headers)
        start = int(headers.get("content-range", "0-").partition("-")[0])
        headers["content-range"] = f"{start}-{start + count - 1}"
        request.headers = headers
        request.body = _Shortened(request.body, count)  # type: ignore[assignment]  # all that is used

    return shorten


def without(*names: str) -> Callable[[Request], None]:
    """A rule's `before`: the registry does not see these headers; the log still does."""

    def drop(request: Request) -> None:
        request.headers = {k: v for k, v in request.headers.items() if k not in names}

    return drop
