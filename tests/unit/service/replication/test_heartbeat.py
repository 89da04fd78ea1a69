"""When a process that fell silent is heard again, its claims are its own at once."""

from __future__ import annotations

import threading
import time
from typing import cast

from service.errors import StoreUnavailable
from service.model.ports import StatePort
from service.model.work import ProcessReport
from service.replication.heartbeat import Heartbeat
from service.settings import Settings
from tests.support.processes import wait_until

FOR_GOOD = 3600.0


class Silence:
    """A state that can be away."""

    def __init__(self) -> None:
        self.away = threading.Event()
        self.refused = 0

    def heartbeat(self, _report: ProcessReport) -> None:
        if self.away.is_set():
            self.refused += 1
            raise StoreUnavailable("away")

    def farewell(self, _boot: str) -> None:
        """Say nothing."""


def test_who_is_heard_again_renews_its_lease_without_waiting_for_its_turn() -> None:
    state = Silence()
    renewed: list[tuple[str, float]] = []
    settings = Settings(heartbeat_seconds=0.01, dead_after_seconds=0.1, alive_seconds=FOR_GOOD)

    def keep_alive(boot: str, seconds: float) -> None:
        renewed.append((boot, seconds))

    heartbeat = Heartbeat(
        settings,
        cast("StatePort", state),
        "boot",
        kind="worker",
        region="eu",
        keep_alive=keep_alive,
    )
    heartbeat.start()
    try:
        assert renewed == [("boot", FOR_GOOD)]
        state.away.set()
        began = time.monotonic()
        wait_until(lambda: state.refused and time.monotonic() - began > 0.15, 10, "the silence")
        state.away.clear()

        wait_until(lambda: len(renewed) == 2, 10, "the lease")
    finally:
        heartbeat.stop()
    assert renewed[1:] == [("boot", FOR_GOOD)]
