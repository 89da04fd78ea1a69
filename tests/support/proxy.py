"""A forward proxy for tests: CONNECT and the absolute form; keeps the head of every request."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """One thread a connection; `heads` are the request heads that it was sent in the clear.

    `status`: what CONNECT is answered with instead of a tunnel. `names`: addresses of hosts that this proxy
    alone resolves.
    """

    def __init__(
        self, status: int = 200, *, names: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        self._names = dict(names or {})
        self.heads: list[str] = []
        self.status = status
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()

    @property
    def lines(self) -> list[str]:
        """The request lines so far."""
        return [head.partition("\r\n")[0] for head in list(self.heads)]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        with client, contextlib.suppress(OSError, ValueError):
            head, rest = self._head(client)
            self.heads.append(head)
            method, target, _ = head.partition("\r\n")[0].split(" ")
            if method == "CONNECT":
                if self.status != 200:
                    client.sendall(f"HTTP/1.1 {self.status} No\r\n\r\n".encode())
                    return
                host, _, port = target.rpartition(":")
                with socket.create_connection((host.strip("[]"), int(port))) as server:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._pump(client, server)
                return
            parts = urlsplit(target)
            named = (str(parts.hostname), parts.port or 80)
            with socket.create_connection(self._names.get(named[0], named)) as server:
                while True:
                    plain = head.replace(f"{parts.scheme}://{parts.netloc}", "", 1)
                    server.sendall(plain.encode("latin-1") + rest)
                    self._pump(client, server, until_next=True)
                    head, rest = self._head(client)
                    self.heads.append(head)

    @staticmethod
    def _head(client: socket.socket) -> tuple[str, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                raise ValueError("gone")
            data += piece
        end = data.index(b"\r\n\r\n") + 4
        return data[:end].decode("latin-1"), data[end:]

    @staticmethod
    def _pump(client: socket.socket, server: socket.socket, *, until_next: bool = False) -> None:
        """Carry bytes both ways; `until_next`: until the client begins another request."""
        while True:
            readable, _, _ = select.select([client, server], [], [])
            if server in readable:
                piece = server.recv(65536)
                if not piece:
                    raise ValueError("gone")
                client.sendall(piece)
            elif client in readable:
                if until_next and client.recv(9, socket.MSG_PEEK).split(b" ")[0] in _METHODS:
                    return
                piece = client.recv(65536)
                if not piece:
                    raise ValueError("gone")
                server.sendall(piece)


_METHODS = {b"GET", b"HEAD", b"PUT", b"POST", b"PATCH", b"DELETE"}
