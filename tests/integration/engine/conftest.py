"""A world for each test: on SQLite, and on PostgreSQL too where a test is marked `on_both_databases`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine.lent import FarRegion, far_region_of
from tests.support.servers import PostgresServer
from tests.support.world import World, open_world


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = ""
    if getattr(request, "param", "sqlite") == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.fresh_database()
    with open_world(tmp_path, url) as opened:
        yield opened


@pytest.fixture
def far(world: World) -> FarRegion:
    return far_region_of(world)
