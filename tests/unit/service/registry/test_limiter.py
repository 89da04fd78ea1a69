"""A limiter's waits, by a clock that only its own sleeping moves."""

from __future__ import annotations

import threading

import pytest

from service.errors import Throttled
from service.model.budget import LEASE_SECONDS, Lease, Quota, Wish
from service.model.endpoint import Limits
from service.registry.limiter import BLOCKED_WAIT_SECONDS, MIN_PIECE, Limiter, hold_all

NONE = Limits()


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Told:
    """What the limiter told the fleet."""

    def __init__(self) -> None:
        self.slowed: list[tuple[float, float]] = []
        self.paced: list[tuple[float, float]] = []
        self.heard: list[Quota] = []


def made(
    clock: Clock, limits: Limits = NONE, lease: Lease | None = None, told: Told | None = None
) -> Limiter:
    """A limiter whose lease is renewed at once whenever it asks."""

    def wake(limiter: Limiter) -> None:
        if lease is not None:
            limiter.grant(lease, clock.now + LEASE_SECONDS)

    return Limiter(
        "east",
        limits,
        wake=wake,
        slowed=(lambda *a: told.slowed.append(a)) if told else None,
        paced=(lambda *a: told.paced.append(a)) if told else None,
        heard=told.heard.append if told else None,
        clock=clock,
        sleep=clock.sleep,
    )


def test_nothing_limited_waits_for_nothing() -> None:
    clock = Clock()
    limiter = made(clock)

    for _ in range(1000):
        assert limiter.enter() is None
        limiter.moved(1 << 20)

    assert clock.now == 1000.0
    assert limiter.piece(1 << 20) == 1 << 20
    assert not limiter.gated


def test_requests_are_spread_at_the_leased_rate() -> None:
    clock = Clock()
    limiter = made(clock, Limits(requests_per_second=50), Lease(requests_per_second=20.0))
    moments = []
    for _ in range(101):
        limiter.enter()
        moments.append(clock.now)

    assert 4.5 <= moments[-1] - moments[0] <= 5.3
    for begin in moments:
        assert sum(begin <= one < begin + 1.0 for one in moments) <= 20 * 1.1 + 1


def test_no_lease_no_request_until_one_comes() -> None:
    clock = Clock()
    limiter = made(clock, Limits(requests_per_second=50))

    with pytest.raises(Throttled, match="no room") as caught:
        limiter.enter()

    assert caught.value.retry_after_seconds is not None
    assert clock.now >= 1059


def test_slots_are_given_back_once() -> None:
    clock = Clock()
    limiter = made(clock, Limits(concurrency=2), Lease(concurrency=2))
    first, second = limiter.enter(), limiter.enter()
    assert first is not None
    assert second is not None
    with pytest.raises(Throttled):
        limiter.enter()

    first()
    first()
    third = limiter.enter()

    assert third is not None
    with pytest.raises(Throttled):
        limiter.enter()
    assert limiter.wish().in_use == 2


def test_thread_that_holds_a_slot_needs_no_other() -> None:
    clock = Clock()
    east = made(clock, Limits(concurrency=1), Lease(concurrency=1))
    west = made(clock, Limits(concurrency=1), Lease(concurrency=1))
    with hold_all(east, west, None, east):
        assert east.enter() is None
        assert west.enter() is None
        assert (east.wish().in_use, west.wish().in_use) == (1, 1)
        with hold_all(east):
            pass
        assert east.wish().in_use == 1

    assert (east.wish().in_use, west.wish().in_use) == (0, 0)


