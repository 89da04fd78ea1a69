"""What a registry says is left of its own quota (Docker Hub, GitHub, the IETF draft RateLimit)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from service.model.budget import Quota

HOLD_SECONDS = 5.0  # how long a told rest is believed; the next answer tells it anew
LOW = 0.1  # part of the limit below which the rest is stretched
MIN_RATE = 1.0  # requests a second that a low rest is stretched to at least: HEADs are often free
MAX_RESET_SECONDS = 86400.0

_PREFIXES = ("ratelimit-", "x-ratelimit-")
_VALUE = re.compile(r"\s*(\d{1,9})\s*(?:[;,]\s*w=(\d{1,9}))?")


def left_of_quota(headers: Mapping[str, str]) -> tuple[float, float] | None:
    """Return the requests a second that the rest allows, and how long to hold to it; None: enough.

    The rest is stretched over the time until the reset, where that is told, or over a tenth of the
    window: below a tenth of the limit, and never to less than one request a second. Headers that
    cannot be read say nothing.
    """
    for prefix in _PREFIXES:
        remaining = _VALUE.match(headers.get(f"{prefix}remaining", ""))
        if remaining is None:
            continue
        limit = _VALUE.match(headers.get(f"{prefix}limit", ""))
        rest = float(remaining[1])
        if limit is None or rest >= LOW * float(limit[1]):
            return None
        window = remaining[2] or limit[2]
        seconds = _seconds(headers.get(f"{prefix}reset", ""), window)
        if seconds is None:
            return None
        return max(MIN_RATE, rest / seconds), HOLD_SECONDS
    return None


def told_quota(headers: Mapping[str, str]) -> Quota | None:
    """Return what an answer says of the registry's own quota; None: nothing that can be read."""
    for prefix in _PREFIXES:
        remaining = _VALUE.match(headers.get(f"{prefix}remaining", ""))
        if remaining is None:
            continue
        limit = _VALUE.match(headers.get(f"{prefix}limit", ""))
        window = remaining[2] or (limit[2] if limit else None)
        seconds = back_in_seconds(headers) or (float(window) if window else None)
        return Quota(int(remaining[1]), int(limit[1]) if limit else None, seconds)
    return None


def is_used_up(headers: Mapping[str, str]) -> bool:
    """Whether nothing is left of the quota that an answer tells of."""
    return any(
        (rest := _VALUE.match(headers.get(f"{prefix}remaining", ""))) and float(rest[1]) == 0
        for prefix in _PREFIXES
    )


def back_in_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until there is quota again, where an answer says so in seconds."""
    for prefix in _PREFIXES:
        reset = headers.get(f"{prefix}reset", "").strip()
        if reset.isascii() and reset.isdigit() and 0 < int(reset[:10]) <= MAX_RESET_SECONDS:
            return float(reset)
    return None


def _seconds(reset: str, window: str | None) -> float | None:
    """Return the time that the rest has to last; a reset that is a date (GitHub's) says nothing here."""
    text = reset.strip()
    if text.isascii() and text.isdigit() and 0 < int(text[:10]) <= MAX_RESET_SECONDS:
        return float(text)
    return float(window) * LOW if window is not None and int(window) > 0 else None
