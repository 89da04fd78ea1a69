"""The processes of one API share its clients' connections evenly, and none waits for one that hangs."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.api_process import ApiProcess
from tests.support.processes import children_of, wait_until
from tests.support.servers import PostgresServer

CONNECTIONS = 16
ESTABLISHED = "01"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiProcess]:
    with PostgresServer() as postgres:
        server = ApiProcess(tmp_path, database_url=postgres.fresh_database())
        with server.process:
            server.process.wait_ready(server.ready)
            if len(os.sched_getaffinity(0)) == 1:
                pytest.skip("with one core there is one process, and nothing to share")
            wait_until(lambda: all_serve(server), 30, "an answer of each process")
            wait_until(lambda: not any(counts(server)), what="the end of those connections")
            yield server
        server.services.close()


def all_serve(server: ApiProcess) -> bool:
    """Whether each process has taken one of some connections: all have started then."""
    with ExitStack() as stack:
        for connection in connect(server, stack):
            ask(connection)
        return all(counts(server))


def connections_of(pid: int, port: int) -> int:
    """How many clients this process has accepted and not let go: its sockets that the kernel calls established."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in table if row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED}
    held = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held += str(descriptor.readlink()).removeprefix("socket:[").rstrip("]") in inodes
        except FileNotFoundError:
            continue  # closed while we looked
    return held


def counts(server: ApiProcess) -> list[int]:
    return [connections_of(pid, server.port) for pid in children_of(server.process.pid)]


def connect(server: ApiProcess, stack: ExitStack) -> list[http.client.HTTPConnection]:
    """Open all connections before any of them asks, as a client with a pool does."""
    opened = [server.connect() for _ in range(CONNECTIONS)]
    for connection in opened:
        stack.callback(connection.close)
        connection.connect()
    return opened


def ask(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    response.read()
    return response.status


def test_connections_that_come_at_once_are_shared_evenly(server: ApiProcess) -> None:
    with ExitStack() as stack:
        opened = connect(server, stack)
        assert [ask(connection) for connection in opened] == [200] * CONNECTIONS
        shares = counts(server)

    assert sum(shares) == CONNECTIONS
    assert min(shares) >= CONNECTIONS // len(shares) - 2, shares


def test_new_connections_do_not_wait_for_a_process_that_hangs(server: ApiProcess) -> None:
    hung, *others = children_of(server.process.pid)
    os.kill(hung, signal.SIGSTOP)  # it has the fewest connections from now on
    try:
        with ExitStack() as stack:
            opened = connect(server, stack)
            assert [ask(connection) for connection in opened] == [200] * CONNECTIONS
            assert sum(connections_of(pid, server.port) for pid in others) == CONNECTIONS
    finally:
        os.kill(hung, signal.SIGCONT)
