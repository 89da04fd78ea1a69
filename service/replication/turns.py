"""Turns on the way from one registry to another, where others go on from there (docs/adr/0016).

Blobs that share a link all end together, and the next hop begins late. So no more is under way than keeps the
link busy; of what waits, the largest goes first, which takes longest on all hops, then the oldest copies'.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from service.errors import Cancelled

LEAST_BYTES = 4 << 20
"""What is under way at once before a way is known."""

LEAST_BLOBS = 2

BESIDES_ANSWERS_SECONDS = 0.3
ANSWERS_OF_A_BLOB = 6
"""How long a blob takes besides its bytes: so long the way has to be kept busy by others."""

MEASURED_SECONDS = 4.0
LOOK_SECONDS = 0.25

Order = tuple[int, ...]


class Turns:
    """The ways that this process's copies take. Safe between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ways: dict[tuple[str, str], _Way] = {}

    @contextmanager
    def turn(
        self,
        way: tuple[str, str],
        order: Order,
        size: int,
        *,
        answers: Callable[[], float],
        cancelled: Callable[[], bool],
    ) -> Iterator[None]:
        """Wait for the turn of `size` bytes from one registry to another, and have it in the context.

        `order`: who comes first, less before more. `answers` tells how many seconds the slower side takes
        for an answer. Raises Cancelled when `cancelled` says so while it waits.
        """
        with self._lock:
            found = self._ways.setdefault(way, _Way(self._clock))
        found.enter(order, size, answers, cancelled)
        try:
            yield
        except BaseException:
            found.leave(size, moved=0)
            raise
        found.leave(size, moved=size)

    def waiting(self, way: tuple[str, str]) -> int:
        """Return how many wait for their turn on a way."""
        found = self._ways.get(way)
        return 0 if found is None else found.waiting()


class _Way:
    """From one registry to another."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[tuple[Order, int]] = []
        self._numbers = count()
        self._blobs = 0
        self._bytes = 0
        self._busy_since = 0.0
        self._known = 0.0  # bytes a second, when it was last busy
        self._ended: deque[tuple[float, int]] = deque()

    def enter(
        self,
        order: Order,
        size: int,
        answers: Callable[[], float],
        cancelled: Callable[[], bool],
    ) -> None:
        """Wait until it is this one's turn."""
        with self._changed:
            mine = (order, next(self._numbers))
            heapq.heappush(self._waiting, mine)
            try:
                while self._waiting[0] != mine or not self._has_room(size, answers()):
                    self._changed.wait(LOOK_SECONDS)
                    self._changed.release()  # whether it is wanted is asked of SQL
                    try:
                        if cancelled():
                            raise Cancelled
                    finally:
                        self._changed.acquire()
            finally:
                self._waiting.remove(mine)
                heapq.heapify(self._waiting)
                self._changed.notify_all()
            if not self._blobs:
                self._busy_since = self._clock()
            self._blobs += 1
            self._bytes += size

    def waiting(self) -> int:
        """Return how many wait for their turn."""
        with self._changed:
            return len(self._waiting)

    def leave(self, size: int, *, moved: int) -> None:
        """Let the next ones go."""
        with self._changed:
            self._blobs -= 1
            self._bytes -= size
            self._ended.append((self._clock(), moved))
            if not self._blobs:
                self._known = self._rate()
                self._ended.clear()
            self._changed.notify_all()

    def _has_room(self, size: int, answer: float) -> bool:
        if self._blobs < LEAST_BLOBS:
            return True
        seconds = BESIDES_ANSWERS_SECONDS + ANSWERS_OF_A_BLOB * answer
        return self._bytes + size <= max(LEAST_BYTES, self._rate() * seconds)

    def _rate(self) -> float:
        """Return the bytes a second that come through while there is something to move."""
        now = self._clock()
        since = max(self._busy_since, now - MEASURED_SECONDS)
        while self._ended and self._ended[0][0] < since:
            self._ended.popleft()
        measured = sum(size for _, size in self._ended) / (now - since) if now > since else 0.0
        is_new = now - self._busy_since < MEASURED_SECONDS
        return max(measured, self._known) if is_new else measured
