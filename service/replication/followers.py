"""Registries that are written to along with others: how many at once in a process, and who was too slow lately."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MOST = 48
"""Feeds of a process: each has a thread, and a blob with feeds holds some MiB."""

SLOW_SECONDS = 300.0
"""For so long a registry that was too slow is not written to along with others: errands wait for nobody."""


class Followers:
    """Safe between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way = 0
        self._slow: dict[str, float] = {}

    def keeps_up(self, registry: str) -> bool:
        """Whether a registry was not too slow lately."""
        return self._slow.get(registry, 0.0) <= self._clock()

    def free(self) -> int:
        """Return how many more feeds there may be now."""
        return max(0, MOST - self._under_way)

    def begin(self) -> None:
        """Count a feed that begins."""
        with self._lock:
            self._under_way += 1

    def end(self, registry: str, *, too_slow: bool) -> None:
        """Count one that has ended."""
        with self._lock:
            self._under_way -= 1
            if too_slow:
                self._slow[registry] = self._clock() + SLOW_SECONDS
