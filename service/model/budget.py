"""What a process may ask of a registry for the next moment: its part of a budget of the fleet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from service.model.endpoint import Limits

LEASE_SECONDS = 1.5
"""How long a lease holds; it is renewed three times as often, so a dead process's part is free soon."""

FLOOR_FRACTION = 0.1
"""What part of a budget each process keeps while Redis is away (DESIGN section 6: the floor rate)."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a process tells when it asks for its part."""

    demand: int  # threads that wanted something at once since it asked last
    in_use: int  # requests under way now: that much concurrency cannot be taken back
    rate: float  # requests a second that it has sent lately


@dataclass(frozen=True, slots=True)
class Lease:
    """A process's part for LEASE_SECONDS; None: no bound."""

    requests_per_second: float | None = None
    concurrency: int | None = None
    bandwidth: float | None = None  # bytes a second
    blocked_seconds: float = 0.0  # the registry wants nothing for so long

    @property
    def is_bound(self) -> bool:
        """Whether anything has to be waited for."""
        return (
            self.requests_per_second is not None
            or self.concurrency is not None
            or self.bandwidth is not None
            or self.blocked_seconds > 0
        )


@dataclass(frozen=True, slots=True)
class Quota:
    """What a registry has said of its own quota: requests that are left, of how many, in which time.

    `seconds`: until it is renewed, or its window, as the registry told; None: it did not.
    """

    left: int
    limit: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the fleet's limiter of a registry stands, as one region's Redis has it.

    `requests_per_second`: what "too much" or a low quota holds it to, growing back; None: nothing does.
    `blocked_seconds`: the registry wants nothing for so long. `processes` hold a part now. `quota`: what it
    told last, `quota_seconds` ago; None: nothing in the last hour of its use.
    """

    requests_per_second: float | None = None
    blocked_seconds: float = 0.0
    processes: int = 0
    quota: Quota | None = None
    quota_seconds: float = 0.0


def floor(limits: Limits) -> Lease:
    """Return what a process keeps to while nobody can tell it its part."""
    rate, bandwidth = limits.requests_per_second, limits.bandwidth
    return Lease(
        None if rate is None else rate * FLOOR_FRACTION,
        None if limits.concurrency is None else max(1, int(limits.concurrency * FLOOR_FRACTION)),
        None if bandwidth is None else bandwidth * FLOOR_FRACTION,
    )


def whole(limits: Limits) -> Lease:
    """Return what a process has that shares with no other."""
    return Lease(limits.requests_per_second, limits.concurrency, limits.bandwidth)


class Budgets(Protocol):
    """Where the fleet shares budgets out. Every call may raise StoreUnavailable."""

    def lease(self, name: str, limits: Limits, wish: Wish) -> Lease:
        """Renew this process's part of the budget under a name."""

    def throttled(self, name: str, rate: float, retry_after_seconds: float) -> None:
        """Tell that a registry said "too much": the whole fleet waits, then sends half as much.

        `rate` is what this process sent a second. Of several tellings within a second one counts.
        """

    def pace(self, name: str, requests_per_second: float, seconds: float) -> None:
        """Tell that no more than this rate is left of a registry's own quota for some seconds."""

    def heard(self, name: str, quota: Quota) -> None:
        """Keep what a registry has said of its own quota, for whoever looks at it."""
