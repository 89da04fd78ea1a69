"""How busy the machine is, for tests whose bound is a time: a promise is one of a machine that is not."""

from __future__ import annotations

import os
import threading
import time
from typing import Self

TICK_SECONDS = 0.01


def busy() -> float:
    """The jobs that each core has had in the last minute, and 1 at least."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Stalls:
    """Notes when this process stood still, while a block lasts: what it served then, it served late."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._found: list[
            tuple[float, float]
        ] = []  # begin and length, in seconds of time.monotonic

    def _run(self) -> None:
        before = time.monotonic()
        while not self._over.wait(TICK_SECONDS):
            now = time.monotonic()
            if now - before > 2 * TICK_SECONDS:
                self._found.append((before, now - before - TICK_SECONDS))
            before = now

    def seconds(self, begin: float, end: float) -> float:
        """How much of the time between two moments it stood still, with what reaches into it."""
        return sum(length for at, length in self._found if at < end and at + length > begin)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
