from __future__ import annotations

import pytest

from service.errors import TooSlow
from service.registry.timeouts import RateGuard, Timeouts

LIMITS = Timeouts(minimum_rate=100, window_seconds=10)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def move(guard: RateGuard, clock: Clock, count: int, seconds: float) -> None:
    began = guard.now()
    clock.seconds += seconds
    guard.moved(count, began)


def test_what_is_quick_enough_goes_on() -> None:
    clock = Clock()
    guard = RateGuard(LIMITS, "x", clock)
    for _ in range(100):
        move(guard, clock, 100, 1)


def test_a_window_below_the_rate_raises() -> None:
    clock = Clock()
    guard = RateGuard(LIMITS, "x", clock)
    for _ in range(9):
        move(guard, clock, 99, 1)
    with pytest.raises(TooSlow, match="990 bytes in 10 s"):
        move(guard, clock, 99, 1)


def test_a_quick_past_does_not_excuse_a_slow_present() -> None:
    clock = Clock()
    guard = RateGuard(LIMITS, "x", clock)
    move(guard, clock, 10**9, 10)
    with pytest.raises(TooSlow):
        move(guard, clock, 1, 10)


def test_waiting_outside_of_the_wire_does_not_count() -> None:
    clock = Clock()
    guard = RateGuard(LIMITS, "x", clock)
    for _ in range(20):
        clock.seconds += 60
        move(guard, clock, 100, 0.9)
