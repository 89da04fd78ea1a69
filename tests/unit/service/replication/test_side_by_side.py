from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from service.replication.clients import Meter
from service.replication.side_by_side import FAR_SECONDS, SideBySide

FAR = 2 * FAR_SECONDS
NEAR = FAR_SECONDS / 2
WAIT_SECONDS = 10.0


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def beside(meter: Meter) -> Iterator[SideBySide]:
    opened = SideBySide(7, meter)
    yield opened
    opened.close()


def test_what_is_far_is_done_at_once_and_told_in_order(beside: SideBySide) -> None:
    together = threading.Barrier(8)

    def do(number: int) -> int:
        together.wait(WAIT_SECONDS)  # breaks unless all eight are under way at once
        return number * number

    assert beside.each(range(8), do, answers=lambda: FAR) == [n * n for n in range(8)]


def test_what_is_near_is_done_by_the_calling_thread_alone(beside: SideBySide) -> None:
    found = beside.each(range(20), lambda _: threading.get_ident(), answers=lambda: NEAR)

    assert set(found) == {threading.get_ident()}


def test_others_help_from_the_moment_that_answers_are_known_to_take_long(
    beside: SideBySide,
) -> None:
    together = threading.Barrier(3)
    seconds = 0.0

    def do(number: int) -> int:
        nonlocal seconds
        if number:
            together.wait(WAIT_SECONDS)
        else:
            seconds = FAR
        return number

    assert beside.each(range(4), do, answers=lambda: seconds) == [0, 1, 2, 3]


def test_who_answers_nothing_for_long_is_far_though_nothing_is_known(beside: SideBySide) -> None:
    others = threading.Event()

    def do(number: int) -> bool:
        if number == 0:
            return others.wait(WAIT_SECONDS)  # the first answer is not here yet
        others.set()
        return True

    assert all(beside.each(range(2), do, answers=lambda: 0.0))


def test_helpers_may_ask_for_help_themselves(beside: SideBySide) -> None:
    def outer(number: int) -> list[tuple[int, int]]:
        return beside.each(range(5), lambda inner: (number, inner), answers=lambda: FAR)

    found = beside.each(range(50), outer, answers=lambda: FAR)

    assert found == [[(number, inner) for inner in range(5)] for number in range(50)]


def test_the_first_error_is_raised_when_what_was_begun_has_ended(beside: SideBySide) -> None:
    together = threading.Barrier(8)
    ended = []

    def do(number: int) -> None:
        if number < 8:
            together.wait(WAIT_SECONDS)
        if number in (2, 5):
            raise ValueError(f"number {number}")
        ended.append(number)

    with pytest.raises(ValueError, match="number 2"):
        beside.each(range(8), do, answers=lambda: FAR)

    assert sorted(ended) == [0, 1, 3, 4, 6, 7]


def test_nothing_is_begun_after_an_error(beside: SideBySide) -> None:
    begun = []

    def do(number: int) -> None:
        begun.append(number)
        raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 0"):
        beside.each(range(9), do, answers=lambda: NEAR)

    assert begun == [0]


def test_requests_of_helpers_count_where_the_calling_thread_counts(
    beside: SideBySide, meter: Meter
) -> None:
    together = threading.Barrier(6)
    sent = meter.counter("east")
    requests: dict[str, int] = {}

    def do(_: int) -> None:
        together.wait(WAIT_SECONDS)
        sent("GET", "blob", 200)

    with meter.collect(requests):
        beside.each(range(6), do, answers=lambda: FAR)

    assert requests == {"east": 6}


def test_without_helpers_and_when_closed_the_calling_thread_does_it_all() -> None:
    for beside in (SideBySide(0), SideBySide(3)):
        beside.close()
        found = beside.each(range(9), lambda _: threading.get_ident(), answers=lambda: FAR)
        assert set(found) == {threading.get_ident()}
