"""How long a registry's answers are waited for, told by the quickest of lately.

The quickest, because a busy machine makes every answer look late: among some dozens one is mostly
served at once, and what even that one took is the link's or the registry's own.
"""

from __future__ import annotations

import threading
import time

WINDOW = 64  # answers; the quickest of this many to twice as many counts
ENOUGH = 8  # answers of a kind before it is told by itself


class AnswerTimes:
    """Times by what was asked for (manifest, blob, upload, mount, ...). Thread-safe."""

    def __init__(self) -> None:
        self.noted_at = 0.0  # of the monotonic clock
        self._lock = threading.Lock()
        self._seen: dict[
            str, tuple[int, float, float]
        ] = {}  # count, quickest, of the window before

    def note(self, kind: str, seconds: float) -> None:
        """Account for the time from a request, sent on an open connection, to the head of its answer."""
        self.noted_at = time.monotonic()
        with self._lock:
            count, quickest, before = self._seen.get(kind, (0, seconds, seconds))
            if count >= 2 * WINDOW:
                count, quickest, before = WINDOW, seconds, quickest
            self._seen[kind] = count + 1, min(quickest, seconds), before

    def quickest(self, kind: str) -> float:
        """Return seconds: of all kinds while there were few answers of this one, 0.0 while there was none."""
        with self._lock:
            known = self._seen.get(kind)
            enough = known is not None and known[0] >= ENOUGH
            seen = [known] if known is not None and enough else list(self._seen.values())
        return min((min(quickest, before) for _, quickest, before in seen), default=0.0)
