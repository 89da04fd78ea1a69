"""How a gateway sends to clients that take little at a time, and to those that take nothing."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.gateway.messages import Request
from api.gateway.server import Exchange

KIB = 1 << 10
PATIENCE = 3.0
"""Much longer than a busy machine keeps a thread waiting that sleeps a twentieth of a second."""


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The gateway's end, whose kernel takes some 256 KiB, and a client's that takes little."""
    with socket.socket() as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * KIB)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client.connect(listening.getsockname())
        served, _ = listening.accept()
        with served:
            served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * KIB)
            served.settimeout(30.0)
            yield served, client


def _exchange(sock: socket.socket, patience: float = PATIENCE) -> Exchange:
    return Exchange(sock, Request("GET", "/", {}, {}, keep=True), patience)


@pytest.mark.parametrize("way", ["memory", "file"])
def test_a_client_that_takes_a_piece_slowly_gets_all_of_it(
    ends: tuple[socket.socket, socket.socket], tmp_path: Path, way: str
) -> None:
    """There is no room for more for longer than nothing at all may be taken: a third of what waits has to go before."""
    served, client = ends
    body = random.Random(1).randbytes(512 * KIB)
    (tmp_path / "blob").write_bytes(body)
    got = bytearray()
    pause = threading.Event()

    def take() -> None:
        while piece := client.recv(KIB):
            got.extend(piece)
            if len(got) < 80 * KIB:  # 4 s
                pause.wait(0.05)

    thread = threading.Thread(target=take)
    thread.start()
    exchange = _exchange(served)
    descriptor = os.open(tmp_path / "blob", os.O_RDONLY)
    try:
        if way == "memory":
            exchange.send(memoryview(body))
        else:
            exchange.send_file(descriptor, 0, len(body))
    finally:
        os.close(descriptor)
        served.shutdown(socket.SHUT_WR)
        thread.join()
    assert bytes(got) == body


def test_a_client_that_takes_nothing_is_given_up(
    ends: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    served, _ = ends
    with pytest.raises(TimeoutError, match="takes nothing"):
        _exchange(served, 0.1).send(memoryview(bytes(2048 * KIB)))
    (tmp_path / "blob").write_bytes(bytes(2048 * KIB))
    with (tmp_path / "blob").open("rb") as file, pytest.raises(TimeoutError, match="takes nothing"):
        _exchange(served, 0.1).send_file(file.fileno(), 0, 2048 * KIB)
