"""How many processes serve the API."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from api.serve import MAX_PROCESSES, Places, processes
from api.serve_share import Shares
from service.settings import Settings


@dataclass
class Held:
    """What a place is given to, as gunicorn's worker is."""

    place: int = -1

    def take_place(self, shares: Shares, place: int) -> None:
        assert place < len(shares)
        self.place = place


@dataclass
class Arbiter:
    """What of gunicorn's arbiter is asked: who is there."""

    WORKERS: dict[int, Held]


def test_sqlite_is_served_by_one_process() -> None:
    assert processes(Settings(database_url="sqlite:////tmp/transship.db")) == 1


def test_postgresql_is_served_by_one_process_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(database_url="postgresql+psycopg://db/transship")
    for cores, expected in ((1, 1), (3, 3), (64, MAX_PROCESSES)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _pid, cores=cores: set(range(cores)))
        assert processes(settings) == expected


def test_a_process_takes_the_place_of_one_that_has_ended() -> None:
    places = Places(2)
    first, second, third, late = (Held() for _ in range(4))
    arbiter = Arbiter({})
    for pid, one in enumerate((first, second, third)):
        places.give(arbiter, one)
        arbiter.WORKERS[pid] = one
    assert [one.place for one in (first, second, third)] == [0, 1, 2]

    del arbiter.WORKERS[1]
    places.take_back(arbiter, second)
    places.give(arbiter, late)

    assert late.place == 1


def test_whoever_has_fewest_connections_is_least_and_places_of_nobody_do_not_count() -> None:
    shares = Shares(3)
    shares.set(0, 4)
    assert shares.is_least(0)

    shares.set(1, 3)
    assert (shares.is_least(0), shares.is_least(1)) == (False, True)

    shares.leave(1)
    assert shares.is_least(0)
