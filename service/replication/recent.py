"""What was read at a source a moment ago: the tags of one image share its signatures and referrers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

KEPT_SECONDS = 10.0
"""From the beginning of the read; what changes at the source meanwhile is as if it came after it."""

KEPT = 10_000
"""Answers; each is a digest, a yes or no, or the descriptors of one image's referrers."""

T = TypeVar("T")


class RecentReads:
    """Answers by key, each read once by whoever comes first. For any number of threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], tuple[Future[Any], float]] = OrderedDict()

    def get(self, key: tuple[str, ...], read: Callable[[], T]) -> T:
        """Return what was read for this key of late, or is being read by another thread, else read it.

        Raises as `read` does. A read that fails is nobody else's: those who waited for it read themselves.
        """
        now = self._clock()
        with self._lock:
            known = self._kept.get(key)
            if known is not None and now - known[1] < KEPT_SECONDS:
                theirs: Future[T] | None = known[0]
            else:
                theirs, mine = None, Future[T]()
                self._kept[key] = mine, now
                self._kept.move_to_end(key)
                self._forget(now)
        if theirs is not None:
            return read() if theirs.exception() is not None else theirs.result()
        try:
            answer = read()
        except BaseException as error:
            with self._lock:
                if (found := self._kept.get(key)) is not None and found[0] is mine:
                    del self._kept[key]
            mine.set_exception(error)
            raise
        mine.set_result(answer)
        return answer

    def _forget(self, now: float) -> None:
        """Drop what is too old or too much, the oldest first."""
        while self._kept:
            _, asked_at = next(iter(self._kept.values()))
            if len(self._kept) <= KEPT and now - asked_at < KEPT_SECONDS:
                break
            self._kept.popitem(last=False)
