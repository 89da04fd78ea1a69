"""Which bound holds at which moment."""

from __future__ import annotations

from datetime import datetime

import pytest

from service.model.bandwidth import bandwidth_at
from service.model.rule import BandwidthLimit

OFFICE = BandwidthLimit(50, 8 * 60, 20 * 60, (0, 1, 2, 3, 4))
NIGHT = BandwidthLimit(70, 22 * 60, 6 * 60, (4,))
ALWAYS = BandwidthLimit(100)


def moment(day: int, clock: str) -> datetime:
    """`day` 0 is a Monday."""
    return datetime.fromisoformat(f"2026-11-{23 + day}T{clock}")


@pytest.mark.parametrize(
    ("limits", "when", "expected"),
    [
        ((), moment(0, "12:00"), None),
        ((ALWAYS,), moment(6, "03:00"), 100),
        ((OFFICE,), moment(0, "07:59"), None),
        ((OFFICE,), moment(0, "08:00"), 50),
        ((OFFICE,), moment(4, "19:59"), 50),
        ((OFFICE,), moment(4, "20:00"), None),
        ((OFFICE,), moment(5, "12:00"), None),
        ((NIGHT,), moment(4, "21:59"), None),
        ((NIGHT,), moment(4, "22:00"), 70),
        ((NIGHT,), moment(5, "05:59"), 70),
        ((NIGHT,), moment(5, "06:00"), None),
        ((NIGHT,), moment(4, "05:00"), None),
        ((NIGHT,), moment(5, "23:00"), None),
        ((ALWAYS, OFFICE), moment(1, "12:00"), 50),
        ((ALWAYS, OFFICE), moment(1, "21:00"), 100),
    ],
)
def test_least_bound_of_the_moment(
    limits: tuple[BandwidthLimit, ...], when: datetime, expected: int | None
) -> None:
    assert bandwidth_at(limits, when) == expected
