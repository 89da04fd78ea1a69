"""A region far from home as real processes: its own Redis, a worker with its agent, and the way to the API."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.settings import TEST_TIMERS
from tests.faults.lab import ROOT, Lab, Scene
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import ManagedProcess, wait_until
from tests.support.servers import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.transship import clean_environment

REGION = "far"
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def another_calendar() -> dict[str, str]:
    """Return the variables of a process whose wall clock is ten minutes behind home's."""
    assert LIBRARIES, "libfaketime is missing: apt-get install libfaketime"
    return {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": "-10m", "DONT_FAKE_MONOTONIC": "1"}


class Far:
    """The processes of the far region, and the way from its agent to the API at home."""

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        stack: contextlib.ExitStack,
        *,
        slow: Callable[[str], str] = str,
        **variables: str,
    ) -> None:
        """`slow` puts a long line before a URL and returns its own."""
        self.lab = lab
        self.folder = folder
        self.redis = stack.enter_context(RedisServer(tcp=True))
        port = int(str(lab.client.base_url.port))
        self.home = stack.enter_context(TcpProxy(port))
        self.near = stack.enter_context(FaultProxy(lab.destination.url))
        lab.ask("PUT", f"/regions/{REGION}", {})
        made = lab.ask("POST", "/tokens", {"name": "far", "role": "agent", "region": REGION})
        self.token = str(made["token"])
        self.worker = ManagedProcess(
            "far-worker",
            [sys.executable, "-m", "workers.main", "worker", "--region", REGION],
            log_directory=folder,
            environment={
                **clean_environment(),
                **TEST_TIMERS,
                "TRANSSHIP_AGENT_DIR": str(folder / "agent"),
                "TRANSSHIP_URL": slow(f"http://127.0.0.1:{self.home.port}"),
                "TRANSSHIP_TOKEN": self.token,
                "TRANSSHIP_REDIS_URL": f"redis://127.0.0.1:{self.redis.port}/0",
                "TRANSSHIP_WORKER_SLOTS": "8",
                "TRANSSHIP_RETRY_SECONDS": "0.05",
                **variables,
            },
            cwd=ROOT,
        )
        stack.callback(self.worker.kill)

    def start(self) -> None:
        self.worker.start()
        wait_until(lambda: self.slots() > 0, 30, "the agent to report")

    def slots(self) -> int:
        found: int = self.lab.ask("GET", f"/regions/{REGION}")["workers"]["slots"]
        return found

    def scene(self, name: str, **rule: Any) -> Scene:
        """A rule whose destination is in the far region, reached from there by `near`."""
        scene = Scene(self.lab, name, **rule)
        self.lab.ask(
            "PUT",
            "/registries/west",
            {
                "url": self.lab.west.url,
                "region": REGION,
                "endpoints": {REGION: {"url": self.near.url}},
            },
        )
        return scene

    def tag_puts(self, scene: Scene) -> list[str]:
        start = scene.at_destination()
        return [
            one.path
            for one in list(self.near.log)
            if one.method == "PUT" and "/manifests/v" in one.path and one.path.startswith(start)
        ]

    def rows(self, table: str) -> int:
        path = self.folder / "agent" / f"region-{REGION}.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
