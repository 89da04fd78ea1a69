"""The real servers that tests run against, each on 127.0.0.1 or a unix socket, one class a server.

All are context managers that are ready when entered and gone when left. `stop`, `kill` and `start`
work in between: data, port and URL stay, so a test may strike a server and bring it back.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg
import redis

from tests.support.processes import (
    ManagedProcess,
    children_of,
    free_port,
    is_running,
    require,
    scratch_directory,
    wait_until,
)

__all__ = [
    "Access",
    "ManagedProcess",
    "PostgresServer",
    "RealRegistry",
    "RedisServer",
    "free_port",
    "require",
    "scratch_directory",
    "wait_until",
]


class _Server:
    """What all servers have: a directory, one process, start, stop, kill."""

    _process: ManagedProcess
    directory: Path

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        self._process.start()
        self._process.wait_ready(self.ready)
        return self

    def ready(self) -> bool:
        """Whether the server answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the server politely; its data stay."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL the server; its data stay."""
        self._process.kill()

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process.alive

    def close(self) -> None:
        """End the server and remove its data."""
        self._process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


class RedisServer(_Server):
    """A redis-server of its own, without persistence, on a unix socket or (`tcp=True`) a port.

    `url` is for redis-py, `broker_url` for Celery (they differ for sockets).
    """

    def __init__(self, *, tcp: bool = False, arguments: Sequence[str] = ()) -> None:
        binary = require("redis-server")
        self.directory = scratch_directory("redis")
        self.socket_path = self.directory / "redis.sock"
        if tcp:
            self.port = free_port()
            self.url = self.broker_url = f"redis://127.0.0.1:{self.port}/0"
            place = ["--bind", "127.0.0.1", "--port", str(self.port)]
        else:
            self.port = 0
            self.url = f"unix://{self.socket_path}"
            self.broker_url = f"redis+socket://{self.socket_path}"
            place = ["--port", "0", "--unixsocket", str(self.socket_path)]
        options = ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        self._process = ManagedProcess(
            "redis", [binary, *place, *options, *arguments], log_directory=self.directory
        )

    def client(self) -> redis.Redis:
        """A new client; the caller closes it."""
        return redis.Redis.from_url(self.url)

    def ready(self) -> bool:
        """Whether PING is answered."""
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def flushall(self) -> None:
        """Lose everything, as FLUSHALL does."""
        with self.client() as client:
            client.flushall()


@dataclass(frozen=True, slots=True)
class Access:
    """One line of a registry's access log; `path` includes the query, `bytes` are body bytes sent."""

    method: str
    path: str
    status: int
    bytes: int


_COMBINED = re.compile(r'^\S+ \S+ \S+ \[[^\]]*\] "(\S+) (\S+) [^"]*" (\d{3}) (\d+|-) ')


