"""The API: gunicorn with threads, `python -m api.serve`.

Over PostgreSQL one process a core, at most four: triggers are bound by the lock of one interpreter
(`python -m bench.accept` counts them). Over SQLite one: it has one writer at a time anyway.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from api.app import create_app
from api.context import KEY
from api.engine.children import die_with_parent
from api.serve_share import Shares
from api.serve_worker import PatientWorker
from service import tracing
from service.bootstrap import open_services
from service.errors import TransshipError
from service.replication.heartbeat import Heartbeat
from service.settings import Settings
from service.telemetry import configure_logging
from workers.signatures import QueuePublisher

THREADS = 32
"""Of all processes: each thread may hold a connection to PostgreSQL, which has 100 by default."""

MIN_THREADS = 8
SWITCH_SECONDS = 0.0005
"""Python's 5 ms would let the one writer thread wait behind busy requests at each answer of SQL."""

GRACE_SECONDS = 5
MAX_PROCESSES = 4


def processes(settings: Settings) -> int:
    """Return how many processes serve."""
    if settings.database_url.startswith("sqlite"):
        return 1
    return min(MAX_PROCESSES, len(os.sched_getaffinity(0)))


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn, set up by our settings alone: no file and no variable of its own is read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.heartbeat: Heartbeat | None = None
        self.end_traces: Callable[[], None] | None = None
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""
        places = Places(processes(self._settings))
        values: dict[str, Any] = {
            "bind": self._settings.listen,
            "workers": processes(self._settings),
            "worker_class": PatientWorker,
            "threads": max(MIN_THREADS, THREADS // processes(self._settings)),
            "keepalive": 15,
            "timeout": 60,
            "graceful_timeout": GRACE_SECONDS,
            "limit_request_line": 8190,
            "limit_request_field_size": 8190,
            "limit_request_fields": 64,
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": "api.serve_log.JsonLogger",
            "pre_fork": places.give,
            "child_exit": places.take_back,
            "post_fork": _stay_no_longer,
            "post_worker_init": _watch_signals,
            "worker_exit": _close,
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Open the services in the worker, after the fork, and return the application.

        Its row of processes says that somebody works with the database: nobody moves it then.
        """
        services = open_services(self._settings)
        self.heartbeat = Heartbeat(
            self._settings, services.state, services.boot, kind="api", region=self._settings.region
        )
        self.heartbeat.start()
        self.end_traces = tracing.start(self._settings, "api")
        publisher = QueuePublisher(services.redis) if self._settings.redis_url else None
        return create_app(services, publisher)


class Places:
    """Gives each process a place in the table of connections: one that no living process has."""

    def __init__(self, count: int) -> None:
        self._shares = Shares(count + 1)  # while one is ending, its successor has begun

    def give(self, server: Any, worker: Any) -> None:
        """Give a process its place, before the fork."""
        taken = {one.place for one in server.WORKERS.values()}
        free = [place for place in range(len(self._shares)) if place not in taken]
        worker.take_place(self._shares, free[0] if free else 0)

    def take_back(self, _server: Any, worker: Any) -> None:
        """Have the place of a process that has ended."""
        self._shares.leave(worker.place)


def _stay_no_longer(_server: Any, worker: Any) -> None:
    """End with a parent that was killed: its successor needs the port, and gives up after five seconds."""
    die_with_parent()
    if os.getppid() != worker.ppid:
        os._exit(1)


def _watch_signals(worker: Any) -> None:
    """End live streams as soon as the worker is told to go: it waits for requests under way."""
    closing = worker.wsgi.extensions[KEY].closing
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        before = signal.getsignal(number)

        def handle(received: int, frame: Any, before: Any = before) -> None:
            closing.set()
            if callable(before):
                before(received, frame)

        signal.signal(number, handle)


def _close(_server: Any, worker: Any) -> None:
    app = getattr(worker, "wsgi", None)
    if worker.app.heartbeat is not None:
        worker.app.heartbeat.stop()
    if app is not None:
        app.extensions[KEY].closing.set()
        app.extensions[KEY].services.close()
    if worker.app.end_traces is not None:
        worker.app.end_traces()


def main() -> int:
    """Serve until a signal comes; returns the exit code."""
    try:
        sys.setswitchinterval(SWITCH_SECONDS)
        settings = Settings.from_env()
        configure_logging(settings.log_level)
        open_services(settings).close()  # say what is wrong here, not in a worker that restarts
    except TransshipError as error:
        sys.stderr.write(f"transship api: {error}\n{error.hint}\n".rstrip("\n") + "\n")
        return 2
    Server(settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
