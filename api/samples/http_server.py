"""A small, quick HTTP/1.1 server for the sample registry: one thread a connection, big buffers.

It is strict where a client may err (RFC 9112: Host, one way of framing, no body left unread) and
can be told to misbehave on the wire (`WireFault`), which only tests ask for.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote

PIECE: Final = 1 << 20
_CUT: Final = 499  # status in the log for a request whose client went away
_SMALL: Final = 16 << 10
_HEAD_LIMIT: Final = 64 << 10
_DRAIN_LIMIT: Final = 256 << 10
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

Bytes = bytes | bytearray | memoryview


class ConnectionLostError(Exception):
    """The peer went away, or a fault says that the connection ends here."""


class BadRequestError(Exception):
    """The bytes received are no HTTP request; the message says why."""


@dataclass(slots=True)
class WireFault:
    """How one answer goes wrong on its way; all off by default. Positions count body bytes."""

    delay_seconds: float = 0.0
    bytes_per_second: int = 0
    reset_at: int | None = None  # RST after so many bytes
    truncate_at: int | None = None  # FIN after so many bytes, the length announced stays
    flip_at: int | None = None
    chunked: bool = False  # Transfer-Encoding: chunked instead of a length
    informational: bool = False  # a 103 answer first


@dataclass(slots=True)
class Response:
    """An answer; `body` of a HEAD is not sent but counted in Content-Length."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Bytes = b""
    fault: WireFault | None = None
    close: bool = False


@dataclass(slots=True)
class Access:
    """One request as the server saw it. `bytes` and `received` count body bytes."""

    method: str
    path: str  # with query
    status: int
    bytes: int
    received: int
    headers: dict[str, str]
    connection: int
    started: float  # time.monotonic


class Body:
    """The body of a request, read as it is wanted."""

    def __init__(self, wire: _Wire, length: int | None, *, expects_continue: bool) -> None:
        self._wire = wire
        self._left = length or 0
        self.chunked = length is None
        self._expects_continue = expects_continue
        self._ended = length == 0
        self.length = length
        self.received = 0
        self.reset_at: int | None = None  # fault: lose the connection after so many bytes

    def read_into(self, view: memoryview) -> int:
        """Read at most len(view) bytes; 0 at the end. Raises ConnectionLostError."""
        if self._ended or not view:
            return 0
        if self._expects_continue:
            self._expects_continue = False
            self._wire.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.chunked and self._left == 0:
            self._left = self._wire.chunk_size()
            if self._left == 0:
                self._ended = True
                return 0
        limit = min(len(view), self._left)
        if self.reset_at is not None:
            if self.received >= self.reset_at:
                raise ConnectionLostError
            limit = min(limit, self.reset_at - self.received)
        got = self._wire.recv_into(view[:limit])
        if got == 0:
            raise ConnectionLostError
        self.received += got
        self._left -= got
        if self._left == 0:
            if self.chunked:
                self._wire.line()
            else:
                self._ended = True
        return got

    def read(self, limit: int) -> bytes:
        """Read the whole body; raises OverflowError when it is longer than `limit`."""
        if self.length is not None and self.length > limit:
            raise OverflowError
        data = bytearray()
        piece = memoryview(bytearray(min(self.length or PIECE, PIECE)))
        while got := self.read_into(piece):
            data += piece[:got]
            if len(data) > limit:
                raise OverflowError
        return bytes(data)

    def drain(self) -> bool:
        """Throw the rest away; False when it is too much and the connection must close."""
        if self._ended:
            return True
        if self._expects_continue or (not self.chunked and self._left > _DRAIN_LIMIT):
            return False
        piece = memoryview(bytearray(64 << 10))
        total = 0
        while got := self.read_into(piece):
            total += got
            if total > _DRAIN_LIMIT:
                return False
        return True


@dataclass(slots=True)
class Request:
    """A request as received; header names are lower case, repeated ones are joined by commas."""

    method: str
    target: str
    path: str
    query_text: str
    headers: dict[str, str]
    body: Body
    connection: int

    def query(self) -> dict[str, str]:
        """Return the query's fields, the last value of each."""
        return dict(parse_qsl(self.query_text, keep_blank_values=True))


