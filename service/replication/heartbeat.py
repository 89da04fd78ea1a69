"""A process says that it lives: its row in SQL, and for workers the key that its claims hang on."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Collection

from service.errors import StoreUnavailable
from service.model.ports import StatePort
from service.model.work import ProcessReport
from service.settings import Settings
from service.telemetry import get_logger

log = get_logger("heartbeat")


class Heartbeat:
    """Two threads: one writes the row, one renews the alive key where there is one.

    Who is cut off from SQL for so long that others count it as dead renews its key no more: what it has
    claimed would wait for it, and it can end nothing.
    """

    def __init__(
        self,
        settings: Settings,
        state: StatePort,
        boot: str,
        *,
        kind: str,
        region: str,
        slots: int = 0,
        keep_alive: Callable[[str, float], None] | None = None,
        held: Callable[[], Collection[int]] | None = None,
    ) -> None:
        """`slots` is how many tasks the process runs at once; 0 for one that runs none.

        `held` names the copies that it works on: what the state says beyond them is let go.
        """
        self._settings = settings
        self._state = state
        self._keep_alive = keep_alive
        self._held = held
        self._report = ProcessReport(boot, kind, region, slots, socket.gethostname(), os.getpid())
        self._stop = threading.Event()
        self._heard = threading.Event()  # SQL has answered again, or it is the end
        self._written_at = 0.0
        self._threads = [threading.Thread(target=self._beat, name="heartbeat", daemon=True)]
        if keep_alive is not None:
            self._threads.append(threading.Thread(target=self._renew, name="alive", daemon=True))

    def start(self) -> None:
        """Report once before anything else may count on it, then go on in the background."""
        if self._keep_alive is not None:
            self._keep_alive(self._report.boot, self._settings.alive_seconds)
        self._state.heartbeat(self._report)
        self._written_at = time.monotonic()
        for thread in self._threads:
            thread.start()

    def is_blind(self) -> bool:
        """Whether SQL has been away so long that other processes will soon count this one as dead."""
        return self._silence() > self._settings.dead_after_seconds / 2

    def _silence(self) -> float:
        return time.monotonic() - self._written_at

    def stop(self) -> None:
        """Say farewell, so that nobody counts on this process's slots any more."""
        self._stop.set()
        self._heard.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)
        try:
            self._state.farewell(self._report.boot)
        except StoreUnavailable:
            log.info("farewell_not_written")

    def _renew(self) -> None:
        while True:
            self._heard.wait(self._settings.alive_seconds / 3)
            self._heard.clear()
            if self._stop.is_set():
                return
            silent = self._silence()
            if silent > self._settings.dead_after_seconds:
                log.warning("claims_let_go", without_sql_seconds=round(silent, 1))
                continue
            try:
                if self._keep_alive is not None:
                    self._keep_alive(self._report.boot, self._settings.alive_seconds)
            except Exception as error:  # noqa: BLE001 - a worker that no longer renews loses its claims
                log.warning("alive_not_renewed", error=f"{type(error).__name__}: {error}")

    def _beat(self) -> None:
        while not self._stop.wait(self._settings.heartbeat_seconds):
            try:
                self._state.heartbeat(self._report)
                silent, self._written_at = self._silence(), time.monotonic()
                if silent > self._settings.dead_after_seconds:
                    self._heard.set()  # its claims have lapsed, or will: they are its own again at once
                self._release()
            except StoreUnavailable as error:
                log.warning("heartbeat_not_written", error=str(error))
            except Exception:
                log.exception("heartbeat_broke")  # a silent process would be buried alive

    def _release(self) -> None:
        if self._held is None:
            return
        count = self._state.release(self._report.boot, self._held)
        if count:
            log.warning("copies_without_a_task", copies_planned_again=count)
