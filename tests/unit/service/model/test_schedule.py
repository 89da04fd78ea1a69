"""Schedules: five fields, a time zone, the two days a year when clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from service.errors import InvalidConfiguration
from service.model.rule import SyncRule, Trigger
from service.model.schedule import (
    LATE_SECONDS,
    check_schedule,
    check_timezone,
    first_run,
    is_missed,
    next_run,
    next_schedule,
)


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    "expression",
    ["* * * * *", "0 3 * * *", "*/15 8-18 * * mon-fri", "0 0 29 2 *", "0 12 L * *", "5 4 1,15 * *"],
)
def test_five_fields_that_come_true_are_schedules(expression: str) -> None:
    assert check_schedule(expression) == expression


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("* * * * * *", "five fields"),
        ("0 3 * *", "five fields"),
        ("@daily", "five fields"),
        ("@every 1ms * * *", "five fields"),
        ("60 * * * *", "not a schedule"),
        ("0 0 0 * *", "not a schedule"),
        ("x * * * *", "not a schedule"),
        ("0 0 31 2 *", "not a schedule"),
    ],
)
def test_others_are_refused_with_what_to_write(expression: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message) as caught:
        check_schedule(expression)
    assert caught.value.hint


@pytest.mark.parametrize("zone", ["Mars/X", "", "../etc/passwd", "a" * 300, "/etc/localtime"])
def test_zones_come_from_the_iana_database(zone: str) -> None:
    assert check_timezone("Asia/Shanghai") == "Asia/Shanghai"
    with pytest.raises(InvalidConfiguration):
        check_timezone(zone)


def test_the_next_instant_is_counted_in_the_zone() -> None:
    after = at("2026-11-24T12:00:00")

    assert next_schedule("0 3 * * *", "UTC", after) == at("2026-11-25T03:00:00")
    assert next_schedule("0 3 * * *", "Asia/Shanghai", after) == at("2026-11-24T19:00:00")


def test_an_hour_that_is_skipped_runs_after_the_gap_and_one_that_comes_twice_runs_once() -> None:
    spring = at("2026-03-29T00:30:00", "Europe/Berlin")
    run = next_schedule("30 2 * * *", "Europe/Berlin", spring)
    assert at("2026-03-29T01:00:00") <= run <= at("2026-03-29T01:30:00")  # 02:00 becomes 03:00

    autumn = at("2026-10-25T00:00:00", "Europe/Berlin")
    first = next_schedule("30 2 * * *", "Europe/Berlin", autumn)
    second = next_schedule("30 2 * * *", "Europe/Berlin", first)
    assert second - first >= 24 * 3600


def test_interval_and_schedule_go_together_and_the_earlier_comes_first() -> None:
    now = at("2026-11-24T02:59:30")
    both = Trigger(every_seconds=3600.0, schedule="0 3 * * *")

    assert next_run(both, now) == at("2026-11-24T03:00:00")
    assert next_run(both, at("2026-11-24T03:00:00")) == at("2026-11-24T04:00:00")
    assert next_run(Trigger(event=True), now) is None
    assert first_run(both, now) == now
    assert first_run(Trigger(schedule="0 3 * * *"), now) == at("2026-11-24T03:00:00")


def test_only_a_rule_that_says_skip_passes_over_what_was_missed() -> None:
    def rule(trigger: Trigger) -> SyncRule:
        return SyncRule("r", "east", (), (), trigger=trigger)

    nightly = Trigger(schedule="0 3 * * *", missed="skip")
    due = at("2026-11-24T03:00:00")

    assert not is_missed(rule(nightly), due, due + LATE_SECONDS)
    assert is_missed(rule(nightly), due, due + LATE_SECONDS + 1)
    assert not is_missed(rule(Trigger(schedule="0 3 * * *")), due, due + 86400)
    assert not is_missed(rule(Trigger(every_seconds=60, missed="skip")), due, due + 86400)


def test_a_time_of_the_doubled_hour_is_never_in_the_past() -> None:
    begin = at("2026-10-25T00:00:00")
    for minute in range(0, 180, 5):
        after = begin + 60 * minute
        for expression in ("30 2 * * *", "15 2,3 * * *", "*/20 * * * *"):
            assert next_schedule(expression, "Europe/Berlin", after) > after
