"""How long the wire may take: threads cannot be killed, so every operation ends by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from service.errors import TooSlow


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one client, in seconds and bytes per second."""

    connect_seconds: float = 10.0
    read_seconds: float = 60.0  # silence of a socket, either direction
    head_seconds: float = 60.0  # a whole response head, so that one byte a minute is no answer
    minimum_rate: int = 8 * 1024  # bytes a second of a body, over the window
    window_seconds: float = 30.0
    idle_seconds: float = 45.0  # a kept connection; common proxies close theirs after 60


class RateGuard:
    """Raises TooSlow when a body moves fewer bytes in a window than the minimum rate asks.

    Only time that is spent on the wire is counted: a caller that waits for its own bandwidth limit
    is not slow.
    """

    __slots__ = ("_bytes", "_clock", "_limits", "_seconds", "_what")

    def __init__(
        self, limits: Timeouts, what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._what = what
        self._clock = clock
        self._bytes = 0
        self._seconds = 0.0

    def now(self) -> float:
        """Return the clock's seconds, to be handed to `moved` as the beginning."""
        return self._clock()

    def moved(self, count: int, since: float) -> None:
        """Account for `count` bytes whose moving began at `since`; raises TooSlow."""
        self._bytes += count
        self._seconds += self._clock() - since
        if self._seconds < self._limits.window_seconds:
            return
        if self._bytes < self._limits.minimum_rate * self._seconds:
            raise TooSlow(
                f"{self._what}: {self._bytes} bytes in {self._seconds:.0f} s are below the "
                f"minimum of {self._limits.minimum_rate} a second"
            )
        self._bytes = 0
        self._seconds = 0.0
