"""Whether a registry answers and takes our credentials, as its last checks found it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HealthState = Literal["healthy", "unhealthy", "refused"]
HEALTHY: HealthState = "healthy"
UNHEALTHY: HealthState = "unhealthy"
REFUSED: HealthState = "refused"


@dataclass(frozen=True, slots=True)
class Health:
    """What the last checks of a registry came to; times are seconds since 1970.

    healthy: it answers and takes our credentials; unhealthy: it does not, which may pass; refused: it
    answers, and what it says does not pass by itself (credentials, certificate, address). `holds`:
    its copies are held back for it.
    """

    state: HealthState
    since: float
    checked_at: float
    reason: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Look:
    """One check: what it found, in words unless all is well."""

    registry: str
    state: HealthState
    reason: str = ""
    patience_seconds: float | None = None
    """An unhealthy one is refused when it has been so for so long; None: however long it lasts."""
    saved: tuple[float, int] | None = None
    """When the registry was created that was asked, and its version: of another one this says nothing."""


@dataclass(frozen=True, slots=True)
class ToCheck:
    """A registry that is to be checked, by a process of its region.

    `failing`: its last check was no good; `holds`: its copies are held back; `far`: its region has a database of
    its own, so that nobody checks it.
    """

    registry: str
    region: str
    failing: bool
    holds: bool
    far: bool
    checked_at: float | None
