"""One answer for whoever asks within a moment."""

from __future__ import annotations

import threading

import pytest

from service.store.shared import SharedAnswers


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_answer_is_believed_for_its_time_and_asked_for_anew_after_it() -> None:
    clock = Clock()
    shared = SharedAnswers[int](2.0, clock=clock)
    answers = iter(range(10))

    assert [shared.get("a", lambda: next(answers)) for _ in range(3)] == [0, 0, 0]
    assert shared.get("b", lambda: next(answers)) == 1
    clock.now += 1.9
    assert shared.get("a", lambda: next(answers)) == 0
    clock.now += 0.2
    assert shared.get("a", lambda: next(answers)) == 2


def test_answer_that_takes_long_is_believed_longer() -> None:
    clock = Clock()
    shared = SharedAnswers[int](1.0, clock=clock)
    answers = iter(range(10))

    def slow() -> int:
        clock.now += 0.5
        return next(answers)

    assert shared.get("a", slow) == 0
    clock.now += 4.4
    assert shared.get("a", slow) == 0
    clock.now += 0.2
    assert shared.get("a", slow) == 1


def test_of_those_who_come_together_one_asks() -> None:
    shared = SharedAnswers[int](60.0)
    asked = []
    go_on = threading.Event()

    def ask() -> int:
        asked.append(1)
        go_on.wait(10)
        return 7

    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(shared.get("a", ask))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert found == [7] * 5
    assert len(asked) == 1


def test_question_that_raises_is_asked_again() -> None:
    shared = SharedAnswers[int](60.0)

    def fail() -> int:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        shared.get("a", fail)
    assert shared.get("a", lambda: 1) == 1


def test_only_the_last_ones_are_kept() -> None:
    shared = SharedAnswers[int](60.0, most=2)
    for number, key in enumerate("abc"):
        shared.get(key, lambda number=number: number)  # type: ignore[misc]

    assert shared.get("c", lambda: 9) == 2
    assert shared.get("a", lambda: 9) == 9
