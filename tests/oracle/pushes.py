"""What a test pushed to the source, in order: the truth that histories are judged by."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

Place = tuple[str, str]  # repository, tag

DELETED = ""
"""The digest of a push that was the removal of a tag."""


@dataclass(frozen=True)
class Push:
    """One change of a tag at the source: its number from 1, its digest and when (time.monotonic)."""

    number: int
    digest: str
    at: float


@dataclass
class PushLog:
    """Every change of every tag. Write an entry *before* the push: then no sample can be ahead of it."""

    changes: dict[Place, list[Push]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, place: Place, digest: str) -> Push:
        """Note that a tag is about to name `digest` (DELETED: to go)."""
        with self._lock:
            changes = self.changes.setdefault(place, [])
            push = Push(len(changes) + 1, digest, time.monotonic())
            changes.append(push)
            return push

    def current(self) -> dict[Place, str]:
        """Return what each tag names now; removed ones are left out."""
        with self._lock:
            last = {place: changes[-1].digest for place, changes in self.changes.items()}
        return {place: digest for place, digest in last.items() if digest != DELETED}

    def numbers(self, place: Place, digest: str) -> list[int]:
        """Return the numbers under which a tag has named a digest."""
        with self._lock:
            return [push.number for push in self.changes.get(place, ()) if push.digest == digest]
