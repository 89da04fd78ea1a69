"""What the copies of a plan bring where: kept in a private temporary file, so memory stays bounded."""

from __future__ import annotations

import enum
import hashlib
import sqlite3
from types import TracebackType
from typing import Self

CACHE_KIB = 32 << 10
KEY_BYTES = 16


class Brought(enum.Enum):
    """What a copy finds of a blob, by what the copies before it bring."""

    HERE = "here"  # in this repository already
    NEARBY = "nearby"  # in another repository of the registry
    NOWHERE = "nowhere"  # this copy is the first that brings it to the registry


class BroughtBlobs:
    """Remembers, for one plan, which blobs its copies bring to which repositories.

    Of any number of blobs: SQLite writes to an unnamed temporary file what its cache of CACHE_KIB does
    not hold, and removes the file at the end. For the thread that made it only; to be closed.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("")
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
            self._file.execute(f"PRAGMA {setting}")
        for table in ("registries", "repositories"):
            self._file.execute(f"CREATE TABLE {table} (key BLOB PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def bring(self, registry: str, repository: str, digest: str) -> Brought:
        """Remember that a copy brings a blob to a repository, and return what it finds there."""
        if not self._add("repositories", registry, digest, repository):
            return Brought.HERE
        return Brought.NOWHERE if self._add("registries", registry, digest) else Brought.NEARBY

    def _add(self, table: str, *names: str) -> bool:
        """Whether it was new. Names cannot hold a zero byte, so none are mistaken for others."""
        key = hashlib.blake2b("\0".join(names).encode(), digest_size=KEY_BYTES).digest()
        added = self._file.execute(f"INSERT OR IGNORE INTO {table} VALUES (?)", (key,))
        return added.rowcount == 1
