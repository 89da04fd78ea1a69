"""HTTP/1.1 messages as the sample registry reads them (RFC 9112), and what may go wrong with them.

Strict where a client may err: Host is there, the framing is unambiguous, names have no spaces.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

PIECE: Final = 1 << 20
_SMALL: Final = 16 << 10
_HEAD_LIMIT: Final = 64 << 10
_DRAIN_LIMIT: Final = 256 << 10

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

    def __init__(self, wire: Wire, length: int | None, *, expects_continue: bool) -> None:
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


class Wire:
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


def parse_head(head: bytes, wire: Wire, number: int) -> Request:
    """Read a request's head; raises BadRequestError."""
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
