"""The engine of one machine: embedded Redis, SQLite and worker processes under one roof."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from api.engine import redis_server
from api.engine.children import ENGINE_VARIABLE, Child, Children, end_leftovers
from api.engine.data_dir import DataDir
from service.bootstrap import Services
from service.settings import Settings
from service.telemetry import configure_logging, get_logger

REGION = "local"
"""Where this machine is, unless TRANSSHIP_REGION names another region: registries are reached from there."""

STOP_GRACE_SECONDS = 30.0

log = get_logger("machine")


IMPATIENT = {
    "TRANSSHIP_OUTAGE_PATIENCE_SECONDS": "15",
    "TRANSSHIP_ROTATION_PATIENCE_SECONDS": "0",
}
"""Somebody waits for this command, and can start it again."""


class Machine:
    """Redis first, then SQL, then workers; children end with this process, however it ends."""

    def __init__(
        self,
        data: Path | None,
        *,
        command: str,
        environ: Mapping[str, str] | None = None,
        task_events: bool = False,
        alone: bool = False,
    ) -> None:
        """`alone`: this process asks nothing of Redis before it starts workers."""
        self._environ = dict(os.environ if environ is None else environ)
        self.data = DataDir(data)
        self._command = command
        self._task_events = task_events
        self._alone = alone
        self.children = Children()
        self.settings = Settings()
        self._services: Services | None = None
        self._log: IO[str] | None = None

    def start(self, workers: int = 1) -> None:
        """Bring everything up. Raises EngineError and InvalidConfiguration."""
        self.data.acquire(self._command)
        self._log = (self.data.logs / f"{self._command}.log").open("a", encoding="utf-8")
        configure_logging(self._environ.get("TRANSSHIP_LOG_LEVEL", "INFO"), self._log)
        leftovers = end_leftovers(self.data.path)
        if leftovers:
            log.warning("leftovers_ended", pids=leftovers)
        self.settings = Settings.from_env(
            {**(IMPATIENT if self._alone else {}), **self._environ},
            database_url=self.data.database_url,
            durable=not self.data.temporary,
            redis_url=f"unix://{self.data.redis_socket}?db=0",
            secret_key_file=str(self.data.key_file),
            region=self._environ.get("TRANSSHIP_REGION") or REGION,
            layouts_dir=self._environ.get("TRANSSHIP_LAYOUTS_DIR") or ("/" if self._alone else ""),
            one_machine=True,
            task_events=self._task_events,
        )
        self._start_redis()
        self.data.note(redis=self.settings.redis_url)
        from service.store.schema import create_or_upgrade  # SQLAlchemy loads while Redis starts

        self._services = Services(self.settings, alone=self._alone)
        create_or_upgrade(self._services.database)
        self._services.dispatching.forget_processes()  # the lock says that nobody else is here
        if not self._alone:  # one that is alone ends what an earlier one has left
            self._services.region_load.take_over(self.settings.region)
        if not self._alone:
            self.start_workers(workers)

    def start_workers(self, count: int) -> None:
        """Start worker processes; from a thread that lives as long as they shall.

        Raises EngineError when Redis does not come up.
        """
        redis_server.wait_ready(self.data.redis_socket)
        for number in range(1, count + 1):
            self.start_child(f"worker-{number}", [sys.executable, "-m", "workers.main", "worker"])
        self.services.share()  # loads Redis's library while they load theirs

    def start_child(
        self, name: str, argv: list[str], extra: Mapping[str, str] | None = None
    ) -> None:
        """Start a process of ours with this engine's settings."""
        environment = {
            **{k: v for k, v in self._environ.items() if not _is_setting(k)},
            **self.settings.to_env(),
            **(extra or {}),
            ENGINE_VARIABLE: str(self.data.path),
        }
        self.children.start(Child(name, argv, environment, self.data.logs / f"{name}.log"))

    @property
    def services(self) -> Services:
        """Services of the commanding process itself."""
        if self._services is None:
            raise RuntimeError("the machine is not started")
        return self._services

    def stop(self, *, finished: bool = False) -> None:
        """End the children in order and let the directory go.

        `finished`: every execution has ended, so nobody has anything left to say: what is proved and
        committed is in SQL, and the queue goes, too. Celery's orderly end takes a second of waiting.
        """
        self.children.stop(0 if finished else STOP_GRACE_SECONDS)
        if self._services is not None:
            self._services.close()
        configure_logging("ERROR", sys.stderr)
        if self._log is not None:
            self._log.close()
        self.data.release()

    def _start_redis(self) -> None:
        argv = redis_server.arguments(
            redis_server.find_binary(), self.data.redis_socket, self.data.path
        )
        environment = {
            "PATH": self._environ.get("PATH", ""),
            ENGINE_VARIABLE: str(self.data.path),
        }
        self.children.start(Child("redis", argv, environment, self.data.logs / "redis.log"))


def _is_setting(name: str) -> bool:
    """Whether a variable is one of ours other than a secret: settings come from Settings.to_env."""
    return name.startswith("TRANSSHIP_") and not name.startswith("TRANSSHIP_SECRET_")
