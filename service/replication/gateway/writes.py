"""What is still to be written to a gateway's file: in order, and bounded where the disk is slower than the pulls."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

Write = tuple[str, tuple[Any, ...]]
"""A statement and its values."""

MOST_BYTES = 64 << 20
_OVERHEAD_BYTES = 500


class Writes:
    """Thread-safe; read by one thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """`most_bytes`: about so much memory is taken by what may be left out."""
        self._most = most_bytes
        self._waiting: deque[tuple[Write, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ended = False
        self.left_out = 0

    def put(self, statement: str, values: tuple[Any, ...], *, must: bool = False) -> bool:
        """Have something written; whether it will be: what is learnt again by itself is left out when it is full.

        `must`: it is taken also then, because nobody says it again (a tag's end, a revocation); such are few.
        """
        size = _OVERHEAD_BYTES + sum(len(one) for one in values if isinstance(one, str | bytes))
        with self._changed:
            if not must and self._bytes + size > self._most:
                self.left_out += 1
                return False
            self._waiting.append(((statement, values), size))
            self._bytes += size
            self._changed.notify()
        return True

    def take(self, most: int) -> list[Write]:
        """Wait for something to write, and return up to `most` of it; [] when it has ended and all was taken."""
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._bytes -= sum(size for _, size in taken)
        return [one for one, _ in taken]

    def end(self) -> None:
        """Take nothing to come into account: the reader ends when it has taken what waits."""
        with self._changed:
            self._ended = True
            self._changed.notify()
