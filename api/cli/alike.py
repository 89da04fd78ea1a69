"""Failures that are alike, as one: a wrong password is one thing, not one for each tag."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_DIGEST = re.compile(r"\b[a-z0-9]+:[0-9a-f]{32,}\b")


@dataclass(slots=True)
class Alike:
    """Failures of one rule and destination with the same reason, but for the names in it."""

    first: dict[str, Any]
    repositories: set[str] = field(default_factory=set)
    count: int = 0

    def what(self) -> str:
        """Return what failed: one tag, or how many of which repositories."""
        place = str(_place(self.first) or self.first.get("rule") or "")
        if self.count == 1:
            return place
        if len(self.repositories) == 1:
            return f"{self.count} tags of {next(iter(self.repositories))}"
        registry = place.partition("/")[0]
        return f"{self.count} tags of {len(self.repositories)} repositories at {registry}"

    def example(self) -> str:
        """Return the words that name the first of several."""
        return "" if self.count == 1 else f" (first: {_place(self.first)})"


def alike(failures: Iterable[dict[str, Any]]) -> list[Alike]:
    """Return failures by what is the same about them, in the order of their first ones."""
    groups: dict[tuple[Any, ...], Alike] = {}
    for failure in failures:
        place = _place(failure)
        key = (
            failure.get("rule"),
            failure.get("class"),
            failure.get("hint"),
            (place or "").partition("/")[0],
            _plain(failure),
            None if place else len(groups),  # a whole execution's own reason stands alone
        )
        group = groups.setdefault(key, Alike(failure))
        group.count += 1
        group.repositories.add(_apart(place or "")[0])
    return list(groups.values())


def _place(failure: dict[str, Any]) -> str | None:
    place: str | None = failure.get("destination") or failure.get("source")
    return place


def _apart(place: str) -> tuple[str, str]:
    """Return registry/repository, and tag or digest."""
    path, at, digest = place.partition("@")
    if at:
        return path, digest
    path, _, tag = place.rpartition(":")
    return path, tag


def _plain(failure: dict[str, Any]) -> str:
    """Return a reason without the names of what it befell."""
    text = _DIGEST.sub("…", str(failure["reason"]))
    for place in (failure.get("source"), failure.get("destination")):
        if place:
            path, reference = _apart(place)
            names = (place, path, path.partition("/")[2], reference)
            for name in sorted(filter(None, names), key=len, reverse=True):
                text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", "…", text)
    return text
