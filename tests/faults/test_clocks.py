"""Clocks that are wrong, jump or stand still: rows F022, F023, F150, F151 (libfaketime).

PostgreSQL: leases, pauses and schedules are judged by the database's clock, so a process whose own is an hour off is
as good as any. On SQLite there is one machine, and one clock.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from service.store.clock import now_epoch
from service.store.tables import executions, rules
from tests.faults.lab import Lab, Scene, open_lab
from tests.faults.test_processes import held_at, whole
from tests.support.processes import wait_until
from tests.support.servers import PostgresServer

pytestmark = pytest.mark.timeout(240)

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
SHIFTS = ["+1h", "-1h", "+400d"]
EACH = [pytest.param("+1h", marks=pytest.mark.nightly), "-1h", "+400d"]
"""What a clock that is an hour ahead would break, one that is a year ahead does."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert LIBRARIES, "libfaketime is missing: apt-get install libfaketime"
    with PostgresServer() as postgres, open_lab(tmp_path_factory.mktemp("lab"), postgres) as lab:
        yield lab


def shifted(by: str) -> dict[str, str]:
    """Return the variables of a process whose wall clock is off, and whose monotonic one is not."""
    return {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": by, "DONT_FAKE_MONOTONIC": "1"}


def its_clock_is_off(lab: Lab, name: str) -> bool:
    """Whether the library is in the process: a variable that nobody reads shifts nothing."""
    return "libfaketime" in Path(f"/proc/{lab.processes[name].pid}/maps").read_text()


def runs_of(lab: Lab, rule: str) -> list[str]:
    with lab.database.read() as connection:
        query = select(executions.c.id).where(executions.c.rule == rule)
        return [str(row.id) for row in connection.execute(query)]


def a_fleet(scene: Scene) -> None:
    scene.push("app:v1", (30_000, 40_000))
    for number in range(5):
        scene.push(f"app{number}:v1", (30_000, 40_000))


@pytest.mark.parametrize("by", EACH)
def test_f150_a_worker_whose_clock_is_off_holds_what_it_has_and_steals_nothing(
    lab: Lab, by: str
) -> None:
    scene = lab.scene(f"f150-{SHIFTS.index(by)}")
    a_fleet(scene)
    lab.start("worker-2", **shifted(by))
    try:
        assert its_clock_is_off(lab, "worker-2")
        held = held_at(scene, "reading-a-blob") if by == "+400d" else None
        if held is None:  # it alone does all of it
            lab.processes["worker"].kill()
        identity = scene.start()
        if held is not None:
            held.reached()
            lab.lapse()  # whoever holds it is alive, and says so by the database's clock
            held.let_go()
        assert lab.wait(identity)["state"] == "succeeded"
        for number in range(5):
            assert len(scene.tag_puts(f"app{number}:v1")) == 1
        whole(scene, tags=6, blobs=18)
    finally:
        if not lab.processes["worker"].alive:
            lab.start("worker")
        lab.processes.pop("worker-2").kill()


@pytest.mark.parametrize("by", EACH)
def test_f023_a_scheduler_whose_clock_is_off_starts_each_due_rule_once(lab: Lab, by: str) -> None:
    lab.rearm("scheduler", shifted(by))
    try:
        wait_until(lambda: its_clock_is_off(lab, "scheduler"), 20, "the scheduler's start")
        scene = lab.scene(f"f023-{SHIFTS.index(by)}", trigger={"schedule": "0 3 * * *"})
        scene.push("app:v1")
        other = lab.scene(f"f023-run-{SHIFTS.index(by)}")
        other.push("app:v1")
        _due(lab, scene.name, 1)
        wait_until(lambda: len(runs_of(lab, scene.name)) == 1, 20, "the due rule")
        lab.quiesce()
        assert other.run()["state"] == "succeeded"  # a whole round of the scheduler later
        scene.runs += runs_of(lab, scene.name)
        assert len(scene.runs) == 1, "it was started again"
        whole(other, tags=1, blobs=3)
        whole(scene, tags=1, blobs=3)
    finally:
        lab.rearm("scheduler", {})


@pytest.mark.parametrize(("missed", "runs"), [("once", 1), ("skip", 0)])
def test_f022_a_scheduler_that_was_down_over_three_slots_makes_up_for_them_as_the_rule_says(
    lab: Lab, missed: str, runs: int
) -> None:
    scene = lab.scene(f"f022-{missed}", trigger={"schedule": "0 * * * *", "missed": missed})
    scene.push("app:v1")
    lab.processes["scheduler"].kill()
    _due(lab, scene.name, 3 * 3600)
    lab.start("scheduler")

    def is_planned() -> bool:
        with lab.database.read() as connection:
            query = select(rules.c.next_run_at > now_epoch()).where(rules.c.name == scene.name)
            return bool(connection.execute(query).scalar_one())

    wait_until(is_planned, 20, "the rule's next time")
    lab.quiesce()
    assert len(runs_of(lab, scene.name)) == runs


def test_f151_a_machine_that_stands_still_for_longer_than_every_lease_goes_on(lab: Lab) -> None:
    scene = lab.scene("f151")
    a_fleet(scene)
    held = held_at(scene, "closing-an-upload")
    identity = scene.start()
    held.reached()
    pids = [process.pid for process in lab.processes.values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    lab.lapse()
    held.let_go()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)

    assert lab.wait(identity, 60)["state"] == "succeeded"
    assert not any(copy["attempts"] > 3 for copy in lab.copies(identity))
    whole(scene, tags=6, blobs=18)


def _due(lab: Lab, rule: str, seconds_ago: float) -> None:
    statement = update(rules).where(rules.c.name == rule)
    statement = statement.values(next_run_at=now_epoch() - seconds_ago)
    lab.database.write(lambda connection: connection.execute(statement))
