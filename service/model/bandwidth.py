"""How many bytes a second a rule may move at a moment: its windows, in its time zone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    return within(limit.from_minute, limit.to_minute, limit.days, moment)


def within(begin: int | None, end: int | None, days: Sequence[int], moment: datetime) -> bool:
    """Whether a moment is in a window: minutes from midnight, and days, 0 for Monday; none means every day.

    A window whose end is not after its begin runs over midnight, and is of the day that it begins on.
    """
    minute, day = moment.hour * 60 + moment.minute, moment.weekday()
    if begin is None or end is None:
        return _on(days, day)
    if begin < end:
        return begin <= minute < end and _on(days, day)
    if minute >= begin:
        return _on(days, day)
    return minute < end and _on(days, (day - 1) % 7)  # what began yesterday


def _on(days: Sequence[int], day: int) -> bool:
    return not days or day in days
