"""Child processes of tests: started, waited for by a condition, ended by pid, never left over."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import pytest

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long a test waits at least for what is to come. It costs nothing where all is well."""

PORT_SLICES = 16

# Runs in the child before the real program: it asks the kernel for a signal when the parent goes.
# It is a program of its own and not a preexec_fn because Python code between fork and exec may
# deadlock in a process that has threads. Credentials change first: a change clears the request.
_LAUNCHER = """
import ctypes, os, sys
parent, sig, uid, gid = (int(a) for a in sys.argv[1:5])
if gid >= 0:
    os.setgroups([gid]); os.setgid(gid)
if uid >= 0:
    os.setuid(uid)
ctypes.CDLL(None).prctl(1, sig, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(75)
try:
    os.execvp(sys.argv[5], sys.argv[5:])
except OSError as error:
    sys.exit(f"{sys.argv[5]}: {error}")
"""


def require(binary: str, *, alternatives: Sequence[str] = ()) -> str:
    """Path of a program that the test needs; skips the test, saying why, where it is missing.

    `alternatives` are glob patterns of absolute paths that are tried first.
    """
    for pattern in alternatives:
        found = sorted(Path("/").glob(pattern.lstrip("/")))
        if found:
            return str(found[-1])
    path = shutil.which(binary)
    if path is None:
        pytest.skip(f"{binary} is not installed (apt-get install it to run this test)")
    return path


def wait_until(
    condition: Callable[[], T], timeout: float = 10.0, what: str = "", *, bound: bool = False
) -> T:
    """Wait for `condition` to return something true and return it; fail after `timeout` seconds.

    They are what an idle machine takes with room to spare, and a busy one is given PATIENCE_SECONDS all
    the same: what comes late comes. Not where the time is part of what is asserted: `bound`.
    """
    timeout = timeout if bound else max(timeout, PATIENCE_SECONDS)
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"waited {timeout:g} s in vain for {name}; last value: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether a process is there and not only waits for its end to be noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on, and that nobody is given by chance until it is listened on.

    The kernel hands out those of its range to whoever asks for any, and to every outgoing connection: ours
    are below it, each lane of a run has some of its own, and none comes twice before all have come.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return int(probe.getsockname()[1])


def _own_ports() -> Iterator[int]:
    """Our ports in a circle, from anywhere; 0, which is any, where the kernel's range leaves no room."""
    low = 0
    with contextlib.suppress(OSError):
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first, dice = 20_000, random.SystemRandom()
    size = (low - first) // PORT_SLICES
    if size < 100:
        yield from itertools.repeat(0)
    lane = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    number = int(lane) if lane.isdigit() else dice.randrange(PORT_SLICES)
    begin = first + number % PORT_SLICES * size
    for step in itertools.count(dice.randrange(size)):
        yield begin + step % size


_ports = _own_ports()


def scratch_directory(name: str) -> Path:
    """A new directory, in memory where /dev/shm is there; those of dead test runs are removed."""
    shm = Path("/dev/shm")
    base = shm if shm.is_dir() and os.access(shm, os.W_OK) else Path(tempfile.gettempdir())
    for old in base.glob("transship-test-*"):
        with contextlib.suppress(IndexError, ValueError):
            if not Path("/proc", str(int(old.name.split("-")[2]))).exists():
                shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"transship-test-{os.getpid()}-{name}-", dir=base))


class ManagedProcess:
    """One child process. It dies when the *thread* that started it ends (PR_SET_PDEATHSIG).

    Start it therefore from the main thread or one that outlives it. Its stdout and stderr go to
    files of `log_directory` (`name.out`, `name.err`; appended over restarts).
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_directory: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        user: str | None = None,
        stop_signal: int = signal.SIGTERM,
        death_signal: int = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.stdout_path = log_directory / f"{name}.out"
        self.stderr_path = log_directory / f"{name}.err"
        self._environment = environment
        self._cwd = cwd
        self._user = user
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; it must not run already."""
        assert not self.alive, f"{self.name} runs already"
        uid = gid = -1
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            uid, gid = entry.pw_uid, entry.pw_gid
        numbers = [str(n) for n in (os.getpid(), int(self._death_signal), uid, gid)]
        with self.stdout_path.open("ab") as out, self.stderr_path.open("ab") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, *numbers, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(self._environment) if self._environment is not None else None,
                cwd=self._cwd,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        """Process id of the running or last process."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status; negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal to this process (not to its children)."""
        if self.alive and self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end; another thread may start it again meanwhile."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait(PATIENCE_SECONDS)

    def stop(self, timeout: float = 30.0) -> int | None:
        """End it politely (`stop_signal`), after `timeout` seconds by SIGKILL; the exit status."""
        self.send_signal(self._stop_signal)
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        return self.returncode

    def wait(self, timeout: float) -> int | None:
        """Wait for its end; raises subprocess.TimeoutExpired."""
        return None if self._process is None else self._process.wait(timeout)

    def wait_ready(self, ready: Callable[[], object], timeout: float = 90.0) -> None:
        """Wait for `ready()` to be true; fails at once, with its output, when the process ends."""

        def attempt() -> bool:
            if not self.alive:
                raise AssertionError(f"{self.name} ended with {self.returncode}:\n{self.output()}")
            with contextlib.suppress(OSError):
                return bool(ready())
            return False

        try:
            wait_until(attempt, timeout, f"{self.name} to be ready")
        except AssertionError:
            self.stop(1)
            raise

    def output(self, limit: int = 4000) -> str:
        """The last `limit` characters of stderr, then of stdout."""
        paths = [path for path in (self.stderr_path, self.stdout_path) if path.exists()]
        return "\n".join(p.read_bytes()[-limit:].decode(errors="replace") for p in paths)

    def __enter__(self) -> Self:
        return self if self.alive else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
