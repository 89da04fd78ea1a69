"""Blobs on the gateway's own disk: verified when they were written, and again by the run that finds them there.

Bounded in bytes, those that are being written among them; the least used go first.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from service.errors import InvalidDigest
from service.model.digest import Digest
from service.telemetry import get_logger

log = get_logger("gateway")

AT_ONCE_BYTES = 32 << 20
"""Up to this size a blob is kept when it is pulled first; a larger one when it is pulled again."""

MOST_ASKED = 10_000
SHARE = 4
"""A blob is kept when it is at most this part of the whole."""


class Draft:
    """A blob that is being written while it is sent; a full disk ends the keeping, never the sending."""

    def __init__(self, cache: BlobCache, digest: Digest, path: Path, file: BinaryIO) -> None:
        self._cache = cache
        self._digest = digest
        self._path = path
        self._file = file
        self._good = True
        self._size = 0

    def write(self, data: memoryview) -> int | None:
        """Add some bytes; the descriptor of the file that has them now, None where it has not."""
        if not self._good:
            return None
        try:
            count = self._file.write(data)
        except OSError as error:
            log.warning("cache_not_written", error=error.strerror)
            count = -1
        if count != len(data):
            self._drop()
            return None
        self._size += count
        return self._file.fileno()

    def keep(self) -> None:
        """Serve it from now on: the bytes were the digest's."""
        if self._good:
            self._good = False
            self._cache.took(self._digest, self._path, self._size)

    def close(self) -> None:
        """Give up what was not kept: the bytes were others, or not all of them."""
        if self._good:
            self._drop()
        self._file.close()
        self._cache.ended(self._digest)

    def _drop(self) -> None:
        self._good = False
        with suppress(OSError):
            self._path.unlink()


class BlobCache:
    """Files by digest in a folder of this process's own. Thread-safe."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Take up what lies in the folder; `most_bytes` 0: nothing is kept."""
        self._folder = folder / "blobs"
        self._most = most_bytes
        self._lock = threading.Lock()
        self._files: OrderedDict[Digest, int] = OrderedDict()
        self._bytes = 0
        self._drafts = 0
        self._writing: dict[Digest, int] = {}
        self._unproved: set[Digest] = set()  # of a run that ended: not read since
        self._asked: OrderedDict[Digest, None] = OrderedDict()
        if most_bytes:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_up()

    def open(self, digest: Digest, size: int) -> int | None:
        """Return a file descriptor of a blob that is kept whole; the caller closes it."""
        with self._lock:
            if self._files.get(digest) != size:
                return None
            self._files.move_to_end(digest)
        try:
            descriptor = os.open(self._path(digest), os.O_RDONLY)
        except OSError:
            self._forget(digest)
            return None
        if os.fstat(descriptor).st_size != size or not self._is_proved(digest, descriptor):
            os.close(descriptor)
            self._forget(digest)
            return None
        return descriptor

    def _is_proved(self, digest: Digest, descriptor: int) -> bool:
        """Hash what another run has left, once: a machine that lost its power may have kept the size and not the bytes."""
        if digest not in self._unproved:
            return True
        hasher, at = digest.hasher(), 0
        try:
            while piece := os.pread(descriptor, 1 << 20, at):
                hasher.update(piece)
                at += len(piece)
        except OSError as error:
            log.warning("cache_not_read", digest=str(digest), error=error.strerror)
            return False
        if hasher.hexdigest() != digest.encoded:
            log.warning("cache_damaged", digest=str(digest))
            return False
        self._unproved.discard(digest)
        return True

    def would_keep(self, size: int) -> bool:
        """Whether a blob of that size is kept."""
        return size <= self._most // SHARE

    def begin(self, digest: Digest, size: int) -> Draft | None:
        """Begin to keep a blob; None where it is too large, being written, or large and asked for the first time."""
        if not self.would_keep(size):
            return None
        with self._lock:
            if digest in self._writing or not self._is_wanted(digest, size):
                return None
            if sum(self._writing.values()) + size > self._most // 2:
                return None  # what is being written counts, too: it is sent without being kept
            self._writing[digest] = size
            self._make_room()
            self._drafts += 1
            path = self._folder / f".{digest.encoded}.{self._drafts}"
        try:
            return Draft(self, digest, path, path.open("w+b", buffering=0))
        except OSError as error:
            log.warning("cache_not_written", error=error.strerror)
            self.ended(digest)
            return None

    def ended(self, digest: Digest) -> None:
        """Take note that nobody writes a blob any more."""
        with self._lock:
            self._writing.pop(digest, None)

    def took(self, digest: Digest, path: Path, size: int) -> None:
        """Take up a draft that is whole, and let the least used go."""
        try:
            path.rename(self._path(digest))
        except OSError:
            with suppress(OSError):
                path.unlink()
            return
        with self._lock:
            self._writing[digest] = 0
            self._bytes += size - self._files.pop(digest, 0)
            self._files[digest] = size
            self._unproved.discard(digest)
            self._make_room()

    def _make_room(self) -> None:
        """Let the least used go until what is there and what is being written keep to the bound. Under the lock."""
        coming = sum(self._writing.values())
        while self._files and self._bytes + coming > self._most:
            old, its_size = self._files.popitem(last=False)
            self._bytes -= its_size
            self._unproved.discard(old)
            with suppress(OSError):
                self._path(old).unlink()

    def _is_wanted(self, digest: Digest, size: int) -> bool:
        """Whether a blob is worth its writing: a large one that is pulled once would cost more than it brings."""
        if size <= AT_ONCE_BYTES or digest in self._asked:
            return True
        self._asked[digest] = None
        if len(self._asked) > MOST_ASKED:
            self._asked.popitem(last=False)
        return False

    def _path(self, digest: Digest) -> Path:
        return self._folder / f"{digest.algorithm}-{digest.encoded}"

    def _forget(self, digest: Digest) -> None:
        """Keep a file no longer that is not what it should be: it is fetched anew."""
        with self._lock:
            self._bytes -= self._files.pop(digest, 0)
            self._unproved.discard(digest)
            with suppress(OSError):
                self._path(digest).unlink()

    def _take_up(self) -> None:
        found = []
        for path in self._folder.iterdir():
            algorithm, _, encoded = path.name.partition("-")
            try:
                digest = Digest(algorithm, encoded)
                status = path.stat()
            except (OSError, InvalidDigest):  # drafts of a run that ended
                with suppress(OSError):
                    path.unlink()
                continue
            found.append((status.st_mtime, digest, status.st_size))
        for _, digest, size in sorted(found, key=lambda one: one[0]):
            self._files[digest] = size
            self._bytes += size
            self._unproved.add(digest)
        self._make_room()
