"""PostgreSQL that cancels, locks and is slow, and an API that loses a process: rows F007, F102, F106."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.faults.lab import Lab, Scene, open_lab
from tests.faults.test_processes import held_at, whole
from tests.oracle.states import ENDED
from tests.support.processes import children_of, wait_until
from tests.support.servers import PostgresServer

pytestmark = pytest.mark.timeout(240)


def connect(lab: Lab, *, autocommit: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of a stranger's to the product's database."""
    url = lab._database.replace("postgresql+psycopg://", "postgresql://")
    return psycopg.connect(url, autocommit=autocommit)


OTHERS = "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with PostgresServer() as postgres, open_lab(tmp_path_factory.mktemp("lab"), postgres) as lab:
        yield lab


def a_fleet(scene: Scene) -> None:
    scene.push("app:v1", (30_000, 40_000))
    for number in range(9):
        scene.push(f"app{number}:v1", (30_000, 40_000))


def test_f102_statements_that_are_cancelled_are_done_again(lab: Lab) -> None:
    """A cancelled statement is what a deadlock or a lock time-out leaves: nothing of it has happened."""
    scene = lab.scene("f102")
    a_fleet(scene)
    over = threading.Event()
    cancelled = 0

    def cancel() -> None:
        nonlocal cancelled
        with connect(lab, autocommit=True) as connection:
            while not over.wait(0.005):
                found = connection.execute(
                    f"SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity {OTHERS} "
                    "AND state = 'active'"
                ).fetchone()
                cancelled += found[0] if found else 0

    canceller = threading.Thread(target=cancel)
    canceller.start()
    identity = scene.start()
    try:
        wait_until(lambda: cancelled >= 5, 20, "statements to cancel")
    finally:
        over.set()
        canceller.join()

    assert lab.wait(identity, 60)["state"] == "succeeded"
    assert all(process.alive for process in lab.processes.values())
    whole(scene, tags=10, blobs=30)


def test_f102_deadlocks_with_a_stranger_cost_nothing_but_time(lab: Lab) -> None:
    """Somebody locks copies in the opposite order, so that PostgreSQL has to end one of two."""
    scene = lab.scene("f102-deadlock")
    a_fleet(scene)
    over = threading.Event()

    def lock() -> None:
        with connect(lab) as connection:
            connection.execute(
                "SET deadlock_timeout = '5s'"
            )  # so that the product is the one to lose
            connection.commit()
            while not over.is_set():
                with contextlib.suppress(psycopg.errors.DeadlockDetected):
                    rows = connection.execute("SELECT id FROM copies ORDER BY id DESC").fetchall()
                    for (identity,) in rows:
                        connection.execute(
                            "SELECT 1 FROM copies WHERE id = %s FOR UPDATE", (identity,)
                        )
                connection.rollback()

    before = deadlocks(lab)

    def met() -> bool:
        """Whether they have met; a run that ended before they did is followed by one with as much to do."""
        if deadlocks(lab) > before:
            return True
        if lab.execution(scene.runs[-1])["state"] in ENDED:
            a_fleet(scene)
            scene.start()
        return False

    stranger = threading.Thread(target=lock)
    stranger.start()
    scene.start()
    try:
        wait_until(met, 90, "a deadlock")
    finally:
        over.set()
        stranger.join()
    for identity in scene.runs:
        assert lab.wait(identity, 60)["state"] == "succeeded"
    whole(scene, tags=10, blobs=30)


def deadlocks(lab: Lab) -> int:
    """Return how many deadlocks PostgreSQL has ended in this database."""
    with connect(lab, autocommit=True) as connection:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        found = connection.execute(query).fetchone()
    return int(found[0]) if found else 0


def test_f106_a_table_that_is_locked_for_seconds_holds_work_up_and_breaks_nothing(lab: Lab) -> None:
    scene = lab.scene("f106")
    a_fleet(scene)
    held = held_at(scene, "closing-an-upload")
    identity = scene.start()
    held.reached()
    with connect(lab) as connection:
        connection.execute("LOCK TABLE copies IN ACCESS EXCLUSIVE MODE")
        held.let_go()
        answer = lab.client.get(f"/executions/{identity}", timeout=60)
        assert answer.status_code == 503, answer.text
        lab.lapse()
        connection.rollback()

    assert lab.wait(identity, 60)["state"] == "succeeded"
    whole(scene, tags=10, blobs=30)


def test_f007_a_process_of_the_api_that_dies_is_replaced(lab: Lab) -> None:
    """As by the kernel when memory is short."""
    scene = lab.scene("f007")
    scene.push("app:v1")
    parent = lab.processes["api"].pid
    before = set(children_of(parent))
    assert before, "the API has one process alone here: nothing to lose"
    os.kill(min(before), signal.SIGKILL)

    assert scene.run()["state"] == "succeeded"
    wait_until(
        lambda: min(before) not in (now := children_of(parent)) and len(now) >= len(before),
        20,
        "another process in its place",
    )
    assert lab.processes["api"].pid == parent
    whole(scene, tags=1, blobs=3)