class _Wire:
    """The receiving side of one connection: a buffer for heads, none for big bodies."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def head(self) -> bytes | None:
        """Return the next request's head without its blank line; None when the peer is gone."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise BadRequestError("the header is too long")
            more = self.sock.recv(_SMALL)
            if not more:
                return None
            self._buffer = self._buffer + more if self._buffer else more
            if not self._buffer[:1].isalpha():  # a TLS greeting never has a blank line
                raise BadRequestError("this is no HTTP")
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head

    def line(self) -> bytes:
        """Return the next line, without its end."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            more = self.sock.recv(4096)
            if not more or len(self._buffer) > _HEAD_LIMIT:
                raise ConnectionLostError
            self._buffer += more
        text, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return text

    def chunk_size(self) -> int:
        """Read the line before a chunk; the last chunk's trailer is read, too."""
        try:
            size = int(self.line().split(b";")[0], 16)
        except ValueError:
            raise ConnectionLostError from None
        if size == 0:
            while self.line():
                pass
        return size

    def recv_into(self, view: memoryview) -> int:
        """Read what is there, from the buffer first."""
        if self._buffer:
            got = min(len(view), len(self._buffer))
            view[:got] = self._buffer[:got]
            self._buffer = self._buffer[got:]
            return got
        return self.sock.recv_into(view)


Handler = Callable[[Request], Response]


