"""The API as a process of its own: real sockets, real signals."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from service.model.states import ExecutionState
from service.store.tables import executions
from tests.support.api_process import ROOT, ApiProcess
from tests.support.load import busy
from tests.support.processes import ManagedProcess, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiProcess]:
    made = ApiProcess(tmp_path)
    with made.process:
        made.process.wait_ready(made.ready)
        yield made
    made.services.close()


def test_rules_are_kept_and_run(server: ApiProcess) -> None:
    identity = server.run()

    status, body = server.ask("GET", f"/api/v1/executions/{identity}")

    assert (status, body["state"]) == (200, "pending")
    assert server.services.executions.get(identity).rule == "fleet"


def test_live_totals_end_with_the_execution(server: ApiProcess) -> None:
    identity = server.run()
    connection = server.connect()
    connection.request(
        "GET",
        f"/api/v1/executions/{identity}/events",
        headers={"Authorization": f"Bearer {server.token}"},
    )
    response = connection.getresponse()
    first = response.readline()

    def end(sql: Connection) -> None:
        state = ExecutionState.SUCCEEDED
        sql.execute(update(executions).where(executions.c.id == identity).values(state=state))

    server.services.database.write(end)
    rest = response.read().decode()
    connection.close()

    assert first == b"event: totals\n"
    assert "event: end" in rest


def test_chunked_body_above_a_megabyte_is_refused(server: ApiProcess) -> None:
    connection = server.connect()
    chunks = (b" " * 65536 for _ in range(20))
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    try:
        connection.request(
            "PUT", "/api/v1/rules/x", body=chunks, headers=headers, encode_chunked=True
        )
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        status = 413  # the server had answered and closed before all was sent
    connection.close()

    assert status == 413
    assert server.ask("GET", "/api/v1/rules/x")[0] == 404


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/v1/rules HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
def test_broken_requests_are_refused_and_the_server_lives_on(
    server: ApiProcess, head: bytes
) -> None:
    pid = server.process.pid
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(head)
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(4096)

    assert not answer or answer.split(b" ")[1][:1] == b"4"
    assert server.ready()
    assert server.process.pid == pid


def test_signal_ends_it_soon_though_somebody_watches(server: ApiProcess) -> None:
    identity = server.run()
    connection = server.connect()
    connection.request(
        "GET",
        f"/api/v1/executions/{identity}/events",
        headers={"Authorization": f"Bearer {server.token}"},
    )
    connection.getresponse().readline()

    code = server.process.stop(timeout=8 * busy())

    connection.close()
    assert code == 0


def test_killed_parent_leaves_no_child_on_its_port(server: ApiProcess) -> None:
    """The next API needs the port: a child that serves on would have it give up."""
    identity = server.run()
    connection = server.connect()
    path = f"/api/v1/executions/{identity}/events"
    connection.request("GET", path, headers={"Authorization": f"Bearer {server.token}"})
    assert connection.getresponse().readline() == b"event: totals\n"
    pid = server.process.pid
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    server.process.kill()

    wait_until(lambda: not Path(f"/proc/{child}/fd/0").exists(), 2, "the end of the child")
    connection.close()
    server.process.start()
    server.process.wait_ready(server.ready)


def test_log_is_json_lines_without_tokens(server: ApiProcess) -> None:
    server.ask("GET", "/api/v1/rules")
    server.process.stop()

    text = server.process.stderr_path.read_text("utf-8") + server.process.stdout_path.read_text(
        "utf-8"
    )

    assert [line for line in text.splitlines() if not line.startswith("{")] == []
    assert server.token not in text


def test_database_without_tables_is_told_at_once(tmp_path: Path) -> None:
    process = ManagedProcess(
        "api",
        [sys.executable, "-m", "api.serve"],
        log_directory=tmp_path,
        environment={**os.environ, "TRANSSHIP_DATABASE_URL": f"sqlite:///{tmp_path}/new.db"},
        cwd=ROOT,
    )
    with process:
        wait_until(lambda: not process.alive, 15)

    assert process.returncode == 2
    assert "transship db upgrade" in process.output()
