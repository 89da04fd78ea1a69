"""Moves between the databases: everything arrives, counted and compared, or nothing does."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from service.errors import Conflict, InvalidConfiguration, InvalidInput, StoreUnavailable
from service.store import schema
from service.store.database import Database
from service.store.move import move
from service.store.portable import TableSum, our_tables, sum_up
from service.store.schema import create_or_upgrade
from service.store.tables import copies, executions, processes, rules, written_tags
from tests.integration.store.builders import Plot, a_rule
from tests.support.rows import fill
from tests.support.servers import PostgresServer

ROWS = 10_000


@pytest.fixture
def target(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database to move to: of the other kind, or of the one that the test names."""
    other = "postgresql" if url.startswith("sqlite") else "sqlite"
    address = f"sqlite:///{tmp_path}/target.db"
    if getattr(request, "param", other) == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        address = server.fresh_database()
    database = Database(address)
    yield database
    database.close()


def sums(database: Database) -> dict[str, TableSum]:
    with database.snapshot() as connection:
        return {table.name: sum_up(connection, table) for table in our_tables(connection)}


def moved(source: Database, target: Database) -> dict[str, TableSum]:
    return move(source, target, dead_after_seconds=20.0)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("sqlite", "postgresql"),
        ("postgresql", "sqlite"),
        pytest.param("sqlite", "sqlite", marks=pytest.mark.nightly),
        pytest.param("postgresql", "postgresql", marks=pytest.mark.nightly),
    ],
    indirect=True,
)
def test_every_row_of_every_table_arrives(database: Database, target: Database) -> None:
    database.exclusive(fill)
    before = sums(database)

    found = moved(database, target)

    assert found == before == sums(target) == sums(database)
    assert {table.rows for table in found.values()} == {3}
    schema.check_schema(target)


def test_work_goes_on_where_it_was(database: Database, plot: Plot, target: Database) -> None:
    first = plot.planned("v1", "v2")

    moved(database, target)

    there = Plot(target)
    assert [one.id for one in there.executions.list()] == [first]
    assert len(there.dispatching.dispatch(there.dispatching.eligible("local", 10))) == 2
    there.planned("v3", rule="other")
    with target.read() as connection:
        numbers = connection.execute(select(copies.c.id)).scalars().all()
    assert len(set(numbers)) == len(numbers) == 3


def test_a_target_that_holds_something_is_left_alone(
    database: Database, plot: Plot, target: Database
) -> None:
    plot.planned("v1")
    create_or_upgrade(target)
    Plot(target).planned("v2", rule="other")
    before = sums(target)

    with pytest.raises(Conflict, match="nothing is moved there: the database is not empty"):
        moved(database, target)

    assert sums(target) == before


def test_a_database_in_use_is_not_moved(database: Database, plot: Plot, target: Database) -> None:
    plot.heartbeat("a", kind="api")
    with pytest.raises(Conflict, match=r"at work with it: api on host \(process 1\)"):
        moved(database, target)
    assert schema.database_version(target) is None

    plot.ago(processes, "seen_at", 21)
    moved(database, target)


def test_nobody_writes_while_it_is_moved(database: Database, plot: Plot, target: Database) -> None:
    """A process that starts meanwhile waits at its first heartbeat, and is not lost in the old database."""
    plot.planned("v1")
    patient = Database(database.url.render_as_string(hide_password=False), busy_timeout_seconds=0.1)
    refused: list[str] = []

    def disturb(_text: str) -> None:
        if refused:
            return
        statement = update(rules).values(paused_at=1.0)
        lock = "SELECT 1" if database.is_sqlite else "SET LOCAL lock_timeout = '100ms'"
        with pytest.raises(StoreUnavailable) as caught:
            patient.exclusive(
                lambda connection: (
                    connection.exec_driver_sql(lock),
                    connection.execute(statement),
                )
            )
        refused.append(str(caught.value))

    move(database, target, dead_after_seconds=20.0, tell=disturb)
    patient.close()

    assert refused


@pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)], indirect=True
)
def test_an_earlier_or_later_database_is_not_moved(database: Database, target: Database) -> None:
    for stamp in ("0005", "9999"):
        database.exclusive(
            lambda connection, stamp=stamp: connection.exec_driver_sql(
                f"UPDATE alembic_version SET version_num = '{stamp}'"
            )
        )
        with pytest.raises(InvalidConfiguration, match=f"at revision {stamp}"):
            moved(database, target)
    assert schema.database_version(target) is None


def test_a_database_is_not_moved_to_itself(database: Database) -> None:
    with pytest.raises(Conflict, match="to itself"):
        moved(database, database)


def test_a_row_that_postgresql_does_not_take_is_told_of_and_nothing_arrives(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """SQLite holds no text to its length."""
    source = Database(f"sqlite:///{tmp_path}/source.db")
    create_or_upgrade(source)
    Plot(source).planned("v1")
    source.exclusive(
        lambda connection: connection.execute(update(executions).values(rule="r" * 200))
    )
    target = Database(postgres.fresh_database())

    with pytest.raises(InvalidInput, match=r"a row of executions, among the 1 after 0.*too long"):
        moved(source, target)

    assert schema.database_version(target) is None
    source.close()
    target.close()


def test_a_move_that_fails_leaves_nothing(database: Database, target: Database) -> None:
    database.exclusive(fill)
    before = sums(database)

    def stop(text: str) -> None:
        if text.startswith("written_tags"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(database, target, dead_after_seconds=20.0, tell=stop)

    assert schema.database_version(target) is None
    assert sums(database) == before
    assert moved(database, target) == before


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_memory_does_not_grow_with_rows(database: Database, target: Database) -> None:
    text = "x" * 4000
    for start in range(0, ROWS, 1000):
        database.exclusive(
            lambda connection, start=start: connection.execute(
                insert(written_tags),
                [
                    {
                        "registry": "west",
                        "repository": f"app{number}",
                        "tag": "v1",
                        "digest": f"sha256:{number}",
                        "rule": "fleet",
                        "platforms": text,
                        "written_at": 1.0,
                    }
                    for number in range(start, start + 1000)
                ],
            )
        )
    tracemalloc.start()
    try:
        found = moved(database, target)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found["written_tags"].rows == ROWS
    assert peak < ROWS * len(text) / 2, f"{peak:,} bytes"


def test_rules_are_what_they_were(database: Database, target: Database) -> None:
    from service.store.rules import RuleStore

    rule = a_rule(every=3600.0)
    RuleStore(database).put(rule, document={"name": "fleet"})
    before = RuleStore(database).get("fleet")

    moved(database, target)

    assert RuleStore(target).get("fleet") == before
