"""The bytes of a rule: a bound of the fleet's total that comes and goes with the time of day."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from service.model.bandwidth import bandwidth_at
from service.model.endpoint import Limits
from service.model.work import CopyWork
from service.registry.limiter import Limiter
from service.registry.limiters import OF_RULE, Limiters

LOOK_SECONDS = 1.0  # how late the beginning or end of a window may be noticed


class RulePace:
    """The gate of one rule's bytes, as blob_copy asks it."""

    def __init__(
        self,
        limiters: Limiters,
        work: CopyWork,
        *,
        now: Callable[[ZoneInfo], datetime] = datetime.now,
    ) -> None:
        self._limiters = limiters
        self._name = f"{OF_RULE}{work.rule}"
        self._windows = work.bandwidth
        self._zone = ZoneInfo(work.timezone)
        self._now = now
        self._limiter = self._look()
        self._next_look = time.monotonic() + LOOK_SECONDS

    def current(self) -> Limiter:
        """Return the limiter, held to what the clock says now."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            self._limiter = self._look()
        return self._limiter

    def _look(self) -> Limiter:
        bandwidth = bandwidth_at(self._windows, self._now(self._zone))
        return self._limiters.get(self._name, Limits(bandwidth=bandwidth))


def pace_of(limiters: Limiters | None, work: CopyWork) -> RulePace | None:
    """Return the gate of a copy's bytes; None for a rule without a bound."""
    if limiters is None or not work.bandwidth:
        return None
    return RulePace(limiters, work)
