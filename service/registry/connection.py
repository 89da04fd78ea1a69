"""One HTTP/1.1 connection over a blocking socket: bytes out, a response head and body in."""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable, Mapping

from service.errors import AnswerTooLong, NetworkError, ProtocolError
from service.registry.origin import Origin
from service.registry.redaction import clean
from service.registry.timeouts import Timeouts
from service.registry.tls_stream import Stream, TLSStream

MAX_HEAD_BYTES = 64 * 1024
_PIECE = 16 * 1024
_MAX_INTERIM = 8  # 1xx responses before the one that counts
_BODILESS = frozenset({204, 304})


class StaleConnection(NetworkError):
    """The connection was closed before any byte of the response came."""

    code = "network"


class Connection:
    """A socket to one origin, used by one thread at a time."""

    __slots__ = (
        "_poll",
        "_timeouts",
        "authorization",
        "idle_since",
        "leave",
        "origin",
        "sock",
        "used",
    )

    def __init__(self, sock: Stream, origin: Origin, timeouts: Timeouts) -> None:
        self.sock = sock
        self.origin = origin
        self.used = False  # whether a response was read from it before
        self.idle_since = 0.0
        self.authorization = (
            ""  # the header line of the request under way, where the caller sends its body
        )
        self.leave: Callable[[], None] | None = None  # gives the request's slot back
        self._timeouts = timeouts
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def is_quiet(self) -> bool:
        """Whether nothing is waiting to be read: a kept connection with bytes or EOF is no use."""
        if isinstance(self.sock, TLSStream) and self.sock.buffered():
            return False
        return not self._poll.poll(0)

    def send(self, data: bytes | bytearray | memoryview) -> bool:
        """Send all of it; False when the other side has closed: its answer may still be read.

        Raises NetworkError on a time-out.
        """
        try:
            self.sock.sendall(data)
        except TimeoutError as error:
            raise NetworkError(f"{self.origin}: sending timed out") from error
        except (OSError, ssl.SSLError):
            return False
        return True

    def receive(
        self, method: str, release: Callable[[Connection], None], patience_seconds: float = 0.0
    ) -> Response:
        """Read a response's head; interim (1xx) ones are skipped.

        `patience_seconds` are waited for it beyond the usual.

        Raises StaleConnection when the connection ended before the first byte, NetworkError, and
        ProtocolError for what is no HTTP/1.x.
        """
        data = b""
        began = time.monotonic()
        deadline = began + self._timeouts.head_seconds + patience_seconds
        if patience_seconds:
            self.sock.settimeout(self._timeouts.read_seconds + patience_seconds)
        for _ in range(_MAX_INTERIM):
            while (end := data.find(b"\r\n\r\n")) < 0:
                if len(data) > MAX_HEAD_BYTES:
                    raise ProtocolError(f"{self.origin}: a response head over 64 KiB")
                piece = self._recv(empty=not data)
                data = data + piece if data else piece
                if time.monotonic() > deadline:
                    raise NetworkError(f"{self.origin}: no complete answer within the deadline")
            status, persistent, headers = _parse_head(data[:end], self.origin)
            data = data[end + 4 :]
            if status >= 200:
                self.used = True
                if patience_seconds:
                    self.sock.settimeout(self._timeouts.read_seconds)
                waited = time.monotonic() - began
                response = Response(self, method, status, headers, data, persistent, release)
                response.waited_seconds = waited
                return response
        raise ProtocolError(f"{self.origin}: no final answer after many interim ones")

    def _recv(self, *, empty: bool) -> bytes:
        try:
            piece = self.sock.recv(_PIECE)
        except TimeoutError as error:
            seconds = self._timeouts.read_seconds
            raise NetworkError(f"{self.origin}: no answer within {seconds:.0f} s") from error
        except (OSError, ssl.SSLError) as error:
            kind = StaleConnection if empty else NetworkError
            raise kind(f"{self.origin}: the connection was lost: {error}") from error
        if not piece:
            kind = StaleConnection if empty else NetworkError
            raise kind(f"{self.origin}: the connection was closed before the answer")
        return piece

    def give_back(self) -> None:
        """Say that the request is through: its slot, if it has one, is free."""
        leave, self.leave = self.leave, None
        if leave is not None:
            leave()

    def close(self) -> None:
        """Close the socket; whatever was under way is lost."""
        self.give_back()
        self.sock.close()


