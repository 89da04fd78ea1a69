"""A plan tells exactly what the run after it moves, writes nothing, and refuses when the world has moved."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from api.samples.faults import FaultRule
from service.errors import Cancelled
from service.model.states import CopyState, ExecutionState
from tests.integration.engine.databases import on_both_databases
from tests.support.planning import Watched, asked, planner_over
from tests.support.world import Party, World, a_rule, some_bytes

SIZES = (900, 20_000, 40_000, 120_000, 1 << 20, (1 << 20) + 5)
WRITING = {"PUT", "POST", "PATCH", "DELETE"}


def plan(world: World, *repositories: str) -> str:
    execution = world.services.saved_plans.create(a_rule(*repositories), trigger="test")
    assert world.services.planner.plan(execution, world.services.boot)
    ended = [one.execution for one in world.services.dispatching.end_executions()]
    assert execution in ended
    return execution


def carry_out(world: World, saved: str, party: Party) -> str:
    execution = world.services.saved_plans.carry_out(saved, trigger="test")
    assert world.services.planner.plan(execution, world.services.boot)
    world.run_to_end(execution, party)
    return execution


def uploaded(world: World) -> int:
    """Bytes of blobs that the mirror received."""
    return sum(
        line.received
        for line in list(world.west.log)
        if line.method in ("PUT", "PATCH") and "/blobs/uploads/" in line.path
    )


def read(world: World) -> int:
    """Bytes of blobs that the source sent."""
    return sum(
        line.bytes
        for line in list(world.east.log)
        if line.method == "GET" and "/blobs/sha256:" in line.path and line.status == 200
    )


def grow(world: World, dice: random.Random, repositories: list[str], mark: str) -> set[str]:
    """Push some images with layers that many of them share; returns the repositories touched."""
    touched = set()
    for number in range(dice.randint(3, 9)):
        repository = dice.choice(repositories)
        layers = [
            some_bytes(f"{mark if dice.random() < 0.3 else ''}{size}-{dice.randint(0, 3)}", size)
            for size in dice.sample(SIZES, dice.randint(1, 4))
        ]
        world.push(repository, f"v{number}", layers, mark)
        touched.add(repository)
    return touched


@pytest.mark.parametrize("seed", range(20))
def test_tags_and_unique_bytes_of_a_plan_are_what_its_run_moves(world: World, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    repositories = ["team/a", "team/b", "other/c", "other/d"]
    party = world.party()
    known = grow(world, dice, repositories, "first")
    if seed % 3:  # the mirror has a part of it, by an earlier run
        world.run_to_end(world.plan(*sorted(known)[: 1 + seed % 2]), party)
        world.services.dispatching.end_executions()
        known |= grow(world, dice, repositories, "second")
    world.west.log.clear()

    saved = plan(world, *sorted(known))
    assert [line.path for line in world.west.log if line.method in WRITING] == []
    figures = world.services.saved_plans.figures(saved)
    world.east.log.clear()
    execution = carry_out(world, saved, party)

    totals = world.services.executions.totals(execution)
    assert totals.copied == figures["copies"] == len(world.copies(saved))
    assert set(world.states(execution)) <= {CopyState.COPIED}
    assert figures["unique"] == uploaded(world) == read(world) == totals.bytes_copied
    assert figures["saved"] == totals.bytes_saved
    assert world.services.saved_plans.carry_out(saved, trigger="test") == execution


@on_both_databases
def test_a_plan_that_the_world_has_left_behind_is_refused_before_anything_is_written(
    world: World,
) -> None:
    world.push("team/a", "v1", [some_bytes("a", 5000)])
    world.push("team/b", "v1", [some_bytes("b", 5000)])
    saved = plan(world, "team/a", "team/b")
    world.push("team/b", "v1", [some_bytes("c", 5000)])
    world.west.log.clear()

    execution = world.services.saved_plans.carry_out(saved, trigger="test")
    assert world.services.planner.plan(execution, world.services.boot)

    assert world.copies(execution) == []
    assert [line.path for line in world.west.log if line.method in WRITING] == []
    world.services.dispatching.end_executions()
    record = world.services.executions.get(execution)
    assert (record.state, record.failure_class) == (ExecutionState.FAILED, "moved")
    assert f"since plan {saved}: east/team/b:v1 is sha256:" in record.reason


@on_both_databases
def test_what_a_plan_could_not_read_is_its_problem(world: World) -> None:
    image = world.push("team/a", "v1", [some_bytes("a", 5000)])
    world.push("team/b", "v1", [some_bytes("b", 5000)])
    world.east.faults.add(
        FaultRule(path=f"/team/a/manifests/{image.digest}", method="GET", status=404, times=99)
    )

    figures = world.services.saved_plans.figures(plan(world, "team/a", "team/b"))

    assert figures["copies"] == 1
    (problem,) = figures["problems"]
    assert problem["source"] == "east/team/a:v1"


@on_both_databases
def test_copies_of_a_plan_are_never_sent_and_stand_in_nobody_s_way(world: World) -> None:
    world.push("team/a", "v1", [some_bytes("a", 5000)])
    plan(world, "team/a")
    assert world.dispatch() == []
    assert world.services.dispatching.pending() == []

    party = world.party()
    execution = world.plan("team/a")
    world.run_to_end(execution, party)

    assert world.states(execution) == [CopyState.COPIED]


@on_both_databases
def test_a_destination_that_somebody_else_changed_is_the_world_moving(world: World) -> None:
    world.push("team/a", "v1", [some_bytes("a", 5000)])
    saved = plan(world, "team/a")
    own = world.push("elsewhere", "v1", [some_bytes("b", 5000)])
    found = world.east.storage.manifest("elsewhere", "v1")
    assert found is not None
    world.west.storage.put_manifest("mirror/team/a", found, "v1")

    execution = world.services.saved_plans.carry_out(saved, trigger="test")
    assert world.services.planner.plan(execution, world.services.boot)

    assert world.copies(execution) == []
    assert world.tag_at_west("team/a", "v1") == own.digest
    assert "another digest at west now" in world.services.executions.get(execution).reason


@on_both_databases
def test_a_carrying_out_that_is_stopped_meanwhile_takes_nothing_over(world: World) -> None:
    world.push("team/a", "v1", [some_bytes("a", 5000)])
    saved = plan(world, "team/a")
    execution = world.services.saved_plans.carry_out(saved, trigger="test")
    world.services.executions.request_stop(execution)

    with pytest.raises(Cancelled):
        world.services.saved_plans.adopt(saved, execution)

    assert world.copies(execution) == []


def as_comparing_is_over(act: Callable[[], None]) -> Callable[[str, int], None]:
    """A `before` that acts when the planner begins to go through a plan's copies."""

    def before(name: str, _number: int) -> None:
        if name == "saved":
            act()

    return before


