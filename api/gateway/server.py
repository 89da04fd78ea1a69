"""A socket server of threads: one a connection, kept alive, with bounds on how many and how slow.

Not WSGI: a blob goes from one socket to the other in pieces of 1 MiB, or from a file by sendfile, and an answer
that must not become whole is cut.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from api.gateway.messages import MAX_HEAD_BYTES, Answer, BadRequest, Request, head_of, parse
from service.registry.timeouts import RateGuard, Timeouts
from service.replication.gateway.figures import GatewayFigures
from service.telemetry import get_logger

log = get_logger("gateway")

HEAD_SECONDS = 15.0
IDLE_SECONDS = 75.0
SEND_SECONDS = 30.0
_SLOW = Timeouts(minimum_rate=4 * 1024, window_seconds=30.0)
_CUT = struct.pack("ii", 1, 0)
BACKLOG = 1024
LEAST_BEGUN = 8
"""So many heads, or a tenth of all connections, one address may leave half sent: its oldest goes for the next one."""


class Cut(Exception):
    """The answer is broken off: its connection is reset, so that nobody takes it for whole."""


class Exchange:
    """One request on one connection, and the way its answer goes out."""

    def __init__(
        self, sock: socket.socket, request: Request, patience_seconds: float = SEND_SECONDS
    ) -> None:
        """`patience_seconds`: so long nothing at all may be taken before the client counts as gone."""
        self.request = request
        self.keep = request.keep
        self.status = 0
        self.kind = "other"  # what is asked for, as it is counted
        self._sock = sock
        self._guard = RateGuard(_SLOW, "the client")
        self._patience_seconds = patience_seconds

    def answer(self, answer: Answer) -> None:
        """Send a whole answer; of HEAD, its head. Raises as `send` does."""
        self.status = answer.status
        body = b"" if self.request.method == "HEAD" else answer.body
        self.send(memoryview(head_of(answer, len(answer.body), keep=self.keep) + body))

    def begin(self, answer: Answer, length: int) -> None:
        """Send the head of an answer whose body comes by `send` or `send_file`."""
        self.status = answer.status
        self._sock.sendall(head_of(answer, length, keep=self.keep))

    def send(self, piece: memoryview) -> None:
        """Send some bytes. Raises OSError, and TooSlow, when the client does not take it.

        Not by `sendall`, whose time-out is for all of a piece: who takes a mebibyte in a minute is slow, not gone.
        """
        while piece:
            try:
                piece = piece[os.write(self._sock.fileno(), piece) :]
            except BlockingIOError:
                self._wait()

    def send_file(self, descriptor: int, first: int, length: int) -> None:
        """Send a part of a file without reading it."""
        end = first + length
        while first < end:
            try:
                count = os.sendfile(
                    self._sock.fileno(), descriptor, first, min(end - first, 4 << 20)
                )
            except BlockingIOError:
                self._wait()
                continue
            if not count:
                raise Cut("the file is shorter than it was")
            first += count

    def _wait(self) -> None:
        """Wait until there is room for more.

        There is none before a good part of what waits in the kernel (some mebibytes) has gone: where the client is slow, that
        it takes something is seen by how much is left, and held to the minimum.
        """
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        has_room, left = False, _unsent(self._sock)
        while not has_room:
            since = self._guard.now()
            has_room = bool(poll.poll(self._patience_seconds * 1000))
            before, left = left, _unsent(self._sock)
            if not has_room and left >= before:
                raise TimeoutError("the client takes nothing")
            self._guard.moved(max(0, before - left), since)


def _unsent(sock: socket.socket) -> int:
    """Bytes that the kernel holds for the other side, which has not taken them yet."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


Handle = Callable[[Exchange], None]


