"""gunicorn's threaded worker, but a thread only meets requests that came in whole: slow senders cost none.

gunicorn gives each connection a thread as soon as its first byte is there, and reads the rest there without a
bound: as many clients as there are threads, each sending a byte a second, would be the whole service (slowloris).
Here the main loop collects a request, and hands it over when its last byte has come.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from api.serve_share import Shares

RECEIVE_SECONDS = 30.0
"""For a whole request, from its connection or from its first byte on a kept one."""

WIRE_SECONDS = 30
"""For each read and write of a thread: what came in whole is not read from the wire, but answers are sent."""

MAX_HEAD = 64 << 10
MAX_COLLECTED = 1_200_000
"""Bytes of head and body; above every limit of a body, which the application tells with a 413."""

MAX_COLLECTED_BY_ALL = 64 << 20
"""Bytes of all requests that have not come in whole; beyond, who has sent most is cut."""

LEAVE_SECONDS = 0.002
MOST_LEFT = 3
"""How often in a row, and for how long each, a connection is left to a process that has fewer, but may be hung."""

_PIECE = 64 << 10
_HEAD_END = b"\r\n\r\n"
_MAX_CHUNK_LINE = 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_BROKEN = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Arriving:
    """The bytes of one request as they come in (RFC 9112); what is odd is whole, for the parser to refuse."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.refusal = b""  # an answer of ours, when it will never be a request
        self.wants_continue = False
        self._head: int | None = None  # bytes of the head
        self._length: int | None = None  # bytes of head and body; None: in chunks
        self._chunk = 0  # where the next chunk begins

    def add(self, data: bytes) -> None:
        """Take what has come in."""
        self.data += data

    def is_whole(self) -> bool:
        """Whether the application may have it: it is complete, too long for any body, or odd."""
        if self._head is None and not self._read_head():
            return bool(self.refusal)
        if len(self.data) > MAX_COLLECTED:
            return True
        if self._length is not None:
            return len(self.data) >= self._length or self._length > MAX_COLLECTED
        return self._is_last_chunk_there()

    def _read_head(self) -> bool:
        """Find the end of the head, and what it says of the body."""
        end = self.data.find(_HEAD_END)
        if end < 0:
            if self.data and not self.data[:1].isalpha():
                self.refusal = _BROKEN
            elif len(self.data) > MAX_HEAD:
                self.refusal = _TOO_LONG
            return False
        self._head = end + len(_HEAD_END)
        fields: dict[bytes, list[bytes]] = {}
        for line in bytes(self.data[:end]).lower().split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields.setdefault(name.strip(), []).append(value.strip())
        lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
        self.wants_continue = fields.get(b"expect") == [b"100-continue"]
        self._length = self._head
        if codings == [b"chunked"] and not lengths:
            self._length, self._chunk = None, self._head
        elif len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) < 16 and not codings:
            self._length = self._head + int(lengths[0])
        return True

    def _is_last_chunk_there(self) -> bool:
        while True:
            end = self.data.find(b"\r\n", self._chunk)
            if end < 0:
                if len(self.data) - self._chunk > _MAX_CHUNK_LINE:
                    self.refusal = _BROKEN
                return bool(self.refusal)
            try:
                size = int(self.data[self._chunk : end].partition(b";")[0], 16)
            except ValueError:
                return True
            if size <= 0:
                return size < 0 or self.data.find(_HEAD_END, end) >= 0
            if end + 2 + size + 2 > len(self.data):
                return False
            self._chunk = end + 2 + size + 2


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Collects requests in the main loop; threads never wait for a client's next byte."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._shares, self._place, self._left = Shares(1), 0, 0
        super().__init__(*arguments, **options)
        self._arriving: dict[Any, float] = {}  # connection -> its deadline; the first ends first
        self._collected = 0  # bytes of all that arrive

    def take_place(self, shares: Shares, place: int) -> None:
        """Count connections at this place of the table that all processes share; called before the fork."""
        self._shares, self._place = shares, place
        self._shares.set(place, 0)

    @property
    def place(self) -> int:
        """Where in the table of all processes this one counts its connections."""
        return self._place

    @property
    def nr_conns(self) -> int:
        """How many connections this process has; gunicorn counts them."""
        return self._connections

    @nr_conns.setter
    def nr_conns(self, connections: int) -> None:
        self._connections = connections
        self._shares.set(self._place, connections)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and begin to collect its first request; who has fewer connections goes first."""
        if self._left < MOST_LEFT and not self._shares.is_least(self._place):
            self._left += 1
            time.sleep(LEAVE_SECONDS)  # the socket still reads as ready then, if nobody took it
            return
        self._left = 0
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                return
            raise
        self.nr_conns += 1
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            client.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", WIRE_SECONDS, 0))
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.data_ready = True  # gunicorn need not wait for the first byte in a thread
        self._collect(conn)

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Begin to collect another request of a kept connection."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._collect(conn)

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Keep the connection, or end it; what was read behind the request begins the next one."""
        kept = not fs.cancelled() and fs.exception() is None and fs.result()
        rest = conn.parser.unreader.take_buffered() if kept and conn.parser is not None else b""
        if rest:
            conn.sock.setblocking(False)
            self._collect(conn, rest)
        else:
            super().finish_request(conn, fs)

    def handle(self, conn: Any) -> Any:
        """Serve a request that is there; runs in a thread."""
        arrived, conn.arriving = conn.arriving, None
        if arrived is not None:
            conn.sock.setblocking(True)
            conn.init()
            conn.parser.unreader.unread(bytes(arrived.data))
        return super().handle(conn)

    def murder_pending(self) -> None:
        """Cut whoever took too long; while ending, whoever has not begun."""
        now = time.monotonic()
        for conn, deadline in list(self._arriving.items()):
            if now >= deadline or not (self.alive or conn.arriving.data):
                self._cut(conn)
            elif self.alive:
                break
        super().murder_pending()

    # ---- collecting ------------------------------------------------------------------------------

    def _collect(self, conn: Any, begun: bytes = b"") -> None:
        conn.arriving = Arriving()
        conn.arriving.add(begun)
        self._collected += len(begun)
        if (begun and self._hand_over(conn)) or self._on_more(conn, conn.sock):
            return  # mostly all of it is there at once
        self._arriving[conn] = time.monotonic() + RECEIVE_SECONDS
        self.poller.register(conn.sock, EVENT_READ, partial(self._on_more, conn))

    def _on_more(self, conn: Any, client: socket.socket) -> bool:
        """Read what is there; whether nothing more is to be collected."""
        try:
            data = client.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._cut(conn)
            return True
        conn.arriving.add(data)
        self._collected += len(data)
        if self._hand_over(conn):
            return True
        if self._collected > MAX_COLLECTED_BY_ALL and self._arriving:
            largest = max(self._arriving, key=lambda one: len(one.arriving.data))
            self._cut(largest)
            return bool(largest is conn)
        return False

    def _hand_over(self, conn: Any) -> bool:
        """Give a request that is there to a thread, or refuse what will be none; whether either was so."""
        arriving = conn.arriving
        if not arriving.is_whole():
            if arriving.wants_continue:
                arriving.wants_continue = False
                self._say(conn, _CONTINUE)
            return False
        if arriving.refusal:
            self._say(conn, arriving.refusal)
            self._cut(conn)
            return True
        self._forget(conn)
        self.enqueue_req(conn)
        return True

    @staticmethod
    def _say(conn: Any, text: bytes) -> None:
        try:
            conn.sock.send(text)
        except OSError:
            return  # it is cut, or ends by its deadline

    def _forget(self, conn: Any) -> None:
        self._collected -= len(conn.arriving.data)
        if self._arriving.pop(conn, None) is not None:
            self.poller.unregister(conn.sock)

    def _cut(self, conn: Any) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()
