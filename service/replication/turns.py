"""Turns on the way from one registry to another, where others go on from there (docs/adr/0016).

Blobs that share a link all end together, and the next hop begins late. So no more is under way than keeps the
link busy (service/model/line.py); of what waits, the largest goes first, which takes longest on all hops, then the oldest copies'.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from service.errors import Cancelled
from service.model.line import Line

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
        mine = found.enter(order, size, answers, cancelled)
        moved = False
        try:
            yield
            moved = True
        finally:
            found.leave(mine, answers() if moved else None)

    def waiting(self, way: tuple[str, str]) -> int:
        """Return how many wait for their turn on a way."""
        found = self._ways.get(way)
        return 0 if found is None else found.waiting()


@dataclass(eq=False)
class _UnderWay:
    size: int
    since: float
    beside: int = 1


class _Way:
    """From one registry to another."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: dict[tuple[Order, int], int] = {}  # who, and bytes
        self._numbers = count()
        self._under_way: list[_UnderWay] = []
        self._line = Line()

    def enter(
        self,
        order: Order,
        size: int,
        answers: Callable[[], float],
        cancelled: Callable[[], bool],
    ) -> _UnderWay:
        """Wait until it is this one's turn."""
        with self._changed:
            mine = (order, next(self._numbers))
            self._waiting[mine] = size
            try:
                while not self._is_first(mine) or not self._has_room(size, answers()):
                    self._changed.wait(LOOK_SECONDS)
                    self._changed.release()  # whether it is wanted is asked of SQL
                    try:
                        if cancelled():
                            raise Cancelled
                    finally:
                        self._changed.acquire()
            finally:
                del self._waiting[mine]
                self._changed.notify_all()
            begun = _UnderWay(size, self._clock())
            self._under_way.append(begun)
            together = self._line.large(one.size for one in self._under_way)
            for one in self._under_way:
                one.beside = max(one.beside, together)
            return begun

    def waiting(self) -> int:
        """Return how many wait for their turn."""
        with self._changed:
            return len(self._waiting)

    def leave(self, mine: _UnderWay, answer: float | None) -> None:
        """Let the next ones go; `answer`: the seconds that one takes, None where nothing was moved."""
        with self._changed:
            self._under_way.remove(mine)
            if answer is not None:
                self._line.note(mine.since, self._clock(), mine.size, mine.beside, answer)
            self._changed.notify_all()

    def _is_first(self, mine: tuple[Order, int]) -> bool:
        """Whether nobody comes before, of the large ones or of the small ones: they do not wait for each other."""
        window = self._line.bytes_at_once()
        large = self._waiting[mine] >= window
        return mine == min(one for one, size in self._waiting.items() if (size >= window) == large)

    def _has_room(self, size: int, answer: float) -> bool:
        self._line.answer = answer
        return self._line.has_room([one.size for one in self._under_way], size)