def test_holding_two_registries_in_both_orders_ends() -> None:
    def limiter(name: str) -> Limiter:
        found = Limiter(name, Limits(concurrency=1))
        found.grant(Lease(concurrency=1), 1e12)
        return found

    east, west = limiter("east"), limiter("west")
    rounds = []

    def work(*order: Limiter) -> None:
        for _ in range(200):
            with hold_all(*order):
                rounds.append(1)

    threads = [threading.Thread(target=work, args=pair) for pair in ((east, west), (west, east))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(rounds) == 400


def test_bytes_are_spread_at_the_leased_bandwidth() -> None:
    clock = Clock()
    limiter = made(clock, Limits(bandwidth=1_000_000), Lease(bandwidth=500_000.0))
    moved = 0
    with limiter.streaming():
        while moved < 5_000_000:
            count = limiter.piece(1 << 20)
            limiter.moved(count)
            moved += count

    assert 9.5 <= clock.now - 1000.0 <= 10.5
    assert count == int(500_000 * 0.25)


def test_pieces_shrink_with_the_threads_that_share_and_not_below_a_few_packets() -> None:
    clock = Clock()
    limiter = made(clock, Limits(bandwidth=1_000_000), Lease(bandwidth=400_000.0))
    limiter.grant(Lease(bandwidth=400_000.0), clock.now + 1e9)
    with limiter.streaming(), limiter.streaming(), limiter.streaming(), limiter.streaming():
        assert limiter.piece(1 << 20) == 25_000
        limiter.grant(Lease(bandwidth=1000.0), clock.now + 1e9)
        assert limiter.piece(1 << 20) == MIN_PIECE


def test_too_much_makes_everybody_wait_and_is_told() -> None:
    clock, told = Clock(), Told()
    limiter = made(clock, told=told)
    for _ in range(30):
        limiter.enter()
    clock.now += 1.0

    limiter.saw(429, {"retry-after": "4"})
    limiter.enter()

    assert clock.now == pytest.approx(1005.0, abs=0.1)
    assert told.slowed == [(30.0, 4.0)]
    assert limiter.enter() is None
    assert not limiter.gated, "nothing of it is left once the time is over"


def test_long_wait_is_the_copys_and_not_the_threads() -> None:
    clock, told = Clock(), Told()
    limiter = made(clock, told=told)

    limiter.saw(503, {"retry-after": "120"})

    with pytest.raises(Throttled, match="wants no request") as caught:
        limiter.enter()
    assert clock.now == 1000.0
    assert caught.value.retry_after_seconds == pytest.approx(120.0)
    clock.now += 120 - BLOCKED_WAIT_SECONDS + 1
    limiter.enter()
    assert clock.now == pytest.approx(1120.0, abs=0.1)


def test_503_alone_and_other_answers_slow_nothing() -> None:
    clock, told = Clock(), Told()
    limiter = made(clock, told=told)

    for status in (200, 404, 500, 502, 503):
        limiter.saw(status, {})

    assert told.slowed == []
    assert not limiter.gated


def test_low_quota_is_told() -> None:
    clock, told = Clock(), Told()
    limiter = made(clock, told=told)

    limiter.saw(200, {"ratelimit-limit": "100", "ratelimit-remaining": "90;w=60"})
    limiter.saw(
        200,
        {"ratelimit-limit": "1000", "ratelimit-remaining": "90", "ratelimit-reset": "30"},
    )

    limiter.saw(200, {"content-length": "5"})

    assert told.paced == [(3.0, 5.0)]
    assert told.heard == [Quota(90, 100, 60.0), Quota(90, 1000, 30.0)]


def test_lease_of_a_cap_slows_what_has_no_limit_and_goes_again() -> None:
    clock = Clock()
    limiter = made(clock)
    limiter.grant(Lease(requests_per_second=10.0), clock.now + 1e9)
    for _ in range(21):
        limiter.enter()
    assert 1.8 <= clock.now - 1000.0 <= 2.2

    limiter.grant(Lease(), clock.now + 1.0)

    assert not limiter.gated


def test_wish_tells_demand_use_and_rate() -> None:
    clock = Clock()
    limiter = made(clock, Limits(concurrency=5), Lease(concurrency=5))
    for _ in range(3):
        limiter.enter()
    clock.now = 1002.0

    assert limiter.wish() == Wish(demand=3, in_use=3, rate=1.5)
    assert limiter.wish() == Wish(demand=3, in_use=3, rate=0.0)


@pytest.mark.parametrize("answered", [True, False], ids=["granted", "kept"])
def test_no_slot_is_taken_that_a_wish_on_its_way_does_not_tell_of(answered: bool) -> None:
    """The fleet gives the others what the wish leaves; a slot taken meanwhile would be one too many."""
    clock = Clock()
    limiter = made(clock, Limits(concurrency=3))
    limiter.grant(Lease(concurrency=3), clock.now + 3600)
    leave = limiter.enter()
    assert limiter.wish().in_use == 1

    with pytest.raises(Throttled):
        limiter.enter()
    assert leave is not None
    leave()
    assert limiter.enter() is not None  # the one that it tells of

    if answered:
        limiter.grant(Lease(concurrency=3), clock.now + 3600)
    else:
        limiter.keep()
    assert limiter.enter() is not None


def test_other_limits_hold_from_the_next_lease_on() -> None:
    clock = Clock()
    limiter = made(clock)
    limiter.set_limits(Limits(bandwidth=1000))
    assert limiter.gated
    limiter.set_limits(Limits())
    limiter.grant(Lease(), 0.0)
    assert not limiter.gated
