"""One answer of SQL for whoever asks within a moment: tabs that look at the same thing cost what one does."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

SHARE = 0.1
"""The part of the time that asking for one thing may take, however many want it."""

MOST_KEYS = 64


class SharedAnswers(Generic[T]):
    """Answers by key, each believed for `seconds`, or nine times as long as it took, where that is longer.

    Thread-safe: of those who come together one asks, and the others wait for its answer. A question that
    raises is asked again by the next one.
    """

    def __init__(
        self, seconds: float, *, clock: Callable[[], float] = time.monotonic, most: int = MOST_KEYS
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, _Kept[T]] = OrderedDict()

    def get(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Return the answer of a moment ago, or `ask` for it. Raises what `ask` raises."""
        with self._lock:
            kept = self._known.setdefault(key, _Kept())
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        with kept.lock:
            began = self._clock()
            if kept.answer and began < kept.until:
                return kept.answer[0]
            kept.answer = (ask(),)
            ended = self._clock()
            kept.until = ended + max(self._seconds, (ended - began) * (1 / SHARE - 1))
            return kept.answer[0]


class _Kept(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answer: tuple[T, ...] = ()
        self.until = 0.0
