"""A blob's bytes from the thread that reads them to one that writes them elsewhere, too.

What was read once need not be read again for the next registry (docs/adr/0016). The reader hands each piece
to all of its feeds; each has a writer with a pace of its own, and a few MiB between them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from service.errors import Cancelled

HELD_BYTES = 4 << 20
"""What a writer may be behind before the reader waits for it."""

PATIENCE_SECONDS = 2.0
PATIENCE_PART = 0.25
"""What a reader waits for one writer at most, and of its time beyond: who is slower gets the blob another way."""


class Feed:
    """One blob for one writer. Safe between the two threads."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._position = 0  # of the next byte that the reader is to bring
        self._since = clock()
        self._waited = 0.0
        self._ended = False
        self._left = False
        self.too_slow = False
        """Whether the reader went on without this one."""

    # ---- the reader ------------------------------------------------------------------------------

    def put(self, start: int, piece: bytes) -> None:
        """Hand over bytes of the blob from `start` on; what was handed over before is left out.

        Waits for room as long as the writer may be waited for.
        """
        with self._changed:
            piece = piece[max(0, self._position - start) :]
            if not piece or not self._has_room():
                return
            self._pieces.append(piece)
            self._held += len(piece)
            self._position += len(piece)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def broke_off(self) -> bool:
        """Whether the reader gave up before the blob's end."""
        with self._changed:
            return self._ended and self._position < self._size and not self.too_slow

    def _has_room(self) -> bool:
        began = self._clock()
        while self._held >= HELD_BYTES and not self._left:
            now = self._clock()
            patience = PATIENCE_SECONDS + PATIENCE_PART * (now - self._since)
            left = patience - self._waited - (now - began)
            if left <= 0:
                self.too_slow = self._left = True
                self._drop()
                break
            self._changed.wait(left)
        self._waited += self._clock() - began
        return not self._left

    # ---- the writer ------------------------------------------------------------------------------

    def pieces(self, cancelled: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the blob's bytes as they come; raises Cancelled when they end before it does, or are not wanted."""
        sent = 0
        while sent < self._size:
            with self._changed:
                while not self._pieces and not self._ended and not self._left:
                    self._changed.wait()
                if not self._pieces:
                    raise Cancelled
                piece = self._pieces.popleft()
                self._held -= len(piece)
                self._changed.notify_all()
            if cancelled():
                raise Cancelled
            yield piece
            sent += len(piece)

    def leave(self) -> None:
        """Take no more: the reader does not wait for this one."""
        with self._changed:
            self._left = True
            self._drop()

    def _drop(self) -> None:
        self._pieces.clear()
        self._held = 0
        self._changed.notify_all()
