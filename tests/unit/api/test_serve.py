"""How many processes serve the API."""

from __future__ import annotations

import pytest

from api.serve import MAX_PROCESSES, processes
from service.settings import Settings


def test_sqlite_is_served_by_one_process() -> None:
    assert processes(Settings(database_url="sqlite:////tmp/transship.db")) == 1


def test_postgresql_is_served_by_one_process_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(database_url="postgresql+psycopg://db/transship")
    for cores, expected in ((1, 1), (3, 3), (64, MAX_PROCESSES)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _pid, cores=cores: set(range(cores)))
        assert processes(settings) == expected
