"""Every store test runs on a SQLite file and on PostgreSQL, each with a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.store.database import Database
from service.store.dispatching import DispatchStore
from service.store.executions import ExecutionStore
from service.store.planning import PlanStore
from service.store.schema import create_or_upgrade
from service.store.work import SqlState
from tests.integration.store.builders import Plot
from tests.support.servers import PostgresServer

OpenDatabase = Callable[[], Database]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/transship.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh_database()


@pytest.fixture
def open_database(url: str) -> Iterator[OpenDatabase]:
    """Opens the test's database once more, as another process would."""
    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def empty(open_database: OpenDatabase) -> Database:
    return open_database()


@pytest.fixture
def database(empty: Database) -> Database:
    create_or_upgrade(empty)
    return empty


@pytest.fixture
def executions(database: Database) -> ExecutionStore:
    return ExecutionStore(database)


@pytest.fixture
def plans(database: Database) -> PlanStore:
    return PlanStore(database)


@pytest.fixture
def state(database: Database) -> SqlState:
    return SqlState(database)


@pytest.fixture
def dispatching(database: Database) -> DispatchStore:
    return DispatchStore(database, dead_after_seconds=20.0)


@pytest.fixture
def plot(database: Database) -> Plot:
    return Plot(database)
