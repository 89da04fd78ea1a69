"""What a failure does to a copy: pause and try again, plan again, or end with its class (2.5 of reliability)."""

from __future__ import annotations

import random

from redis.exceptions import RedisError

from service.errors import (
    Cancelled,
    Corrupt,
    ManifestBlobUnknown,
    ManifestNotFound,
    NotFound,
    RegistryAway,
    RegistryError,
    RegistryPaused,
    StoreUnavailable,
    Throttled,
    TransshipError,
    WrongRegion,
)
from service.model.states import CopyState
from service.model.work import CopyEnded, CopyPostponed, CopyWork, Counters
from service.replication.borders import WRONG_REGION_SECONDS
from service.replication.patience import is_waited_for
from service.settings import Settings

MAX_PAUSE_SECONDS = 60.0
MAX_TOLD_SECONDS = 900.0
PAUSED_SECONDS = 1.0
CORRUPT_TRIES = 3
BUG_TRIES = 2
MAX_THROTTLES = 100
"""Waits that a registry may ask of one copy before it is failed: an execution has to end."""
OUTAGE_BACKOFF = 1

OUTAGES = (StoreUnavailable, RedisError)
"""Redis or SQL does not answer: no fault of the copy's, so never counted against it (promise 3)."""


def outcome_of(
    error: Exception, work: CopyWork, counters: Counters, settings: Settings
) -> CopyEnded | CopyPostponed:
    """Return what becomes of a copy whose work raised `error`."""
    if isinstance(error, OUTAGES):
        return CopyPostponed(
            work,
            counters,
            pause_seconds=backoff(OUTAGE_BACKOFF, settings),
            failure_class="server",
            reason=f"the engine's own {type(error).__name__}: {error}",
        )
    if not isinstance(error, TransshipError):
        reason = f"{type(error).__name__}: {error}"
        if work.failures + 1 < BUG_TRIES:
            return _again(work, counters, settings, "bug", reason)
        return _failed(
            work, counters, "bug", reason, "this is a fault in Transship: report it with the log"
        )
    reason = _reason(error, work)
    if isinstance(error, Cancelled):
        return CopyPostponed(work, counters)
    if isinstance(error, WrongRegion):
        return CopyPostponed(
            work,
            counters,
            pause_seconds=WRONG_REGION_SECONDS,
            failure_class=error.failure_class,
            reason=f"{reason} ({error.hint})",
            away=True,
            region=error.region,
        )
    if isinstance(error, RegistryPaused):
        return CopyPostponed(
            work,
            counters,
            pause_seconds=PAUSED_SECONDS,
            failure_class=error.failure_class,
            reason=reason,
            away=True,
        )
    if isinstance(error, RegistryAway) and is_waited_for(error, settings):
        return CopyPostponed(
            work,
            counters,
            pause_seconds=random.uniform(1.0, 1.5) * error.pause_seconds,  # noqa: S311 - jitter
            failure_class=error.failure_class,
            reason=reason,
            away=True,
        )
    if isinstance(error, Throttled) and work.throttles < MAX_THROTTLES:
        told = error.retry_after_seconds or backoff(work.failures, settings)
        return CopyPostponed(
            work,
            counters,
            pause_seconds=min(told, MAX_TOLD_SECONDS),
            failure_class=error.failure_class,
            reason=reason,
        )
    if isinstance(error, ManifestBlobUnknown) and work.replans < settings.max_replans:
        return CopyPostponed(
            work, counters, replanned=True, failure_class=error.failure_class, reason=reason
        )
    if error.retryable and not isinstance(error, ManifestBlobUnknown | Throttled):
        tries = CORRUPT_TRIES if isinstance(error, Corrupt) else settings.max_attempts
        if work.failures + 1 < tries:
            pause = error.pause_seconds if isinstance(error, RegistryAway) else 0.0
            return _again(work, counters, settings, error.failure_class, reason, pause)
    at_source = isinstance(error, ManifestNotFound) and error.registry == work.source_registry
    if at_source and work.replans == 0:  # the tag may have moved: read it once more
        return CopyPostponed(
            work, counters, replanned=True, failure_class=error.failure_class, reason=reason
        )
    return _failed(work, counters, error.failure_class, reason, _hint(error, work))


def _hint(error: TransshipError, work: CopyWork) -> str:
    if error.hint or not isinstance(error, NotFound) or error.registry == work.source_registry:
        return error.hint
    return "the destination may want its project or repository created before the first push"


def backoff(failures: int, settings: Settings) -> float:
    """Return a pause with full jitter that doubles with each failure."""
    ceiling = min(MAX_PAUSE_SECONDS, settings.retry_seconds * 2.0**failures)
    return random.uniform(0.5, 1.0) * ceiling  # noqa: S311 - jitter


def _again(
    work: CopyWork,
    counters: Counters,
    settings: Settings,
    failure_class: str,
    reason: str,
    least_seconds: float = 0.0,
) -> CopyPostponed:
    return CopyPostponed(
        work,
        counters,
        pause_seconds=max(least_seconds, backoff(work.failures, settings)),
        failed=True,
        failure_class=failure_class,
        reason=reason,
    )


def _failed(
    work: CopyWork, counters: Counters, failure_class: str, reason: str, hint: str
) -> CopyEnded:
    return CopyEnded(
        work, CopyState.FAILED, counters, failure_class=failure_class, reason=reason, hint=hint
    )


def _reason(error: TransshipError, work: CopyWork) -> str:
    if isinstance(error, RegistryError) and error.registry:
        side = "source " if error.registry == work.source_registry else "destination "
        return f"{side}{error.registry}: {error.message}"
    return error.message
