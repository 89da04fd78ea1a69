"""What one token may ask of this process: a rate with a burst, and requests under way (S10)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import ceil

from api.problems import Problem

MAX_KNOWN = 10_000
GUESSES = 30
GUESS_SECONDS = 60.0


class Bucket:
    """A token bucket: `rate` a second, `burst` at once."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now

    def take(self, now: float) -> float:
        """Take one, and return 0; or return the seconds until there is one."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate


class Admitted:
    """One request under way; gives its place back once."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the place back."""
        release, self._release = self._release, None
        if release is not None:
            release()


class Throttle:
    """Caps of each token, kept in this process."""

    def __init__(
        self, rate: float, concurrency: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._concurrency, self._clock = rate, concurrency, clock
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._under_way: dict[str, int] = {}

    def admit(self, who: str) -> Admitted:
        """Admit a request. Raises Problem: 429 with Retry-After."""
        now = self._clock()
        with self._lock:
            if len(self._buckets) > MAX_KNOWN:
                self._buckets.clear()
            bucket = self._buckets.setdefault(who, Bucket(self._rate, 2 * self._rate, now))
            wait = bucket.take(now)
            busy = self._under_way.get(who, 0)
            if wait == 0.0 and busy < self._concurrency:
                self._under_way[who] = busy + 1
                return Admitted(lambda: self._leave(who))
        if wait:
            raise _too_many(f"more than {self._rate:g} requests a second of this token", wait)
        raise _too_many(f"more than {self._concurrency} requests of this token at once", 1.0)

    def _leave(self, who: str) -> None:
        with self._lock:
            left = self._under_way.get(who, 1) - 1
            if left > 0:
                self._under_way[who] = left
            else:
                self._under_way.pop(who, None)


class Guesses:
    """Wrong tokens by address (S2), as this process has seen them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tried: dict[str, tuple[int, float]] = {}

    def spend(self, who: str) -> None:
        """Count a wrong token. Raises Problem, 429, for an address that has sent too many of them.

        Right ones are served all the same: many callers may stand behind one address.
        """
        now = self._clock()
        with self._lock:
            if len(self._tried) > MAX_KNOWN:
                self._tried.clear()
            count, since = self._tried.get(who, (0, now))
            if now - since > GUESS_SECONDS:
                count, since = 0, now
            self._tried[who] = (count + 1, since)
        if count >= GUESSES:
            raise _too_many("too many requests without a valid token", since + GUESS_SECONDS - now)


def _too_many(why: str, wait: float) -> Problem:
    return Problem(
        429,
        "too_many_requests",
        why,
        hint="wait as Retry-After says",
        headers={"Retry-After": str(max(1, ceil(wait)))},
    )
