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
from http import HTTPStatus
from typing import ClassVar, Final

from api.samples.http_messages import (
    PIECE,
    Access,
    BadRequestError,
    Bytes,
    ConnectionLostError,
    Request,
    Response,
    Wire,
    WireFault,
    parse_head,
)

_CUT: Final = 499  # status in the log for a request whose client went away
_SMALL: Final = 16 << 10
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

Handler = Callable[[Request], Response]


class HttpServer:
    """Listens at once, serves from `start` on. `handler` is called on the connection's thread.

    `watchers` are told of every server that is made, for tests that read what all of them are asked.
    """

    watchers: ClassVar[list[Callable[[HttpServer], None]]] = []

    def __init__(
        self,
        handler: Handler,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        *,
        tls: ssl.SSLContext | None = None,
        on_access: Callable[[Access], None] | None = None,
        server_name: str = "",
    ) -> None:
        self.handler = handler
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
        for watcher in self.watchers:
            watcher(self)

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
            wire = Wire(sock)
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

    def _one(self, wire: Wire, number: int) -> bool:
        """Serve one request; False when the connection is to be closed."""
        try:
            head = wire.head()
            if head is None:
                return False
            started = time.monotonic()
            request = parse_head(head, wire, number)
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
            response = self.handler(request)
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