class Response:
    """A response whose body is still on the wire, or partly so.

    Either read to its end (the connection goes back by itself) or closed.
    """

    __slots__ = (
        "_chunk_left",
        "_chunked",
        "_finished",
        "_left",
        "_persistent",
        "_release",
        "_rest",
        "connection",
        "headers",
        "length",
        "status",
        "waited_seconds",
    )

    def __init__(
        self,
        connection: Connection,
        method: str,
        status: int,
        headers: Mapping[str, str],
        rest: bytes,
        persistent: bool,
        release: Callable[[Connection], None],
    ) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers  # names in lower case
        self.waited_seconds = 0.0  # for the head, since the request was sent
        self._rest = rest
        self._release = release
        self._finished = False
        self._chunk_left = -1
        self._chunked = False
        self.length: int | None = None  # bytes of the body, where the head says so
        if method == "HEAD" or status in _BODILESS:
            self.length = 0
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].strip().lower() != "chunked":
                connection.close()
                raise ProtocolError(f"{connection.origin}: an unknown Transfer-Encoding")
            self._chunked = True
            persistent = persistent and "content-length" not in headers
        elif "content-length" in headers:
            self.length = _content_length(headers["content-length"], connection)
        else:
            persistent = False
        self._persistent = persistent
        self._left = -1 if self.length is None else self.length
        if self._left == 0:
            self._finish(clean_end=not rest)

    def readinto(self, view: memoryview) -> int:
        """Fill some of `view`; 0 means the body has ended.

        Raises NetworkError when the connection ends before the body does.
        """
        if self._finished:
            return 0
        if self._chunked:
            return self._read_chunked(view)
        if self._left > 0 and len(view) > self._left:
            view = view[: self._left]
        count = self._fill(view)
        if self._left < 0:  # until the connection closes
            if count == 0:
                self._finish(clean_end=False)
            return count
        if count == 0:
            self.close()
            raise NetworkError(f"{self.connection.origin}: {self._left} bytes short of the body")
        self._left -= count
        if self._left == 0:
            self._finish(clean_end=not self._rest)
        return count

    def read(self, limit: int) -> bytes:
        """Read the whole body, at most `limit` bytes; raises AnswerTooLong beyond that."""
        if self._finished:
            return b""
        if 0 < self._left <= len(self._rest) and self._left <= limit:  # it came with the head
            body = self._rest[: self._left]
            self._rest = self._rest[self._left :]
            self._left = 0
            self._finish(clean_end=not self._rest)
            return body
        return self.read_some(limit + 1, limit)

    def read_some(self, most: int, limit: int | None = None) -> bytes:
        """Read up to `most` bytes, then give the connection up unless the body ended there."""
        if limit is not None and self._left > limit:
            self.close()
            raise AnswerTooLong(f"{self.connection.origin}: an answer over {limit} bytes")
        timeouts = self.connection._timeouts  # noqa: SLF001 - two halves of one thing
        deadline = time.monotonic() + timeouts.head_seconds + most / timeouts.minimum_rate
        body = bytearray()
        view = memoryview(bytearray(min(most, 64 * 1024)))
        while len(body) < most and (count := self.readinto(view[: most - len(body)])):
            body += view[:count]
            if time.monotonic() > deadline:
                self.close()
                raise NetworkError(f"{self.connection.origin}: a body not sent within its deadline")
        if not self._finished and (limit is not None and len(body) > limit):
            self.close()
            raise AnswerTooLong(f"{self.connection.origin}: an answer over {limit} bytes")
        self.close()
        return bytes(body)

    def close(self) -> None:
        """Give the connection up, unless the body has been read to its end."""
        if not self._finished:
            self._finished = True
            self.connection.close()

    def _finish(self, *, clean_end: bool) -> None:
        self._finished = True
        if clean_end and self._persistent:
            self._release(self.connection)
        else:
            self.connection.close()

    def _fill(self, view: memoryview) -> int:
        if self._rest:
            count = min(len(view), len(self._rest))
            view[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            return count
        try:
            return self.connection.sock.recv_into(view)
        except TimeoutError as error:
            self.close()
            raise NetworkError(f"{self.connection.origin}: the body stalled") from error
        except (OSError, ssl.SSLError) as error:
            self.close()
            raise NetworkError(f"{self.connection.origin}: the body broke off: {error}") from error

    def _read_chunked(self, view: memoryview) -> int:
        if self._chunk_left <= 0:
            if self._chunk_left == 0:
                self._line()
            size = self._line().partition(b";")[0].strip()
            try:
                self._chunk_left = int(size, 16) if size.isalnum() else -1
            except ValueError:
                self._chunk_left = -1
            if self._chunk_left < 0:
                self.close()
                raise ProtocolError(f"{self.connection.origin}: a malformed chunk")
            if self._chunk_left == 0:
                while self._line():  # trailers
                    pass
                self._finish(clean_end=not self._rest)
                return 0
        count = self._fill(view[: self._chunk_left] if len(view) > self._chunk_left else view)
        if count == 0:
            self.close()
            raise NetworkError(f"{self.connection.origin}: the chunked body broke off")
        self._chunk_left -= count
        return count

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\r\n")) < 0:
            if len(self._rest) > MAX_HEAD_BYTES:
                self.close()
                raise ProtocolError(f"{self.connection.origin}: a malformed chunk")
            view = memoryview(bytearray(_PIECE))
            rest, self._rest = self._rest, b""
            count = self._fill(view)
            if count == 0:
                self.close()
                raise NetworkError(f"{self.connection.origin}: the chunked body broke off")
            self._rest = rest + bytes(view[:count])
        line, self._rest = self._rest[:end], self._rest[end + 2 :]
        return line


def _parse_head(head: bytes, origin: Origin) -> tuple[int, bool, dict[str, str]]:
    """Parse status line and headers; repeated headers are joined by commas (RFC 9110, 5.3)."""
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, code = status_line[:9], status_line[9:12]
    if version not in ("HTTP/1.1 ", "HTTP/1.0 ") or not (code.isascii() and code.isdigit()):
        raise ProtocolError(f"{origin}: no HTTP answer: {clean(status_line, 60)!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name[0] in " \t":
            raise ProtocolError(f"{origin}: a malformed header line")
        name = name.lower()
        value = value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    wanted = headers.get("connection", "").lower()
    persistent = "close" not in wanted if version == "HTTP/1.1 " else "keep-alive" in wanted
    return int(code), persistent, headers


def _content_length(value: str, connection: Connection) -> int:
    if value.isdecimal() and len(value) <= 19:
        return int(value)
    values = {item.strip() for item in value.split(",")}  # repeated: harmless when all agree
    text = values.pop()
    if values or not (text.isascii() and text.isdigit()) or len(text) > 19:
        connection.close()
        raise ProtocolError(f"{connection.origin}: a Content-Length that is none")
    return int(text)
