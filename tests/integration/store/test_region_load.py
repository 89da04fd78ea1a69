"""What waits for each region and who is there: right on both databases, and read by the indexes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text, update

from service.model.work import ProcessReport
from service.store.database import Database
from service.store.region_load import RegionLoad, RegionLoadStore, _count, _oldest
from service.store.schema import create_or_upgrade
from service.store.tables import copies, executions, processes
from tests.integration.store.builders import Plot, selected


@pytest.fixture
def load(database: Database) -> RegionLoadStore:
    return RegionLoadStore(database, dead_after_seconds=20.0)


def heartbeat(plot: Plot, boot: str, region: str, kind: str = "worker", slots: int = 4) -> None:
    plot.state.heartbeat(ProcessReport(boot, kind, region, slots, "host", 1))


def older(plot: Plot, execution: str, seconds: float) -> None:
    plot.database.write(
        lambda connection: connection.execute(
            update(executions)
            .where(executions.c.id == execution)
            .values(created_at=executions.c.created_at - seconds)
        )
    )


def test_live_workers_count_by_region(load: RegionLoadStore, plot: Plot) -> None:
    heartbeat(plot, "gone", "eu")
    plot.ago(processes, "seen_at", 60)
    heartbeat(plot, "a", "eu", slots=16)
    heartbeat(plot, "b", "eu", "urgent", 4)
    heartbeat(plot, "c", "us", slots=8)
    heartbeat(plot, "d", "us", "scheduler", 0)

    assert load.workers() == {"eu": (2, 20), "us": (1, 8)}
    assert load.waited_for() == ["eu", "us"]
    assert load.load(["eu", "moon"]) == {"eu": RegionLoad(2, 20), "moon": RegionLoad()}


def test_copies_wait_until_a_worker_has_them(load: RegionLoadStore, plot: Plot) -> None:
    old = plot.execution("old", priority="bulk")
    plot.page(
        old, [selected(f"o{n}", region="eu", destination_reference=f"o{n}") for n in range(3)]
    )
    older(plot, old, 500)
    fleet = plot.execution("fleet")
    plot.page(fleet, [selected(f"f{n}", destination_reference=f"f{n}") for n in range(2)])
    older(plot, fleet, 60)

    found = load.load(["eu", "local"])

    assert (found["eu"].waiting, found["local"].waiting) == (3, 2)
    assert found["eu"].oldest_seconds == pytest.approx(500, abs=30)
    assert found["local"].oldest_seconds == pytest.approx(60, abs=30)
    assert load.waited_for() == ["eu", "local"]
    sent = plot.dispatching.dispatch(plot.dispatching.eligible("local", 10))
    assert load.load(["local"])["local"].waiting == 2
    assert load.load(["local"])["local"].oldest_seconds == pytest.approx(60, abs=30)
    plot.state.begin(sent, "boot-a")
    assert load.load(["local"])["local"] == RegionLoad()


def test_oldest_is_found_whatever_its_priority(load: RegionLoadStore, plot: Plot) -> None:
    ages = {"urgent": 10.0, "normal": 200.0, "bulk": 90.0}
    for priority, age in ages.items():
        execution = plot.execution(priority, priority=priority)
        plot.page(execution, [selected("a", destination_reference=priority)])
        older(plot, execution, age)

    assert load.load(["local"])["local"].oldest_seconds == pytest.approx(200, abs=30)


def test_suspects_wait_too(load: RegionLoadStore, plot: Plot) -> None:
    execution = plot.planned("v1")
    older(plot, execution, 50)
    plot.set(copies, suspect=True)

    found = load.load(["local"])["local"]

    assert found.waiting == 1
    assert found.oldest_seconds == pytest.approx(50, abs=30)


def test_engine_of_one_machine_takes_all_that_is_open(load: RegionLoadStore, plot: Plot) -> None:
    execution = plot.execution("fleet")
    plot.page(
        execution,
        [
            selected(f"t{n}", region=region, destination_reference=f"t{n}")
            for n, region in enumerate(("eu", "us", "local"))
        ],
    )

    assert load.take_over("local") == 2
    assert load.take_over("local") == 0
    assert load.load(["local"])["local"].waiting == 3
    assert len(plot.dispatching.eligible("local", 10)) == 3


def test_backlog_is_not_read_to_be_looked_at(tmp_path: Path) -> None:
    """Over SQLite: PostgreSQL chooses by statistics, which a test's few rows do not have."""
    database = Database(f"sqlite:///{tmp_path}/own.db")
    create_or_upgrade(database)
    Plot(database).planned("v1")

    def plans(connection: Connection) -> list[str]:
        given = {"region": "local", "most": 5}
        return [
            str(row[3])
            for query in (_count(sqlite=True), _oldest(sqlite=True))
            for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query.text}"), given)
        ]

    with database.read() as connection:
        steps = [step for step in plans(connection) if "copies" in step]

    database.close()
    assert len(steps) == 7
    assert all("SEARCH" in step and "ix_copies_waiting" in step for step in steps), steps
