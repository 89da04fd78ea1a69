"""A server that answers with the very bytes a test wrote down."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Self

Answer = bytes | Callable[[socket.socket], None]


class ScriptedServer:
    """Each connection takes the next script: one answer a request; then it is closed.

    Requests are read up to the end of their head and their Content-Length. The last script serves
    all further connections.
    """

    def __init__(self, *scripts: Sequence[Answer]) -> None:
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[bytes] = []
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._sockets.append(sock)
            self._start(self._serve, sock, script)

    def _serve(self, sock: socket.socket, script: Sequence[Answer]) -> None:
        with sock, contextlib.suppress(OSError):
            for answer in script:
                request = _read_request(sock)
                if not request:
                    return
                self.requests.append(request)
                if callable(answer):
                    answer(sock)
                else:
                    sock.sendall(answer)


def _read_request(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            while len(body) < int(value):
                piece = sock.recv(65536)
                if not piece:
                    return b""
                body += piece
    return head + b"\r\n\r\n" + body
