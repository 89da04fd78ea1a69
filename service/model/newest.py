"""The newest tags of a repository, in the memory of those that are kept and no more."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from service.model.semver import parse_tag

MOST = 10_000


class Newest:
    """Keeps the `count` greatest of what it is shown; equal ones by the order of their names."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[Any, str]] = []

    def add(self, order: Any, tag: str) -> None:
        """Show a tag with what it is ordered by."""
        item = (order, tag)
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def tags(self) -> frozenset[str]:
        """Return what is kept."""
        return frozenset(tag for _, tag in self._heap)


def version_order(tag: str) -> Any:
    """Return what a tag's version is ordered by; None for a tag that names none."""
    version = parse_tag(tag)
    return None if version is None else version.order


def creation_order(created: float | None) -> float:
    """Order by creation time; what has none is older than all that has one."""
    return -1.0 if created is None else created


def by_version(tags: Iterable[str]) -> list[str]:
    """Return the tags that name versions, the newest first."""
    ordered = [(order, tag) for tag in tags if (order := version_order(tag)) is not None]
    return [tag for _, tag in sorted(ordered, reverse=True)]
