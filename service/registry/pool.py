"""Kept connections of one client, shared by its threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from service.errors import NetworkError
from service.registry.connection import Connection, Response, StaleConnection
from service.registry.connector import Connector
from service.registry.origin import Origin
from service.registry.timeouts import Timeouts

MAX_IDLE = 128  # connections kept per origin


class Pool:
    """Keeps connections per origin, last used first; never hands one to two threads."""

    def __init__(self, connector: Connector, timeouts: Timeouts) -> None:
        self.connector = connector
        self.timeouts = timeouts
        self._idle: dict[Origin, list[Connection]] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    def acquire(self, origin: Origin, *, fresh: bool = False) -> Connection:
        """Take a kept connection that is still quiet, or open one; raises as Connector.connect."""
        if os.getpid() != self._pid:  # forked: the parent's sockets are not ours to speak on
            self._lock = threading.Lock()
            self._idle = {}
            self._pid = os.getpid()
        if not fresh:
            kept = self._idle.get(origin)
            oldest = time.monotonic() - self.timeouts.idle_seconds
            while kept:
                try:
                    connection = kept.pop()
                except IndexError:  # another thread was faster
                    break
                if connection.idle_since >= oldest and connection.is_quiet():
                    return connection
                connection.close()
        return Connection(self.connector.connect(origin), origin, self.timeouts)

    def release(self, connection: Connection) -> None:
        """Keep a connection whose response was read to its end."""
        connection.give_back()
        connection.idle_since = time.monotonic()
        kept = self._idle.get(connection.origin)
        if kept is None:
            with self._lock:
                kept = self._idle.setdefault(connection.origin, [])
        if self._closed or len(kept) >= MAX_IDLE:
            connection.close()
        else:
            kept.append(connection)

    def exchange(
        self,
        origin: Origin,
        method: str,
        data: bytes,
        leave: Callable[[], None] | None = None,
    ) -> Response:
        """Send a whole request, read the response's head; `leave` is called when all is through.

        A kept connection that the other side had closed meanwhile is replaced: nothing was
        answered, and every request sent this way may be sent twice. Raises NetworkError and
        ProtocolError.
        """
        while True:
            connection = self.acquire(origin)
            kept = connection.used
            try:
                connection.send(data)
                connection.leave = leave
                return connection.receive(method, self.release)
            except StaleConnection:
                if kept:
                    connection.leave = None  # the request goes on, on another connection
                connection.close()
                if not kept:
                    raise
            except NetworkError:
                connection.close()
                self.purge(origin)  # what else is kept may be as dead (a NAT that forgot us)
                raise
            except BaseException:
                connection.close()
                raise

    def purge(self, origin: Origin) -> None:
        """Close what is kept for the origin."""
        with self._lock:
            kept = self._idle.pop(origin, [])
        for connection in kept:
            connection.close()

    def close(self) -> None:
        """Close all kept connections; those in use are closed when they come back."""
        self._closed = True
        for origin in list(self._idle):
            self.purge(origin)
