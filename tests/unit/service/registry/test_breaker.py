"""The breaker before a registry: when it opens, whom it lets through, when it closes (P13, F111)."""

from __future__ import annotations

import threading

import pytest

from service.errors import AuthenticationFailed, NetworkError, RegistryAway, ServerError
from service.registry.breaker import (
    DOUBT_SECONDS,
    FAILURES,
    FORGOTTEN_SECONDS,
    MAX_PAUSE_SECONDS,
    MAX_REFUSED_PAUSE_SECONDS,
    PROBE_SECONDS,
    REFUSED_PAUSES,
    Breaker,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Memory:
    def __init__(self) -> None:
        self.taken: set[tuple[str, bool]] = set()

    def accepted(self, registry: str, *, push: bool) -> None:
        self.taken.add((registry, push))

    def was_accepted(self, registry: str, *, push: bool) -> bool:
        return (registry, push) in self.taken


def opened(clock: Clock, error: Exception | None = None) -> Breaker:
    breaker = Breaker("east", clock=clock)
    cause = error or NetworkError("east: no answer")
    for _ in range(FAILURES):
        breaker.failed(cause)  # type: ignore[arg-type]
    assert breaker.is_open
    return breaker


def in_another_thread(act: object) -> object:
    found: list[object] = []

    def run() -> None:
        try:
            found.append(act())  # type: ignore[operator]
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_failures_with_a_good_answer_between_open_nothing() -> None:
    breaker = Breaker("east")
    for _ in range(3):
        for _ in range(FAILURES - 1):
            error = ServerError("500")
            assert breaker.failed(error) is error
        breaker.came()
    assert not breaker.is_open


def test_failures_in_a_row_open_it_and_say_since_when() -> None:
    clock = Clock()
    breaker = Breaker("east", clock=clock)
    error = NetworkError("east: no answer", hint="look")
    for _ in range(FAILURES - 1):
        assert breaker.failed(error) is error
        clock.now += 1
    away = breaker.failed(error)
    assert isinstance(away, RegistryAway)
    assert (away.failure_class, away.registry, away.hint) == ("network", "east", "look")
    assert away.since_seconds == FAILURES - 1
    with pytest.raises(RegistryAway):
        breaker.enter()


def test_one_is_let_through_after_the_pause_and_its_answer_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.0
    breaker.enter()
    breaker.enter()  # the same thread, at its next request
    assert isinstance(in_another_thread(breaker.enter), RegistryAway)
    breaker.came()
    assert not breaker.is_open


def test_each_probe_that_fails_doubles_the_pause_to_its_most() -> None:
    clock = Clock()
    breaker = opened(clock)
    pauses = []
    for _ in range(8):
        clock.now += pauses[-1] if pauses else 1.0
        breaker.enter()
        away = breaker.failed(NetworkError("still"))
        assert isinstance(away, RegistryAway)
        pauses.append(away.retry_after_seconds or 0.0)
    assert pauses[:3] == [2.0, 4.0, 8.0]
    assert pauses[-1] == MAX_PAUSE_SECONDS


def test_failures_of_requests_that_were_under_way_move_no_probe() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 0.5
    late = in_another_thread(lambda: breaker.failed(NetworkError("late")))
    assert isinstance(late, RegistryAway)
    assert late.retry_after_seconds == 0.5


def test_a_probe_that_never_says_anything_is_followed_by_another() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.0
    assert in_another_thread(breaker.enter) is None
    clock.now += PROBE_SECONDS - 1
    with pytest.raises(RegistryAway):
        breaker.enter()
    clock.now += 1
    breaker.enter()


def test_an_answer_to_anybody_closes_what_failures_have_opened() -> None:
    breaker = opened(Clock())
    assert in_another_thread(breaker.came) is None
    assert not breaker.is_open


def test_credentials_count_as_taken_once_the_registry_took_them_for_the_same() -> None:
    memory = Memory()
    breaker = Breaker("east", reputation=memory, patient=True)
    assert not breaker.was_accepted(push=False)
    breaker.accepted(push=False)
    assert breaker.was_accepted(push=False)
    assert not breaker.was_accepted(push=True)
    other = Breaker("east", reputation=memory, patient=True)
    assert other.was_accepted(push=False), "another process knows"
    hasty = Breaker("east", reputation=memory)
    hasty.accepted(push=False)
    assert not hasty.was_accepted(push=False), "without patience nothing is waited for"


def test_refused_credentials_open_it_until_a_probe_of_its_own_is_answered() -> None:
    clock = Clock()
    breaker = Breaker("east", patient=True, clock=clock)
    error = AuthenticationFailed("east does not accept the credentials")
    away = breaker.refused(error)
    assert isinstance(away, RegistryAway)
    assert away.failure_class == "auth"
    assert away.retry_after_seconds == REFUSED_PAUSES
    assert in_another_thread(breaker.came) is None
    assert breaker.is_open, "an answer to a token of before says nothing of the credentials"
    pause = float(REFUSED_PAUSES)
    for _ in range(5):
        clock.now += pause
        breaker.enter()
        pause = breaker.refused(error).retry_after_seconds or 0.0
    assert pause == MAX_REFUSED_PAUSE_SECONDS
    clock.now += pause
    breaker.enter()
    breaker.came()
    assert not breaker.is_open


def test_a_refusal_where_the_credentials_are_good_is_tried_once_more() -> None:
    clock = Clock()
    breaker = Breaker("east", patient=True, clock=clock)
    error = AuthenticationFailed("too small a scope")
    first = breaker.doubted(error)
    assert isinstance(first, RegistryAway)
    assert first.since_seconds == 0.0
    assert isinstance(breaker.doubted(error), RegistryAway), "others meet the same moment"
    clock.now += 1.0
    assert breaker.doubted(error) is error
    clock.now += DOUBT_SECONDS
    assert isinstance(breaker.doubted(error), RegistryAway)
    assert not breaker.is_open


def test_a_probe_that_ends_without_an_answer_is_followed_after_a_pause_by_another() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.0
    breaker.enter()
    breaker.gave_up()
    with pytest.raises(RegistryAway):
        breaker.enter()
    clock.now += 1.0
    assert in_another_thread(breaker.enter) is None


def test_a_challenge_is_an_answer_of_a_registry_that_was_down() -> None:
    breaker = opened(Clock())
    breaker.came(challenge=True)
    assert not breaker.is_open


def test_what_was_long_ago_is_not_counted_into_how_long_it_is_away() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10 * FORGOTTEN_SECONDS  # nobody asked
    breaker.enter()
    away = in_another_thread(breaker.enter)
    assert isinstance(away, RegistryAway)
    assert away.since_seconds == 0.0


def test_who_is_not_waited_for_long_is_asked_often() -> None:
    clock = Clock()
    breaker = Breaker("east", clock=clock, max_pause_seconds=1.5)
    for _ in range(FAILURES):
        breaker.failed(NetworkError("no answer"))
    for _ in range(4):
        clock.now += 1.5
        breaker.enter()
        away = breaker.failed(NetworkError("no answer"))
    assert isinstance(away, RegistryAway)
    assert away.pause_seconds == 1.5
