"""Buffers of a thread, reused from blob to blob and from read to read."""

from __future__ import annotations

import threading

SMALL_BUFFER_BYTES = 256 * 1024
SMALL_BLOB_BYTES = 1024 * 1024  # below, the small buffer is enough

_local = threading.local()


def thread_buffer(blob_size: int, buffer_bytes: int) -> memoryview:
    """Return this thread's buffer for a blob of that size; its content is whatever was there."""
    wanted = min(buffer_bytes, SMALL_BUFFER_BYTES) if blob_size < SMALL_BLOB_BYTES else buffer_bytes
    buffer: bytearray | None = getattr(_local, "buffer", None)
    if buffer is None or len(buffer) < wanted:
        buffer = _local.buffer = bytearray(wanted)
    return memoryview(buffer)[:wanted]


def receive_buffer() -> memoryview:
    """Return this thread's buffer of 256 KiB for what is copied out of it at once."""
    received: memoryview | None = getattr(_local, "received", None)
    if received is None:
        received = _local.received = memoryview(bytearray(SMALL_BUFFER_BYTES))
    return received
