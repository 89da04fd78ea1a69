"""What one token may ask: a rate with a burst, requests under way, wrong tokens."""

from __future__ import annotations

import pytest

from api.problems import Problem
from api.throttle import GUESS_SECONDS, GUESSES, Guesses, Throttle
from tests.unit.api.conftest import Api


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(throttle: Throttle, who: str = "ci") -> int:
    with pytest.raises(Problem) as caught:
        throttle.admit(who)
    assert caught.value.status == 429
    return int(caught.value.headers["Retry-After"])


def test_burst_then_the_rate() -> None:
    clock = Clock()
    throttle = Throttle(2, 100, clock)

    for _ in range(4):
        throttle.admit("ci").release()
    assert refused(throttle) == 1
    throttle.admit("other").release()
    clock.now += 0.5
    throttle.admit("ci").release()
    assert refused(throttle) == 1


def test_requests_under_way_are_counted_and_given_back_once() -> None:
    throttle = Throttle(1000, 2, Clock())

    first, second = throttle.admit("ci"), throttle.admit("ci")
    assert refused(throttle) == 1
    first.release()
    first.release()
    throttle.admit("ci")
    assert refused(throttle) == 1
    second.release()
    throttle.admit("ci")


def test_wrong_tokens_are_answered_401_and_after_too_many_429() -> None:
    clock = Clock()
    guesses = Guesses(clock)

    for _ in range(GUESSES):
        guesses.spend("192.0.2.1")
    with pytest.raises(Problem) as caught:
        guesses.spend("192.0.2.1")
    assert caught.value.status == 429
    guesses.spend("192.0.2.2")
    clock.now += GUESS_SECONDS + 1
    guesses.spend("192.0.2.1")


def test_right_token_is_served_while_wrong_ones_are_refused(api: Api) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    statuses = [
        api.get("/api/v1/rules", role=None, headers=wrong).status_code for _ in range(GUESSES + 1)
    ]

    assert statuses == [401] * GUESSES + [429]
    assert api.get("/api/v1/rules", role="viewer").status_code == 200


def test_forwarded_address_is_not_believed(api: Api) -> None:
    for number in range(GUESSES):
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": f"192.0.2.{number}"}
        api.get("/api/v1/rules", role=None, headers=headers)

    last = {"Authorization": "Bearer wrong", "X-Forwarded-For": "198.51.100.1"}
    response = api.get("/api/v1/rules", role=None, headers=last)

    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0


def test_each_token_has_its_own_rate(api: Api) -> None:
    context = api.app.extensions["transship"]
    context.throttle = Throttle(1, 10, Clock())

    statuses = [api.get("/api/v1/rules", role="viewer").status_code for _ in range(3)]

    assert statuses == [200, 200, 429]
    assert api.get("/api/v1/rules", role="operator").status_code == 200


def test_refused_request_gives_its_place_back(api: Api) -> None:
    context = api.app.extensions["transship"]
    context.throttle = Throttle(1000, 1, Clock())

    for path in ("/api/v1/nothing", "/api/v1/tokens", "/api/v1/rules/x", "/api/v1/rules"):
        for _ in range(3):
            assert api.get(path, role="viewer").status_code != 429
