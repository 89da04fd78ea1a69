"""A process that is the whole fleet leaves Redis alone, until others are at work or a registry says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as NoRedis

from service.bootstrap import Services
from service.model.budget import Lease, Wish
from service.model.endpoint import Limits
from service.settings import Settings
from service.store.budgets import LateBudgets
from service.store.schema import create_or_upgrade
from workers.signatures import QueuePublisher

LIMITS = Limits(requests_per_second=50, concurrency=8)
WISH = Wish(demand=1, in_use=0, rate=0.0)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Of a process alone, whose Redis is not there."""
    found = Services(
        Settings(
            database_url=f"sqlite:///{tmp_path / 'state.db'}",
            redis_url=f"unix://{tmp_path / 'nowhere'}?db=0",
        ),
        alone=True,
    )
    create_or_upgrade(found.database)
    yield found
    found.close()


def test_a_drive_alone_asks_nothing_of_redis(services: Services) -> None:
    drive = services.drive(QueuePublisher(services.redis), plans=False)

    assert drive.step() is False

    with pytest.raises(NoRedis):
        services.share()
    assert services.alone


def test_a_drive_of_several_processes_does(services: Services) -> None:
    services.alone = False
    drive = services.drive(QueuePublisher(services.redis), plans=False)

    with pytest.raises(NoRedis):
        drive.step()


class Shared:
    """Budgets that give nothing, and keep what they are told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, float]] = []

    def lease(self, _name: str, _limits: Limits, _wish: Wish) -> Lease:
        return Lease(0.0, 0, 0.0)

    def throttled(self, name: str, rate: float, retry_after_seconds: float) -> None:
        self.told.append((name, rate, retry_after_seconds))

    def pace(self, name: str, requests_per_second: float, seconds: float) -> None:
        self.told.append((name, requests_per_second, seconds))


def test_a_budget_is_whole_until_it_is_shared() -> None:
    opened: list[Shared] = []

    def shared() -> Shared:
        opened.append(Shared())
        return opened[-1]

    budgets = LateBudgets(shared)

    assert budgets.lease("east", LIMITS, WISH) == Lease(50, 8, None)
    assert opened == []
    budgets.share()
    assert budgets.lease("east", LIMITS, WISH) == Lease(0.0, 0, 0.0)
    budgets.share()
    assert len(opened) == 1


def test_a_registry_that_says_too_much_is_told_to_the_shared_ones() -> None:
    shared = Shared()
    budgets = LateBudgets(lambda: shared)

    budgets.throttled("east", 20.0, 3.0)
    budgets.pace("east", 5.0, 60.0)

    assert shared.told == [("east", 20.0, 3.0), ("east", 5.0, 60.0)]
    assert budgets.lease("east", LIMITS, WISH) == Lease(0.0, 0, 0.0)
