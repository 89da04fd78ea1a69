"""How many bytes a second a rule may move at a moment: its windows, in its time zone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from service.model.rule import BandwidthLimit

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def bandwidth_at(limits: Iterable[BandwidthLimit], moment: datetime) -> int | None:
    """Return the least of the limits whose window the moment is in; None: no bound.

    `moment` is in the rule's time zone: what a wall clock there shows is what counts, so a window is
    an hour longer or shorter on the day that the clock is changed.
    """
    found = [limit.bytes_per_second for limit in limits if _holds(limit, moment)]
    return min(found) if found else None


def _holds(limit: BandwidthLimit, moment: datetime) -> bool:
    minute, day = moment.hour * 60 + moment.minute, moment.weekday()
    begin, end = limit.from_minute, limit.to_minute
    if begin is None or end is None:
        return _on(limit, day)
    if begin < end:
        return begin <= minute < end and _on(limit, day)
    if minute >= begin:
        return _on(limit, day)
    return minute < end and _on(limit, (day - 1) % 7)  # what began yesterday


def _on(limit: BandwidthLimit, day: int) -> bool:
    return not limit.days or day in limit.days