class Server:
    """Listens from construction; serves between `start` and `drain`."""

    def __init__(
        self, listen: tuple[str, int], handle: Handle, figures: GatewayFigures, most: int
    ) -> None:
        """`most`: connections at once; what comes beyond is closed. Raises OSError."""
        self._handle = handle
        self._figures = figures
        self._most = most
        family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        self._socket = socket.create_server(
            (listen[0].strip("[]"), listen[1]), family=family, backlog=BACKLOG
        )
        self.port = int(self._socket.getsockname()[1])
        self._draining = threading.Event()
        self._lock = threading.Lock()
        self._idle: dict[socket.socket, None] = {}  # the longest idle first
        self._begun: dict[
            str, dict[socket.socket, None]
        ] = {}  # heads that are not whole, by client
        self._most_begun = max(LEAST_BEGUN, most // 10)
        self._open = 0
        self._ended = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    @property
    def idle(self) -> int:
        """How many connections have nothing to ask now."""
        return len(self._idle)

    def draining(self) -> bool:
        """Whether it takes no new connections any more."""
        return self._draining.is_set()

    def drain(self, seconds: float) -> bool:
        """Take no new connections, let what runs end; whether all of it did within so many seconds."""
        self._draining.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        deadline = time.monotonic() + seconds
        with self._lock:
            for sock in self._idle:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            while self._open and (left := deadline - time.monotonic()) > 0:
                self._ended.wait(left)
            return not self._open

    def _accept(self) -> None:
        while not self.draining():
            try:
                sock, _ = self._socket.accept()
            except OSError as error:
                if self.draining():
                    return
                log.warning("accept_failed", error=str(error))
                self._draining.wait(0.1)
                continue
            with self._lock:
                full = self._open >= self._most and not self._let_go()
                if not full:
                    self._open += 1
            if full:
                self._refuse(sock)
                continue
            self._figures.connections.inc()
            try:
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()
            except RuntimeError:  # no more threads
                self._refuse(sock)
                self._left()

    def _let_go(self) -> bool:
        """Close the connection that has been idle longest, for one that wants something; whether there was one."""
        sock = next(iter(self._idle), None)
        if sock is None:
            return False
        self._idle.pop(sock)
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        return True

    def _refuse(self, sock: socket.socket) -> None:
        answer = Answer.refusal(503, "TOOMANYREQUESTS", "too many connections", Retry_After="2")
        with suppress(OSError), sock:
            sock.setblocking(False)
            sock.send(head_of(answer, len(answer.body), keep=False) + answer.body)
        self._figures.requests.labels("refused", "503").inc()

    def _left(self) -> None:
        self._figures.connections.dec()
        with self._lock:
            self._open -= 1
            self._ended.notify_all()

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(SEND_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._talk(sock)
        except (OSError, Cut):
            self._reset(sock)
        except Exception as error:  # one connection's fault is not the others'
            log.exception("gateway_fault", error=type(error).__name__)
            self._reset(sock)
        finally:
            with self._lock:
                self._idle.pop(sock, None)
            sock.close()
            self._left()

    def _talk(self, sock: socket.socket) -> None:
        rest = b""
        while not self.draining():
            head, rest = self._head(sock, rest)
            if not head:
                return
            try:
                request = parse(head)
            except BadRequest as error:
                self._bad(sock, error)
                return
            exchange = Exchange(sock, request)
            exchange.keep = exchange.keep and not self.draining()
            self._handle(exchange)
            if not exchange.keep:
                self._finish(sock)
                return

    def _has_begun(self, sock: socket.socket, client: str) -> None:
        """Count a head that is not whole yet among its client's; the client's oldest goes when there are too many."""
        with self._lock:
            begun = self._begun.setdefault(client, {})
            begun[sock] = None
            if len(begun) > self._most_begun:
                oldest = next(iter(begun))
                begun.pop(oldest)
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)

    def _head(self, sock: socket.socket, data: bytes) -> tuple[bytes, bytes]:
        """Return a request's head and what came behind it; b"" when the client is through."""
        client = str(sock.getpeername()[0])
        try:
            return self._whole_head(sock, data, client)
        finally:
            with self._lock:
                begun = self._begun.get(client, {})
                begun.pop(sock, None)
                if not begun:
                    self._begun.pop(client, None)

    def _whole_head(self, sock: socket.socket, data: bytes, client: str) -> tuple[bytes, bytes]:
        deadline = time.monotonic() + HEAD_SECONDS if data else 0.0
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > MAX_HEAD_BYTES:
                self._bad(sock, BadRequest(431, "the request's head is too long"))
                return b"", b""
            if data:
                self._has_begun(sock, client)
            else:
                with self._lock:
                    self._idle[sock] = None
            try:
                left = IDLE_SECONDS if not data else deadline - time.monotonic()
                if left <= 0:
                    return b"", b""
                sock.settimeout(left)
                piece = sock.recv(8192)
            finally:
                with self._lock:
                    self._idle.pop(sock, None)
                sock.settimeout(SEND_SECONDS)
            if not piece:
                return b"", b""
            if not data:
                deadline = time.monotonic() + HEAD_SECONDS
                if not piece[:1].isupper():  # TLS where there is none: the client is told at once
                    self._bad(sock, BadRequest(400, "this is plain HTTP"))
                    return b"", b""
            data += piece
        if end > MAX_HEAD_BYTES:
            self._bad(sock, BadRequest(431, "the request's head is too long"))
            return b"", b""
        return data[:end], data[end + 4 :]

    def _bad(self, sock: socket.socket, error: BadRequest) -> None:
        code = "UNSUPPORTED" if error.status == 405 else "NAME_INVALID"
        answer = Answer.refusal(error.status, code, error.message)
        self._figures.requests.labels("bad", str(error.status)).inc()
        sock.sendall(head_of(answer, len(answer.body), keep=False) + answer.body)
        self._finish(sock)

    @staticmethod
    def _finish(sock: socket.socket) -> None:
        """Close so that the answer arrives also where the client has sent more than was read."""
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(1.0)
            for _ in range(64):
                if not sock.recv(65536):
                    return

    @staticmethod
    def _reset(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CUT)
