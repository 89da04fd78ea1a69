"""A TCP proxy before Redis or PostgreSQL, one for each role of client, so that one role alone is cut off.

    with TcpProxy(redis.port) as way:
        way.blackhole()      # connections stay open, nothing goes through
        way.heal()

Modes: `heal` (all goes through), `refuse` (nobody listens; what is open is reset), `reset` (what is open
is reset once, new connections work), `blackhole` (open and silent, both ways), `half_open` (what the
client sends arrives, no answer comes back), `forget` (what is open is silent for good, new connections
work), `slow` (seconds before each piece) and `cut_after` (reset after so many bytes of the client's). `cuts` counts the connections that were reset, `pieces` what passed.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Self

from tests.support.processes import free_port

_PIECE = 64 << 10


class TcpProxy:
    """Forwards one port, or a unix socket, until told otherwise; listens on `host`.

    The port is one of 127.0.0.1, or of `to`.
    """

    def __init__(
        self, target: int | str, *, host: str = "127.0.0.1", to: str = "127.0.0.1"
    ) -> None:
        self._target = target
        self._to = to
        self._host = host
        self._listener: socket.socket | None = None
        self.port = 0
        self._lock = threading.Lock()
        self._open: dict[socket.socket, socket.socket] = {}  # client -> server
        self._forgotten: set[socket.socket] = set()
        self._mode = "through"
        self._changed = threading.Condition()
        self._closed = False
        self._delay = 0.0
        self._cut_after: int | None = None
        self.cuts = 0
        self.pieces = 0

    # ---- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._close_listener()
        self._closed = True
        self._reset_all()
        self._set("through")

    # ---- modes -----------------------------------------------------------------------------------

    def heal(self) -> None:
        """Let everything through again; what was silent goes on."""
        self._delay, self._cut_after = 0.0, None
        self._set("through")
        if self._listener is None:
            self._listen()

    def refuse(self) -> None:
        """Stop listening and reset what is open."""
        self._close_listener()
        self._reset_all()

    def reset(self) -> None:
        """Reset what is open; new connections work."""
        self._reset_all()

    def blackhole(self) -> None:
        """Keep connections open and let nothing through; new ones are accepted and silent, too."""
        self._set("blackhole")

    def half_open(self) -> None:
        """Let requests through and no answers."""
        self._set("half_open")

    def forget(self) -> int:
        """Have what is open be silent for good, as a NAT that forgot it; how many there were."""
        with self._lock:
            pairs = list(self._open.items())
        for pair in pairs:
            self._forgotten.update(pair)
        return len(pairs)

    def slow(self, seconds: float) -> None:
        """Wait so long before each piece."""
        self._delay = seconds

    def cut_after(self, count: int) -> None:
        """Reset a connection, once, as soon as its client has sent so many bytes from now on."""
        self._cut_after = count

    def lead_to(self, target: int) -> None:
        """Lead new connections to another port, and reset what is open: a server took another's place."""
        self._target = target
        self._reset_all()

    # ---- connections -----------------------------------------------------------------------------

    def _listen(self) -> None:
        place = (
            self._host,
            self.port or free_port(self._host),
        )  # nobody else's while it is refused
        self._listener = socket.create_server(place, backlog=256)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            self._reset_one(client)
            return
        for one in (client, server):
            with contextlib.suppress(OSError):  # a unix socket has no such option
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open[client] = server
        back = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
        back.start()
        self._pump(client, server, True)
        back.join()
        with self._lock:
            self._open.pop(client, None)
        client.close()
        server.close()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection((self._to, self._target), 10)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        return server

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        try:
            source.settimeout(None)
            while piece := source.recv(_PIECE):
                if self._delay:
                    time.sleep(self._delay)
                with self._changed:
                    self._changed.wait_for(lambda: self._lets_through(source, upwards=upwards))
                if source.fileno() < 0:
                    return
                piece, ends = self._cut(piece) if upwards else (piece, False)
                sink.sendall(piece)
                self.pieces += 1
                if ends:
                    self._reset_pair(source, sink)
                    return
        except OSError:
            pass
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _lets_through(self, source: socket.socket, *, upwards: bool) -> bool:
        """Whether a piece may go on, or nobody is there any more."""
        silent = (
            self._mode == "blackhole"
            or (self._mode == "half_open" and not upwards)
            or source in self._forgotten
        )
        return not silent or source.fileno() < 0 or self._closed

    def _set(self, mode: str) -> None:
        with self._changed:
            self._mode = mode
            self._changed.notify_all()

    def _cut(self, piece: bytes) -> tuple[bytes, bool]:
        """Return what of a piece goes on, and whether its connection is the one that is reset.

        One connection is; a piece that others send meanwhile goes on whole.
        """
        with self._lock:
            if self._cut_after is None:
                return piece, False
            left = self._cut_after - len(piece)
            self._cut_after = left if left > 0 else None
        return (piece, False) if left > 0 else (piece[: left + len(piece)], True)

    def _reset_all(self) -> None:
        with self._lock:
            pairs = list(self._open.items())
        for client, server in pairs:
            self._reset_pair(client, server)

    def _reset_pair(self, *both: socket.socket) -> None:
        self.cuts += 1
        for one in both:
            self._reset_one(one)
        with self._changed:
            self._changed.notify_all()

    @staticmethod
    def _reset_one(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)  # wakes whoever reads from it, who closes it