@on_both_databases
@pytest.mark.parametrize("carried", [False, True], ids=["estimate", "carry"])
def test_whoever_goes_through_a_plan_ends_when_it_is_stopped(world: World, carried: bool) -> None:
    world.push("team/a", "v1", [some_bytes("a", 5000)])
    store = world.services.saved_plans
    if carried:
        execution = store.carry_out(plan(world, "team/a"), trigger="test")
    else:
        execution = store.create(a_rule("team/a"), trigger="test")
    world.east.log.clear()
    stopping = as_comparing_is_over(lambda: world.services.executions.request_stop(execution))

    planner = planner_over(world, Watched(world.services.plans, before=stopping))
    assert planner.plan(execution, world.services.boot)

    world.services.dispatching.end_executions()
    assert world.services.executions.get(execution).state is ExecutionState.STOPPED
    assert store.figures(execution) == {}
    assert asked(world, "HEAD", "/manifests/v1") == (0 if carried else 1)  # comparing's own
    assert not [line for line in list(world.east.log) if "/manifests/sha256:" in line.path]


@on_both_databases
@pytest.mark.parametrize("carried", [False, True], ids=["estimate", "carry"])
def test_a_process_that_is_to_end_leaves_its_plan_to_the_next(world: World, carried: bool) -> None:
    world.push("team/a", "v1", [some_bytes("a", 5000)])
    store = world.services.saved_plans
    if carried:
        execution = store.carry_out(plan(world, "team/a"), trigger="test")
    else:
        execution = store.create(a_rule("team/a"), trigger="test")
    stop = threading.Event()

    planner = planner_over(
        world, Watched(world.services.plans, before=as_comparing_is_over(stop.set))
    )
    assert planner.plan(execution, "ending", stop=stop)

    record = world.services.executions.get(execution)
    assert (record.state, record.planned) == (ExecutionState.RUNNING, False)
    assert world.services.plans.attempts(execution) == 0  # none of its four
    assert world.services.planner.plan(execution, world.services.boot)
    assert world.services.executions.get(execution).planned
    assert len(world.copies(execution)) == 1
    assert carried or store.figures(execution)["copies"] == 1


def test_an_estimate_reads_no_further_copy_of_its_page_once_it_is_to_end(world: World) -> None:
    for number in range(60):
        world.push("team/a", f"v{number}", [some_bytes("a", 500)], str(number))
    execution = world.services.saved_plans.create(a_rule("team/a"), trigger="test")
    stop = threading.Event()
    reading = FaultRule(
        path="/team/a/manifests/sha256:", method="GET", times=99, before=lambda _request: stop.set()
    )
    world.east.faults.add(reading)

    assert world.services.planner.plan(execution, world.services.boot, stop=stop)

    assert 1 <= reading.fired <= world.settings.compare_threads < 60


@on_both_databases
def test_a_carrying_out_whose_planner_died_after_taking_over_goes_on(world: World) -> None:
    world.push("team/a", "v1", [some_bytes("a", 5000)])
    saved = plan(world, "team/a")
    execution = world.services.saved_plans.carry_out(saved, trigger="test")
    assert world.services.plans.begin(execution, "dead")
    world.services.saved_plans.adopt(saved, execution)
    party = world.party()
    world.run_to_end(execution, party)
    world.services.plans.postpone(execution, 0, reason="", failure_class="")

    assert world.services.planner.plan(execution, world.services.boot)

    world.services.dispatching.end_executions()
    record = world.services.executions.get(execution)
    assert (record.state, record.reason) == (ExecutionState.SUCCEEDED, "")


@on_both_databases
def test_a_carrying_out_that_begins_again_looks_at_what_it_has_not_looked_at_yet(
    world: World,
) -> None:
    for repository in ("team/a", "team/b"):
        world.push(repository, "v1", [some_bytes(repository, 5000)])
    saved = plan(world, "team/a", "team/b")
    first, last = world.copies(saved)
    store = world.services.saved_plans
    execution = store.carry_out(saved, trigger="test")
    assert store.looked_at(execution) == 0
    store.keep_looked_at(execution, first.id)
    world.east.log.clear()

    assert world.services.planner.plan(execution, world.services.boot)

    assert {line.path for line in world.east.log if line.method == "HEAD"} == {
        f"/v2/{last.source_repository}/manifests/v1"
    }
    assert store.looked_at(execution) == last.id
    assert len(world.copies(execution)) == 2
