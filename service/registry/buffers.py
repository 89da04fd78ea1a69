"""Buffers of a process, lent to the blob that is under way and used again for the next.

Their number is bounded, whatever the number of threads: over a long link a process has a hundred
blobs under way at once, and memory is not to grow with that.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SMALL_BUFFER_BYTES = 256 * 1024
SMALL_BLOB_BYTES = 1024 * 1024  # below, the small buffer is enough
LARGE_BUFFERS = 16  # lent at once; whoever comes then gets a small one, and reads oftener
KEPT = 32  # of each size, for the next blob

_local = threading.local()


class Buffers:
    """Buffers by size. Thread-safe."""

    def __init__(self, large: int = LARGE_BUFFERS) -> None:
        """`large`: how many above 256 KiB are lent at once."""
        self._large = large
        self._lock = threading.Lock()
        self._free: dict[int, list[bytearray]] = {}
        self._lent_large = 0

    @contextmanager
    def lend(self, blob_size: int, buffer_bytes: int) -> Iterator[memoryview]:
        """Lend a buffer of `buffer_bytes` at most; its content is whatever was there."""
        small = min(buffer_bytes, SMALL_BUFFER_BYTES)
        wanted = small if blob_size < SMALL_BLOB_BYTES else buffer_bytes
        with self._lock:
            large = wanted > SMALL_BUFFER_BYTES
            if large and self._lent_large >= self._large:
                wanted, large = small, False
            self._lent_large += large
            free = self._free.setdefault(wanted, [])
            buffer = free.pop() if free else bytearray(wanted)
        try:
            yield memoryview(buffer)
        finally:
            with self._lock:
                self._lent_large -= large
                if len(free) < KEPT:
                    free.append(buffer)


BUFFERS = Buffers()


def receive_buffer() -> memoryview:
    """Return this thread's buffer of 256 KiB for what is copied out of it at once.

    Mapped, so that a thread which only ever receives heads of answers takes a page of memory.
    """
    received: memoryview | None = getattr(_local, "received", None)
    if received is None:
        received = _local.received = memoryview(mmap.mmap(-1, SMALL_BUFFER_BYTES))
    return received
