"""A blob's bytes from the thread that reads them to others that write them elsewhere, too.

What was read once need not be read again for the next registry (docs/adr/0016). The reader hands each piece
to all of its feeds; each has a writer with a pace of its own, and a few MiB between them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from service.errors import Cancelled

HELD_BYTES = 4 << 20
"""What a writer may be behind before the reader waits for it."""

PATIENCE_SECONDS = 2.0
PATIENCE_PART = 0.25
"""What a reader waits for all of its writers at once, and of its time beyond: who is slower gets the blob another way."""

IDLE_SECONDS = 30.0
"""A writer that gets nothing for so long gives up: its registry would close the upload soon."""

LOOK_SECONDS = 0.5


class Feed:
    """One blob for one writer. Safe between the two threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._position = 0  # of the next byte that the reader is to bring
        self._ended = False
        self._left = False
        self.too_slow = False
        """Whether the reader went on without this one."""

    # ---- the reader ------------------------------------------------------------------------------

    def put(self, start: int, piece: bytes, seconds: float = 0.0) -> None:
        """Hand over bytes of the blob from `start` on; waits so long for room, and else goes on without the writer."""
        with self._changed:
            if not self._left and start != self._position:
                self._drop()  # read anew: what was handed over may have been other bytes
            elif self._has_room(seconds):
                self._pieces.append(piece)
                self._held += len(piece)
                self._position += len(piece)
                self._changed.notify_all()

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _has_room(self, seconds: float) -> bool:
        def room() -> bool:
            return self._left or self._held < HELD_BYTES

        if not self._changed.wait_for(room, seconds):
            self.too_slow = True
            self._drop()
        return not self._left

    # ---- the writer ------------------------------------------------------------------------------

    @property
    def is_left(self) -> bool:
        """Whether nothing more is to be had from here."""
        with self._changed:
            return self._left

    def pieces(self, cancelled: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the blob's bytes as they come; raises Cancelled when they end before it does, or are not wanted."""
        sent = 0
        while sent < self._size:
            piece = self._next(cancelled)
            yield piece
            sent += len(piece)

    def _next(self, cancelled: Callable[[], bool]) -> bytes:
        until = time.monotonic() + IDLE_SECONDS
        while True:
            if cancelled() or time.monotonic() > until:
                raise Cancelled
            with self._changed:
                self._changed.wait_for(
                    lambda: self._pieces or self._ended or self._left, LOOK_SECONDS
                )
                if self._pieces:
                    piece = self._pieces.popleft()
                    self._held -= len(piece)
                    self._changed.notify_all()
                    return piece
                if self._ended or self._left:
                    raise Cancelled

    def leave(self) -> None:
        """Take no more: the reader does not wait for this one."""
        with self._changed:
            self._drop()

    def _drop(self) -> None:
        self._left = True
        self._pieces.clear()
        self._held = 0
        self._changed.notify_all()


class Feeds:
    """All feeds of one reader, and what it still waits for them."""

    def __init__(
        self, feeds: Sequence[Feed] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._feeds = tuple(feeds)
        self._clock = clock
        self._since = clock()
        self._waited = 0.0

    def put(self, start: int, piece: bytes | memoryview) -> float:
        """Hand bytes to all; returns the seconds that were waited for those that lag behind."""
        if not self._feeds:
            return 0.0
        kept, began = bytes(piece), self._clock()  # the reader's buffer is used again
        patience = PATIENCE_SECONDS + PATIENCE_PART * (began - self._since) - self._waited
        until = began + min(PATIENCE_SECONDS, max(0.0, patience))
        for feed in self._feeds:
            feed.put(start, kept, max(0.0, until - self._clock()))
        waited = self._clock() - began
        self._waited += waited
        return waited

    def end(self) -> None:
        """Say that nothing more comes."""
        for feed in self._feeds:
            feed.end()