class HttpServer:
    """Listens at once, serves from `start` on. `handler` is called on the connection's thread."""

    def __init__(
        self,
        handler: Handler,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        *,
        tls: ssl.SSLContext | None = None,
        on_access: Callable[[Access], None] | None = None,
        server_name: str = "",
    ) -> None:
        self._handler = handler
        self._tls = tls
        self._on_access = on_access
        self._listener = socket.create_server(listen, backlog=512)
        self.host, self.port = self._listener.getsockname()[:2]
        scheme = "https" if tls else "http"
        self.authority = f"{server_name or self.host}:{self.port}"
        self.url = f"{scheme}://{self.authority}"
        self._lock = threading.Lock()
        self._open: dict[int, socket.socket] = {}
        self._connections = 0
        self._threads: set[threading.Thread] = set()
        self._closing = threading.Event()
        self.log: list[Access] = []
        self.keep_log = True

    def start(self) -> None:
        """Begin to accept connections."""
        thread = threading.Thread(target=self._accept, name=f"http-{self.port}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def close(self) -> None:
        """Stop listening, cut all connections, wait for their threads (5 s at most)."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_connections()
        deadline = time.monotonic() + 5
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def cut_connections(self) -> None:
        """Reset every open connection, as a crash of the server would."""
        with self._lock:
            for sock in self._open.values():
                _reset(sock)
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it

    @property
    def connections(self) -> int:
        """How many connections were ever accepted."""
        return self._connections

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if self._closing.is_set():
                    return
                continue
            with self._lock:
                self._connections += 1
                number = self._connections
                self._open[number] = sock
            thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
            with self._lock:
                self._threads.add(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock.settimeout(10)
                sock = self._tls.wrap_socket(sock, server_side=True)
                sock.settimeout(None)
                with self._lock:
                    self._open[number] = sock
            wire = _Wire(sock)
            while not self._closing.is_set() and self._one(wire, number):
                pass
            _close_politely(sock)
        except (OSError, ConnectionLostError):
            pass
        finally:
            with self._lock:
                self._open.pop(number, None)
                self._threads.discard(threading.current_thread())
            sock.close()

    def _one(self, wire: _Wire, number: int) -> bool:
        """Serve one request; False when the connection is to be closed."""
        try:
            head = wire.head()
            if head is None:
                return False
            started = time.monotonic()
            request = _parse(head, wire, number)
        except BadRequestError as error:
            wire.sock.sendall(_head(Response(400, {"Connection": "close"}), 0))
            with self._lock:
                self.log.append(Access("?", str(error), 400, 0, 0, {}, number, time.monotonic()))
            return False
        access = Access(
            request.method, request.target, _CUT, 0, 0, request.headers, number, started
        )
        try:
            response = self._respond(request)
            access.status = response.status
        finally:
            access.received = request.body.received
            if self.keep_log:
                self.log.append(access)  # before the answer: who has it finds it in the log
        try:
            _send(wire.sock, request.method, response, access)
        finally:
            if self._on_access is not None:
                self._on_access(access)
        return not response.close

    def _respond(self, request: Request) -> Response:
        try:
            response = self._handler(request)
        except (OSError, ConnectionLostError):
            raise
        except Exception:  # noqa: BLE001 - a bug of ours: tell the client, keep the trace
            traceback.print_exc()
            response = Response(500, close=True)
        if not request.body.drain():
            response.close = True
        if response.close or request.headers.get("connection", "").lower() == "close":
            response.close = True
            response.headers["Connection"] = "close"
        return response


def _parse(head: bytes, wire: _Wire, number: int) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] != "HTTP/1.1" or not parts[1].startswith("/"):
        raise BadRequestError(f"request line {first[:100]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequestError(f"header line {line[:100]!r}")
        key = name.lower()
        value = value.strip()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    if "host" not in headers:
        raise BadRequestError("no Host header")
    method, target, _ = parts
    path, _, query = target.partition("?")
    length: int | None = 0
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
            raise BadRequestError("framing is ambiguous")
        length = None
    elif "content-length" in headers:
        text = headers["content-length"]
        if not (text.isascii() and text.isdigit()):
            raise BadRequestError(f"content-length {text[:100]!r}")
        length = int(text)
    expects = headers.get("expect", "").lower() == "100-continue"
    body = Body(wire, length, expects_continue=expects)
    return Request(
        method, target, unquote(path) if "%" in path else path, query, headers, body, number
    )


def _head(response: Response, length: int) -> bytes:
    status = response.status
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    chunked = response.fault is not None and response.fault.chunked
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif status not in (204, 304) and "Content-Length" not in response.headers:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _send(sock: socket.socket, method: str, response: Response, access: Access) -> None:
    fault = response.fault
    body: Bytes = response.body
    if fault is not None:
        time.sleep(fault.delay_seconds)
        if fault.flip_at is not None and fault.flip_at < len(body):
            changed = bytearray(body)
            changed[fault.flip_at] ^= 0xFF
            body = changed
        if fault.informational:
            sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    head = _head(response, len(body))
    if method == "HEAD" or response.status in (204, 304):
        body = b""
    if fault is not None:
        sock.sendall(head)
        _send_faulty(sock, memoryview(body), fault, access)
    elif len(body) <= _SMALL:
        access.bytes = len(body)
        sock.sendall(head + bytes(body))
    else:
        sock.sendall(head)
        _send_counted(sock, memoryview(body), access)


def _send_counted(sock: socket.socket, view: memoryview, access: Access) -> None:
    """Send all of it; `access.bytes` is right even when the peer goes away in the middle."""
    offset = 0
    while offset < len(view):
        piece = view[offset : offset + PIECE]
        access.bytes += len(piece)  # before: the peer may have it before we come back
        sent = 0
        try:
            sent = sock.send(piece)
        finally:
            access.bytes += sent - len(piece)
        offset += sent


def _send_faulty(sock: socket.socket, view: memoryview, fault: WireFault, access: Access) -> None:
    ends = [end for end in (fault.reset_at, fault.truncate_at) if end is not None]
    wanted = view[: min(ends)] if ends else view
    step = max(1, fault.bytes_per_second // 20) if fault.bytes_per_second else 256 << 10
    for offset in range(0, len(wanted), step):
        piece = wanted[offset : offset + step]
        if fault.chunked:
            sock.sendall(f"{len(piece):x}\r\n".encode() + bytes(piece) + b"\r\n")
            access.bytes += len(piece)
        else:
            _send_counted(sock, piece, access)
        if fault.bytes_per_second:
            time.sleep(len(piece) / fault.bytes_per_second)
    if fault.reset_at is not None:
        _reset(sock)
        raise ConnectionLostError
    if fault.truncate_at is not None:
        raise ConnectionLostError
    if fault.chunked:
        sock.sendall(b"0\r\n\r\n")


def _reset(sock: socket.socket) -> None:
    """Make the close that follows send RST instead of FIN."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _close_politely(sock: socket.socket) -> None:
    """Say that no more comes and read on a little, so that the last answer is not lost to a RST."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(0.5)
        deadline = time.monotonic() + 0.5
        while sock.recv(PIECE) and time.monotonic() < deadline:
            pass
