"""The harness's own servers start, answer, survive a strike and are gone afterwards."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.processes import ManagedProcess, wait_until
from tests.support.servers import PostgresServer, RealRegistry, RedisServer


@pytest.mark.parametrize("tcp", [False, True])
def test_redis_answers_forgets_and_is_gone(tcp: bool):
    with RedisServer(tcp=tcp) as server:
        with server.client() as client:
            client.set("a", 1)
            server.flushall()
            assert client.get("a") is None
        server.kill()
        assert not server.alive
        server.start()
        assert server.ready()
        pid = server.pid
    assert not Path("/proc", str(pid)).exists()
    assert not server.directory.exists()


def test_registry_logs_each_request_once_and_keeps_data_over_a_restart():
    with RealRegistry() as server:
        connection = http.client.HTTPConnection(server.host)
        connection.request("POST", "/v2/a/b/blobs/uploads/", headers={"Content-Length": "0"})
        assert connection.getresponse().read() == b""
        connection.close()
        entries = [a for a in server.access_log() if a.method == "POST"]
        assert [(a.path, a.status, a.bytes) for a in entries] == [
            ("/v2/a/b/blobs/uploads/", 202, 0)
        ]
        server.kill()
        server.start()
        assert len([a for a in server.access_log() if a.method == "POST"]) == 1
        server.clear_access_log()
        assert server.access_log() == []


def test_postgres_gives_empty_databases():
    with PostgresServer() as server:
        first, second = server.fresh_database(), server.fresh_database()
        assert first != second
        with psycopg.connect(first.replace("+psycopg", "")) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_a_child_dies_with_its_parent(tmp_path: Path):
    code = (
        "import sys, pathlib\n"
        "from tests.support.processes import ManagedProcess\n"
        "p = ManagedProcess('c', ['sleep', '100'], log_directory=pathlib.Path(sys.argv[1])).start()\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        comm = Path("/proc", str(child), "comm")
        wait_until(lambda: comm.read_text() == "sleep\n", 10, "the child's exec")
        parent.kill()
        parent.wait()

    def gone() -> bool:
        try:
            return "\nState:\tZ" in Path("/proc", str(child), "status").read_text()
        except OSError:
            return True

    wait_until(gone, 5, "the child's death")


def test_a_process_that_ends_early_is_reported_with_its_output(tmp_path: Path):
    process = ManagedProcess("x", ["sh", "-c", "echo why >&2; exit 3"], log_directory=tmp_path)
    process.start()
    with pytest.raises(AssertionError, match="ended with 3:\nwhy"):
        process.wait_ready(lambda: False)
    assert os.WEXITSTATUS(process.returncode << 8) == 3
