"""A thread that does one step again and again, for as long as its process holds a lease."""

from __future__ import annotations

import threading
from collections.abc import Callable

from service.errors import StoreUnavailable
from service.telemetry import get_logger

PAUSE_SECONDS = 1.0
LEASES = 3
"""A keeper's lease lasts so many times the silence after which a process counts as dead."""

log = get_logger("keeper")


class Keeper:
    """Any number of processes may have one; the holder of the lease acts."""

    def __init__(
        self,
        name: str,
        step: Callable[[], None],
        lead: Callable[[], bool],
        resign: Callable[[], None],
    ) -> None:
        """`lead` takes or renews the lease, False while another process has it; `resign` lets it go."""
        self._name = name
        self._step = step
        self._lead = lead
        self._resign = resign
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after what is under way."""
        self._stop.set()
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            try:
                self._resign()
            except StoreUnavailable:
                log.info("lease_left_to_lapse")

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                if self._lead():
                    self._step()
            except Exception:
                log.exception("keeper_failed", keeper=self._name)
