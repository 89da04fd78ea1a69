"""Why a run does not move, in words: pauses that it waits behind, copies that are tried again."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any


def held(seen: dict[str, Any]) -> list[str]:
    """Return a line for each pause that an execution waits behind, with what ends it."""
    return [
        f"{one['kind']} {one['name']} is held back since {one['paused_at'][:19]}Z, and goes on by itself: "
        f"{one['reason']}"
        if one.get("reason")
        else f"{one['kind']} {one['name']} is paused since {one['paused_at'][:19]}Z: `transship "
        f"{_GROUPS[one['kind']]} resume {one['name']}` lets it go on"
        for one in seen.get("held_by", ())
    ]


def retried(seen: dict[str, Any]) -> list[str]:
    """Return a line for each destination and class of reasons that copies are tried again for."""
    return [
        f"{_reason(one)}: {counted(one['copies'], 'tag')}, {counted(one['tries'], 'try')}"
        f"{_next(one['next_at'])}"
        for one in seen.get("retrying", ())
    ]


def notes(seen: dict[str, Any]) -> list[str]:
    """Return all that is to be said of why an execution does not move."""
    return [*held(seen), *retried(seen)]


_GROUPS = {"rule": "rules", "registry": "registries"}


def _reason(one: dict[str, Any]) -> str:
    """Return a reason, which names its side by itself unless it is the engine's own."""
    reason = str(one["reason"])
    named = reason.startswith(("source ", "destination ", f"{one['destination']}: "))
    return reason if named else f"to {one['destination']}: {reason}"


def counted(count: int, word: str) -> str:
    """Return a count with its word: 1 tag, 2 tags, 2 registries."""
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count} {word if count == 1 else plural}"


def _next(moment: str | None) -> str:
    if moment is None:
        return ", trying now"
    left = datetime.fromisoformat(moment).timestamp() - time.time()
    return f", next in {round(left)} s" if left >= 1 else ", trying now"
