"""When a rule runs by itself next: cron in a time zone, and intervals (DESIGN section 8)."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from service.errors import InvalidConfiguration
from service.model.rule import SyncRule, Trigger

ONCE, SKIP = "once", "skip"
LATE_SECONDS = 120.0
"""A scheduled instant older than this was missed: the scheduler was away."""


def check_schedule(expression: str) -> str:
    """Return a cron expression of five fields if it ever comes true; raises InvalidConfiguration.

    Minute, hour, day of month, month, day of week as in Debian's cron; `L` and `5#2` as cronsim has
    them. Seconds, `@daily` and the like are refused.
    """
    from cronsim import CronSim, CronSimError

    if len(expression.split()) != 5 or expression.startswith("@"):
        raise InvalidConfiguration(
            f"{expression[:80]!r} is not a schedule of five fields",
            hint='write minute, hour, day of month, month, day of week: "0 3 * * *"',
        )
    try:
        next(CronSim(expression, datetime(2024, 1, 1)))  # noqa: DTZ001 - only whether there is one
    except CronSimError as error:
        raise InvalidConfiguration(
            f"{expression[:80]!r} is not a schedule: {error}",
            hint='write minute, hour, day of month, month, day of week: "0 3 * * *"',
        ) from error
    return expression


def check_timezone(name: str) -> str:
    """Return the name of a time zone of the IANA database; raises InvalidConfiguration."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidConfiguration(
            f"{name[:80]!r} is not a time zone",
            hint='write "UTC", "Europe/Berlin", "Asia/Shanghai"',
        ) from None
    return name


def next_schedule(expression: str, timezone: str, after: float) -> float:
    """Return the first instant of a schedule after `after`, both in seconds since 1970.

    An hour that a zone's clocks skip in spring runs right after the gap, and one that comes twice in
    autumn runs once, unless the schedule runs every hour or more often (as Debian's cron does).
    """
    from cronsim import CronSim

    begin = datetime.fromtimestamp(after, ZoneInfo(timezone))
    instants = CronSim(expression, begin)
    found = next(instants).timestamp()
    while found <= after:  # in the hour that comes twice, a wall clock's next may lie behind us
        found = next(instants).timestamp()
    return found


def next_run(trigger: Trigger, now: float) -> float | None:
    """Return when a rule that has just run, or been looked at, runs next; None: not by itself."""
    times = []
    if trigger.every_seconds is not None:
        times.append(now + trigger.every_seconds)
    if trigger.schedule is not None:
        times.append(next_schedule(trigger.schedule, trigger.timezone, now))
    return min(times, default=None)


def first_run(trigger: Trigger, now: float) -> float | None:
    """Return when a rule that was saved now runs first: at once with an interval, else by schedule."""
    return now if trigger.every_seconds is not None else next_run(trigger, now)


def is_missed(rule: SyncRule, due_at: float, now: float) -> bool:
    """Whether a scheduled instant is to be passed over: it is long gone, and the rule says skip."""
    trigger = rule.trigger
    return trigger.missed == SKIP and trigger.every_seconds is None and now - due_at > LATE_SECONDS
