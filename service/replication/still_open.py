"""Whether a long planning is still wanted: asked often, looked up seldom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from service.errors import Cancelled

LOOK_SECONDS = 1.0


class StillOpen:
    """Ends what goes on for minutes once its execution is stopped, or this process is to end.

    Any thread may ask, before every copy: SQL is asked at most once in LOOK_SECONDS.
    """

    def __init__(
        self,
        is_open: Callable[[], bool],
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_open = is_open
        self._stop = stop
        self._clock = clock
        self._lock = threading.Lock()
        self._next_look = clock()
        self._over = False

    def check(self) -> None:
        """Raise Cancelled when there is no use in going on; StoreUnavailable."""
        if self._over or self._stop.is_set():
            raise Cancelled
        with self._lock:
            now = self._clock()
            if now < self._next_look:
                return
            self._next_look = now + LOOK_SECONDS
        if not self._is_open():
            self._over = True
            raise Cancelled