class RealRegistry(_Server):
    """Debian's docker-registry (distribution 2.8.2) with deletes on and an access log.

    `program` is another build of distribution. `configuration` is merged, one level deep, into the server's; `cache=False` switches the blob
    descriptor cache off, without which the server answers HEAD honestly after a garbage collection.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        cache: bool = True,
        configuration: Mapping[str, Mapping[str, object]] | None = None,
        program: str = "docker-registry",
    ) -> None:
        binary = require(program)
        self.directory = scratch_directory("registry")
        self.port = free_port() if port is None else port
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self.storage_path = self.directory / "data"
        storage: dict[str, object] = {
            "filesystem": {"rootdirectory": str(self.storage_path), "maxthreads": 100},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        }
        if cache:
            storage["cache"] = {"blobdescriptor": "inmemory"}
        config: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": False}},
            "storage": storage,
            "http": {"addr": self.host, "secret": secrets.token_hex(16)},
        }
        for section, values in (configuration or {}).items():
            existing = config.get(section)
            base = existing if isinstance(existing, dict) else {}
            config[section] = {**base, **values}
        path = self.directory / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        self._sentinels = itertools.count()
        self._process = ManagedProcess(
            "registry",
            [binary, "serve", str(path)],
            log_directory=self.directory,
            environment={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )

    def ready(self) -> bool:
        """Whether the server answers GET /v2/ (401 counts: it asks for credentials)."""
        return self._get("/v2/") in (200, 401)

    def _get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def access_log(self) -> list[Access]:
        """Every request so far, in order of completion; the harness's own are left out.

        A line is written after the answer; a request of our own behind it shows that it is there.
        """
        if self.alive:
            mark = f"/v2/?mark={next(self._sentinels)}"
            self._get(mark)
            wait_until(
                lambda: f"GET {mark} " in self._process.stdout_path.read_text(),
                5,
                "the registry's access log",
            )
        entries = []
        for line in self._process.stdout_path.read_text().splitlines():
            found = _COMBINED.match(line)
            if found is None or "/v2/?mark=" in line:
                continue
            method, path, status, size = found.groups()
            entries.append(Access(method, path, int(status), 0 if size == "-" else int(size)))
        return entries

    def clear_access_log(self) -> None:
        """Forget all requests so far."""
        self.access_log()
        os.truncate(self._process.stdout_path, 0)

    def blob_path(self, digest: str) -> Path:
        """Where the server keeps the bytes of a blob or manifest."""
        algorithm, _, hexadecimal = digest.partition(":")
        blobs = self.storage_path / "docker/registry/v2/blobs"
        return blobs / algorithm / hexadecimal[:2] / hexadecimal / "data"

    def collect_garbage(self) -> None:
        """Run the server's garbage collector beside it, as operators do."""
        command = [*self._process.argv[:1], "garbage-collect", str(self.directory / "config.yml")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


class PostgresServer(_Server):
    """A PostgreSQL cluster of its own without fsync; run as `postgres` when we are root."""

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        where = "/usr/lib/postgresql/*/bin/"
        initdb = require("initdb", alternatives=[where + "initdb"])
        binary = require("postgres", alternatives=[where + "postgres"])
        self.directory = scratch_directory("postgres")
        self.port = free_port()
        user = "postgres" if os.getuid() == 0 else None
        if user is not None:
            shutil.chown(self.directory, user, user)
        data = self.directory / "data"
        flags = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        init = ManagedProcess(
            "initdb",
            [initdb, "-D", str(data), *flags],
            log_directory=self.directory,
            cwd="/",
            user=user,
        ).start()
        if init.wait(60) != 0:
            raise AssertionError(f"initdb failed:\n{init.output()}")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "dynamic_shared_memory_type": "mmap",
            **(settings or {}),
        }
        arguments = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        self._databases = itertools.count(1)
        self._process = ManagedProcess(
            "postgres",
            [binary, "-D", str(data), *arguments],
            log_directory=self.directory,
            cwd="/",
            user=user,
            stop_signal=signal.SIGINT,  # fast shutdown
            death_signal=signal.SIGQUIT,  # immediate shutdown: its children go with it
        )

    def kill(self) -> None:
        """SIGKILL the server, and wait for its backends: they notice by themselves, and serve till then."""
        backends = children_of(self.pid)
        super().kill()
        wait_until(lambda: not any(is_running(pid) for pid in backends), what="the backends' end")

    def dsn(self, database: str = "postgres") -> str:
        """Address for psycopg itself."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def ready(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def url(self) -> str:
        """SQLAlchemy address of the database `postgres`; see fresh_database for one per test."""
        return self._sqlalchemy("postgres")

    def _sqlalchemy(self, database: str) -> str:
        return self.dsn(database).replace("postgresql://", "postgresql+psycopg://", 1)

    def fresh_database(self) -> str:
        """Create an empty database; its SQLAlchemy address."""
        name = f"transship_{next(self._databases)}"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self._sqlalchemy(name)
