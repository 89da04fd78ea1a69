"""Child processes that die with their parent, are started again when they die, and end in order."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.telemetry import get_logger

ENGINE_VARIABLE = "TRANSSHIP_ENGINE_DIR"
PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.1
MAX_RESTART_PAUSE_SECONDS = 5.0
HOPELESS_FAILURES = 8

log = get_logger("children")
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it is gone (Linux)."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@dataclass(slots=True)
class Child:
    """A process to keep running."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path
    on_start: Callable[[], None] | None = None
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    retry_at: float = 0.0
    started_at: float = field(default=0.0)

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "it says nothing")


class Children:
    """Keeps children running; all are started from threads that live as long as this object."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._monitor: threading.Thread | None = None

    def start(self, child: Child) -> None:
        """Start a child and keep it running."""
        with self._lock:
            _launch(child)
            self._children.append(child)
        if self._monitor is None:
            self._monitor = threading.Thread(target=self._watch, name="children", daemon=True)
            self._monitor.start()

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        with self._lock:
            return {c.name: c.process.pid for c in self._children if c.process is not None}

    def failing(self) -> Child | None:
        """Return a child that dies again and again right after its start, if there is one."""
        with self._lock:
            return next((c for c in self._children if c.failures >= HOPELESS_FAILURES), None)

    def stop(self, grace_seconds: float) -> None:
        """End all: the last started first, each by SIGTERM, and SIGKILL when the grace is over.

        Without a grace all are killed at once.

        The monitor outlives them: the kernel kills a child when the thread that started it ends.
        """
        self._stop.set()
        deadline = time.monotonic() + grace_seconds
        with self._lock:
            for child in reversed(self._children):
                _end(child, deadline, at_once=grace_seconds == 0)
        self._ended.set()
        if self._monitor is not None:
            self._monitor.join()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            with self._lock:
                for child in self._children:
                    if not self._stop.is_set():
                        self._look(child)
        self._ended.wait()

    def _look(self, child: Child) -> None:
        process = child.process
        now = time.monotonic()
        if process is not None and process.poll() is not None:
            child.process = None
            if now - child.started_at > MAX_RESTART_PAUSE_SECONDS:
                child.failures = 0
            pause = (
                0.0
                if child.failures == 0
                else min(MAX_RESTART_PAUSE_SECONDS, 0.2 * 2**child.failures)
            )
            child.failures += 1
            child.retry_at = now + pause
            log.warning("child_died", child=child.name, code=process.returncode, pause=pause)
        if child.process is None and now >= child.retry_at:
            _launch(child)
            if child.on_start is not None:
                child.on_start()


def _launch(child: Child) -> None:
    with child.log_file.open("ab") as output:
        child.process = subprocess.Popen(  # noqa: S603 - our own programs
            list(child.argv),
            env=dict(child.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no locks
            start_new_session=True,
        )
    child.started_at = time.monotonic()


def _end(child: Child, deadline: float, *, at_once: bool) -> None:
    process = child.process
    if process is None or process.poll() is not None:
        return
    if at_once:
        process.kill()
        process.wait()
        return
    process.terminate()
    try:
        process.wait(timeout=max(0.2, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        log.warning("child_killed", child=child.name)
        process.kill()
        process.wait()


def end_leftovers(engine_dir: Path) -> list[int]:
    """Kill processes of an earlier run on the same directory: they would swallow this run's tasks."""
    marker = f"{ENGINE_VARIABLE}={engine_dir}".encode()
    ended = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marker in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
                ended.append(int(entry.name))
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}/environ").exists() and _has_memory(pid) for pid in ended):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return ended


def _has_memory(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False
