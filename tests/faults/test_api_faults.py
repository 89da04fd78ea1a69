"""Clients that are slow, go away, or wait while the API is to end: rows F004, F005, F006. Raw sockets, a real process."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from api.serve_worker import MAX_COLLECTED_BY_ALL, RECEIVE_SECONDS
from tests.support.api_process import ApiProcess
from tests.support.load import busy
from tests.support.processes import children_of, wait_until

pytestmark = pytest.mark.timeout(180)

SLOW = 100


@contextlib.contextmanager
def an_api(folder: Path) -> Iterator[ApiProcess]:
    made = ApiProcess(folder, api_concurrency=100)
    with made.process:
        made.process.wait_ready(made.ready)
        yield made
    made.services.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """One for all: whoever was slow or went away has to have left it as it was."""
    with an_api(tmp_path_factory.mktemp("api")) as made:
        yield made


def connected(server: ApiProcess, stack: contextlib.ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))


BEGINNINGS = {
    "nothing": b"",
    "half-a-head": b"GET /api/v1/rules HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "half-a-body": b"PUT /api/v1/rules/x HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{",
    "half-a-chunk": b"PUT /api/v1/rules/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    "told-to-go-on": b"PUT /api/v1/rules/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 500\r\n\r\n",
}  # fmt: skip


class Drip:
    """Sends a byte a second on many connections until it is left."""

    def __init__(self, socks: list[socket.socket]) -> None:
        self._socks = socks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0

    def _run(self) -> None:
        while not self._stop.wait(1):
            self.rounds += 1
            for sock in self._socks:
                with contextlib.suppress(OSError):
                    sock.send(b"a")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def slow_senders(
    server: ApiProcess, stack: contextlib.ExitStack, beginning: bytes
) -> list[socket.socket]:
    socks = [connected(server, stack) for _ in range(SLOW)]
    for sock in socks:
        sock.sendall(beginning)
    return socks


def answers_soon(server: ApiProcess) -> float:
    """Ask ten times, each on a connection of its own; how long the slowest took."""
    slowest = 0.0
    for _ in range(10):
        began = time.monotonic()
        status, _ = server.ask("GET", "/api/v1/rules")
        assert status == 200
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_f005_slow_senders_hold_up_nobody(server: ApiProcess, beginning: str) -> None:
    with contextlib.ExitStack() as stack:
        socks = slow_senders(server, stack, BEGINNINGS[beginning])
        with Drip([] if beginning == "nothing" else socks) as drip:
            assert answers_soon(server) < RECEIVE_SECONDS / 3 * busy()
            wait_until(lambda: drip.rounds >= 2, 10, "two rounds of bytes")
            assert answers_soon(server) < RECEIVE_SECONDS / 3 * busy()
    assert server.ready()


def test_f005_what_slow_senders_have_sent_is_bounded(server: ApiProcess) -> None:
    """A megabyte each, and never the last byte: who has sent most is cut when all have sent too much."""
    head = b"PUT /api/v1/rules/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n"
    with contextlib.ExitStack() as stack:
        socks = slow_senders(server, stack, head)
        before = sum(rss(pid) for pid in children_of(server.process.pid))
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.sendall(b"a" * 1_000_000)
        assert answers_soon(server) < RECEIVE_SECONDS / 3 * busy()
        grown = sum(rss(pid) for pid in children_of(server.process.pid)) - before
    assert grown < 1.5 * MAX_COLLECTED_BY_ALL


def rss(pid: int) -> int:
    """Return the resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.mark.nightly
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_f005_slow_senders_are_cut(server: ApiProcess, beginning: str) -> None:
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        socks = slow_senders(server, stack, BEGINNINGS[beginning])
        with Drip([] if beginning == "nothing" else socks):
            for sock in socks:
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(4096):
                        pass
        seconds = time.monotonic() - began
    assert RECEIVE_SECONDS - 2 < seconds < RECEIVE_SECONDS + 10
    assert server.ready()


def worker_pid(server: ApiProcess) -> int:
    (pid,) = children_of(server.process.pid)
    return pid


def open_sockets(server: ApiProcess) -> int:
    found = 0
    for link in Path(f"/proc/{worker_pid(server)}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found += str(link.readlink()).startswith("socket:")
    return found


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize(
    ("count", "watchers"), [(300, False), pytest.param(1000, True, marks=pytest.mark.nightly)]
)
def test_f006_clients_that_go_away_leave_nothing_behind(
    server: ApiProcess, count: int, watchers: bool
) -> None:
    """A watcher that went is noticed when it is told next that nothing has changed: a quarter of a minute."""
    identity = server.run()
    watch = f"/api/v1/executions/{identity}/events"
    paths = ("/api/v1/rules", "/api/v1/executions", watch if watchers else "/openapi.json")
    answers_soon(server)
    before = open_sockets(server)
    pid = worker_pid(server)

    for number in range(count):
        request = f"GET {paths[number % 3]} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        sock.sendall(request.encode())
        if number % 10 == 0:
            assert sock.recv(20), "no answer had begun"
        reset(sock)

    wait_until(lambda: open_sockets(server) <= before + 5, 30, "the connections to be gone")
    assert answers_soon(server) < RECEIVE_SECONDS / 3 * busy()
    assert worker_pid(server) == pid
    with contextlib.ExitStack() as stack:  # as many watch again as may
        watching = connected(server, stack)
        watching.sendall(
            f"GET {watch} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode()
        )
        assert b" 200 " in watching.recv(200)


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[ApiProcess]:
    with an_api(tmp_path) as made:
        yield made


def test_f004_an_api_that_is_asked_to_end_answers_what_it_holds(ending: ApiProcess) -> None:
    """Fifty requests wait for a lock of the database when it is told; nobody new is let in."""
    server = ending
    server.run()
    path = server.settings.database_url.removeprefix("sqlite:///")
    holder = sqlite3.connect(path, timeout=60, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(50) as pool:
        body = {"url": "https://another.example"}
        asked = [
            pool.submit(server.ask, "PUT", f"/api/v1/registries/r{number}", body)
            for number in range(50)
        ]
        wait_until(lambda: open_sockets(server) >= 50, 20, "fifty connections")
        server.process.send_signal(signal.SIGTERM)

        def refuses() -> bool:
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
            except OSError:
                return True
            return False

        holder.execute("ROLLBACK")
        answers = [one.result()[0] for one in asked]
    holder.close()

    assert answers == [201] * 50
    assert server.process.wait(60) == 0
    assert refuses()
    for number in range(50):
        assert server.services.registries.get(f"r{number}")
