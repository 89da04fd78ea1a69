"""Budgets shared out by a real Redis: never more than there is, fair, and slowed for all at once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
import redis

from service.errors import StoreUnavailable
from service.model.budget import LEASE_SECONDS, Lease, Quota, Standing, Wish
from service.model.endpoint import Limits
from service.store import budgets as budgets_module
from service.store.budgets import RedisBudgets
from tests.support.load import busy
from tests.support.processes import wait_until
from tests.support.servers import RedisServer

LIMITS = Limits(requests_per_second=100.0, concurrency=10, bandwidth=1_000_000)
BUSY = Wish(demand=8, in_use=0, rate=0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    server.flushall()
    with server.client() as connected:
        yield connected


def process(client: redis.Redis, boot: str = "host-1-a") -> RedisBudgets:
    return RedisBudgets(client, boot)


def test_one_process_has_all_of_it(client: redis.Redis) -> None:
    lease = process(client).lease("east", LIMITS, BUSY)

    assert lease == Lease(100.0, 10, 1_000_000.0, 0.0)


def test_what_is_not_limited_is_not_bound(client: redis.Redis) -> None:
    assert not process(client).lease("east", Limits(), BUSY).is_bound
    assert process(client).lease("east", Limits(concurrency=3), BUSY) == Lease(concurrency=3)


def test_parts_of_any_number_of_processes_never_exceed_the_budget(client: redis.Redis) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    processes = [process(client, f"host-{n}-x") for n in range(7)]
    held: dict[int, Lease] = {}
    for _ in range(400):
        number = dice.randrange(len(processes))
        in_use = dice.randint(0, held[number].concurrency or 0) if number in held else 0
        wish = Wish(dice.randint(1, 16), in_use, dice.random() * 50)
        held[number] = processes[number].lease("east", LIMITS, wish)

        assert sum(one.requests_per_second or 0 for one in held.values()) <= 100.001
        assert sum(one.concurrency or 0 for one in held.values()) <= 10
        assert sum(one.bandwidth or 0 for one in held.values()) <= 1_000_001


def test_parts_become_fair_by_demand(client: redis.Redis) -> None:
    first, second = process(client, "host-1-a"), process(client, "host-2-b")
    first.lease("east", LIMITS, Wish(12, 0, 0.0))
    assert second.lease("east", LIMITS, Wish(4, 0, 0.0)).requests_per_second == 0.0

    for _ in range(2):
        one = first.lease("east", LIMITS, Wish(12, 0, 0.0))
        two = second.lease("east", LIMITS, Wish(4, 0, 0.0))

    assert one.requests_per_second == pytest.approx(75.0, abs=0.01)
    assert two.requests_per_second == pytest.approx(25.0, abs=0.01)
    assert one.bandwidth == pytest.approx(750_000, abs=1)
    assert (one.concurrency, two.concurrency) in {(8, 2), (7, 2), (7, 3)}


def test_a_rest_of_next_to_nothing_is_none_yet(client: redis.Redis) -> None:
    """A budget that has grown while another process held all of it: one in 800 s is no rate to go by."""
    first, second = process(client, "host-1-a"), process(client, "host-2-b")
    rest = 1 / 800
    grown = Limits(requests_per_second=100.0 + rest, bandwidth=1_000_000 + 1)
    first.lease("east", LIMITS, BUSY)

    assert second.lease("east", grown, BUSY) == Lease(0.0, None, 0.0)

    first.lease("east", grown, BUSY)
    lease = second.lease("east", grown, BUSY)
    assert lease.requests_per_second == pytest.approx(50.0, abs=0.01)
    assert lease.bandwidth == pytest.approx(500_000, abs=1)


def test_one_slot_goes_round(client: redis.Redis) -> None:
    limits = Limits(concurrency=1)
    processes = [process(client, f"host-{n}-x") for n in range(3)]
    had = set()

    def everybody_had_it() -> bool:
        for number, one in enumerate(processes):
            if one.lease("east", limits, BUSY).concurrency:
                had.add(number)
        return len(had) == 3

    wait_until(everybody_had_it, 10, "every process to have the slot")


def test_slot_in_use_is_not_taken_back(client: redis.Redis) -> None:
    first, second = process(client, "host-1-a"), process(client, "host-2-b")
    first.lease("east", LIMITS, BUSY)
    for _ in range(4):
        second.lease("east", LIMITS, Wish(1000, 0, 0.0))
        assert first.lease("east", LIMITS, Wish(1, 9, 0.0)).concurrency == 9
        assert second.lease("east", LIMITS, Wish(1000, 0, 0.0)).concurrency in {0, 1}


def test_part_of_a_dead_process_is_free_soon(client: redis.Redis) -> None:
    process(client, "host-1-a").lease("east", LIMITS, BUSY)
    began = time.monotonic()
    survivor = process(client, "host-2-b")

    wait_until(
        lambda: survivor.lease("east", LIMITS, BUSY).requests_per_second == 100.0,
        2 * LEASE_SECONDS,
        "the dead one's part",
    )

    assert time.monotonic() - began >= LEASE_SECONDS - 0.2


def test_too_much_halves_what_the_fleet_sends_and_it_grows_back(client: redis.Redis) -> None:
    first, second = process(client, "host-1-a"), process(client, "host-2-b")
    for one in (first, second):
        one.lease("east", Limits(), Wish(4, 0, 40.0))

    first.throttled("east", 40.0, 0.0)
    second.throttled("east", 40.0, 0.0)  # of the same congestion
    second.lease("east", Limits(), Wish(4, 0, 40.0))
    cut = first.lease("east", Limits(), Wish(4, 0, 40.0)).requests_per_second
    assert cut is not None
    assert 15 <= cut <= 25, "half of half of 80"

    def grown() -> bool:
        second.lease("east", Limits(), Wish(4, 0, 40.0))
        now = first.lease("east", Limits(), Wish(4, 0, 40.0)).requests_per_second
        return now is None or now > cut * 1.05

    wait_until(grown, 5, "the rate to grow")


def test_rate_is_free_again_once_it_has_grown(client: redis.Redis) -> None:
    one = process(client)
    one.lease("east", Limits(), Wish(1, 0, 40.0))
    one.throttled("east", 40.0, 0.0)
    client.hset("transship:limits:east", "cut_at", time.time() - 3600)

    assert one.lease("east", Limits(), BUSY) == Lease()
    assert client.hget("transship:limits:east", "cut") is None


def test_limit_and_cut_the_lower_one_holds(client: redis.Redis) -> None:
    one = process(client)
    limits = Limits(requests_per_second=10.0)
    one.lease("east", limits, Wish(1, 0, 10.0))

    one.throttled("east", 10.0, 0.0)

    assert one.lease("east", limits, BUSY).requests_per_second == pytest.approx(5.0, abs=0.5)


def test_retry_after_holds_for_every_process(client: redis.Redis) -> None:
    began = time.monotonic()
    process(client, "host-1-a").throttled("east", 1.0, 30.0)
    process(client, "host-1-a").throttled("east", 1.0, 5.0)

    blocked = process(client, "host-2-b").lease("east", Limits(), BUSY).blocked_seconds

    assert 29 - (time.monotonic() - began) < blocked <= 30
    assert process(client).lease("west", Limits(), BUSY).blocked_seconds == 0


def test_rest_of_a_quota_bounds_the_fleet(client: redis.Redis) -> None:
    one = process(client)

    one.pace("east", 3.0, 5.0)
    one.pace("east", 50.0, 5.0)

    assert one.lease("east", Limits(), BUSY).requests_per_second == pytest.approx(3.0)


def test_keys_end_by_themselves(client: redis.Redis) -> None:
    one = process(client)
    one.lease("east", LIMITS, BUSY)
    one.throttled("west", 1.0, 1.0)
    one.pace("south", 1.0, 1.0)

    left = [int(client.ttl(key)) for key in client.keys("transship:limits:*")]
    assert len(left) >= 3
    assert all(
        budgets_module.KEEP_SECONDS - 60 < one <= budgets_module.KEEP_SECONDS for one in left
    )


def test_redis_that_is_away_is_told() -> None:
    with RedisServer() as running, running.client() as client:
        one = process(client)
        running.kill()
        for call in (
            lambda: one.lease("east", LIMITS, BUSY),
            lambda: one.throttled("east", 1.0, 1.0),
            lambda: one.pace("east", 1.0, 1.0),
        ):
            with pytest.raises(StoreUnavailable):
                call()


# ---- what whoever looks is told ------------------------------------------------------------------


def test_nothing_is_known_of_who_was_not_asked(client: redis.Redis) -> None:
    assert process(client).standing("east") == Standing()


def test_quota_is_told_as_it_was_heard_last_beside_the_leases(client: redis.Redis) -> None:
    one, other = process(client), process(client, "host-2-b")
    one.lease("east", LIMITS, BUSY)
    other.lease("east", LIMITS, BUSY)
    one.heard("east", Quota(99, 100, 21600.0))
    other.heard("east", Quota(123456789))

    found = one.standing("east")

    assert found.quota == Quota(123456789)
    assert 0 <= found.quota_seconds < 5 * busy()
    assert (found.processes, found.requests_per_second, found.blocked_seconds) == (2, None, 0.0)
    assert one.lease("east", LIMITS, BUSY).requests_per_second == pytest.approx(50, abs=1)


def test_a_registry_that_says_too_much_is_told_with_its_rate_and_its_rest(
    client: redis.Redis,
) -> None:
    began = time.monotonic()
    process(client).throttled("east", 40.0, 30.0)

    found = process(client).standing("east")

    assert found.requests_per_second == pytest.approx(20.0)
    assert 28 - (time.monotonic() - began) < found.blocked_seconds <= 30
