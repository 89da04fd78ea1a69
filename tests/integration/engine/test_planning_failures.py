"""Planning goes on past what fails, says what failed, and is never held by a living process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from api.engine.oneshot import plan_here, unplanned
from api.samples.registry import SampleRegistry
from service.errors import StoreUnavailable
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination
from service.model.states import CopyState, ExecutionState
from service.replication.plan import MAX_PLAN_ATTEMPTS
from service.replication.survey import REPOSITORIES_IN_HAND
from service.store.planning import Cursor
from service.store.tables import copies
from tests.support.content import push_image
from tests.support.planning import (
    Watched,
    asked,
    failing,
    finish,
    mirror,
    plan,
    planner_over,
    told,
)
from tests.support.world import World, some_bytes

LAYER = some_bytes("one", 5000)
FOREVER = 1 << 60


# ---- one bad repository or tag -------------------------------------------------------------------


def test_a_repository_that_is_denied_leaves_the_others_alone(world: World) -> None:
    for name in ("a", "b", "c"):
        world.push(f"team/{name}", "v1", [LAYER])
    denied = world.east.fault("team/b/(tags|manifests)", times=FOREVER, status=403)

    execution = plan(world, mirror("team/*"))

    assert finish(world, execution) is ExecutionState.PARTIAL
    assert denied.fired
    assert world.tag_at_west("team/a", "v1")
    assert world.tag_at_west("team/c", "v1")
    (failure,) = told(world, execution)["failures"]
    assert (failure["source"], failure["class"]) == ("east/team/b:*", "denied")
    assert failure["destination"] == "west/mirror/team/b:*"
    assert "403" in failure["reason"]
    assert "credentials" in failure["hint"]


def test_a_repository_that_fails_for_a_while_is_listed_when_planning_goes_on(world: World) -> None:
    for name in ("a", "b", "c"):
        world.push(f"team/{name}", "v1", [LAYER])
    world.east.fault("team/b/tags", times=FOREVER, status=500)

    execution = plan(world, mirror("team/*"))

    record = world.services.executions.get(execution)
    assert not record.planned
    assert "team/b" in record.reason
    assert {c.source_repository for c in world.copies(execution)} == {"team/a", "team/c"}
    world.east.faults.clear()
    assert world.services.planner.plan(execution, world.services.boot)
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert world.tag_at_west("team/b", "v1")


def test_a_repository_that_always_fails_is_given_up_with_its_class(world: World) -> None:
    world.push("team/a", "v1", [LAYER])
    world.push("team/b", "v1", [LAYER])
    world.east.fault("team/b/tags", times=FOREVER, status=500)
    execution = plan(world, mirror("team/*"))

    for _ in range(MAX_PLAN_ATTEMPTS - 1):
        assert world.services.planner.plan(execution, world.services.boot)

    assert finish(world, execution) is ExecutionState.PARTIAL
    (failure,) = told(world, execution)["failures"]
    assert (failure["source"], failure["class"]) == ("east/team/b:*", "server")


def test_two_failed_repositories_of_one_name_there_are_two_failures(world: World) -> None:
    for repository in ("a/app", "b/app", "c/app"):
        world.push(repository, f"v-{repository[0]}", [LAYER])
    world.east.fault("(a|b)/app/tags", times=FOREVER, status=403)

    execution = plan(world, mirror("*/app", to="all/{name}"))

    assert finish(world, execution) is ExecutionState.PARTIAL
    sources = [failure["source"] for failure in told(world, execution)["failures"]]
    assert sources == ["east/a/app:*", "east/b/app:*"]


def test_a_tag_whose_head_fails_for_a_while_is_read_by_its_copy(world: World) -> None:
    for tag in ("v1", "v2"):
        world.push("team/app", tag, [LAYER], "before")
    assert finish(world, plan(world, mirror("team/*"))) is ExecutionState.SUCCEEDED
    images = [world.push("team/app", tag, [LAYER], tag) for tag in ("v1", "v2")]
    world.east.fault("manifests/v1", method="HEAD", times=FOREVER, status=500)

    execution = plan(world, mirror("team/*"))

    assert {c.source_reference: c.digest for c in world.copies(execution)} == {
        "v1": "",
        "v2": images[1].digest,
    }
    world.east.faults.clear()
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert world.tag_at_west("team/app", "v1") == images[0].digest
    assert {c.source_reference: c.digest for c in world.copies(execution)}["v1"] == images[0].digest


def test_a_tag_that_is_denied_fails_alone(world: World) -> None:
    world.push("team/app", "v1", [LAYER])
    world.push("team/app", "v2", [LAYER])
    world.east.fault("manifests/v1", times=FOREVER, status=403)

    execution = plan(world, mirror("team/*"))

    assert finish(world, execution) is ExecutionState.PARTIAL
    (failure,) = told(world, execution)["failures"]
    assert (failure["source"], failure["class"]) == ("east/team/app:v1", "denied")


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_manifest_that_is_none_stops_nothing_else(world: World, side: str) -> None:
    """HEAD without a digest falls back to GET, and that brings something that may not be copied."""
    images = [world.push("team/app", tag, [LAYER], tag) for tag in ("v1", "v2")]
    registry = world.east if side == "source" else world.west
    garbage = b'{"schemaVersion": 2, "schemaVersion": 2}'
    place = "team/app" if side == "source" else "mirror/team/app"
    kind = "application/vnd.oci.image.manifest.v1+json"
    registry.storage.plant_manifest(place, garbage, kind, "v1")
    registry.fault("manifests/v1", method="HEAD", times=1, headers={"Docker-Content-Digest": None})

    execution = plan(world, mirror("team/*"))

    if side == "source":
        assert finish(world, execution) is ExecutionState.PARTIAL
        (failure,) = told(world, execution)["failures"]
        assert (failure["source"], failure["class"]) == ("east/team/app:v1", "invalid")
    else:
        assert finish(world, execution) is ExecutionState.SUCCEEDED
        assert world.tag_at_west("team/app", "v1") == images[0].digest
    assert world.tag_at_west("team/app", "v2") == images[1].digest


def test_a_name_that_cannot_be_fails_its_tags_alone(world: World) -> None:
    world.push("team/app", "v1", [LAYER])
    world.push("alone", "v1", [LAYER])
    world.push("solo", "v1", [LAYER])

    execution = plan(world, mirror("**", to="x/{repository[1:]}"))

    assert finish(world, execution) is ExecutionState.PARTIAL
    failures = told(world, execution)["failures"]
    assert sorted((f["source"], f["class"]) for f in failures) == [
        ("east/alone:v1", "invalid"),
        ("east/solo:v1", "invalid"),
    ]
    assert world.west.storage.tags("x/app") is not None


# ---- names that are not there --------------------------------------------------------------------


@pytest.mark.parametrize("patterns", [("team/a", "team/b"), ("team/a*", "team/b")])
def test_a_repository_that_the_rule_names_and_that_is_not_there_is_gone(
    world: World, patterns: tuple[str, ...]
) -> None:
    world.push("team/a", "v1", [LAYER])

    execution = plan(world, mirror(*patterns, on_empty="fail"))

    assert finish(world, execution) is ExecutionState.PARTIAL
    (failure,) = told(world, execution)["failures"]
    assert (failure["source"], failure["class"]) == ("east/team/b:*", "gone")


def test_a_repository_that_only_the_catalog_names_may_be_gone(world: World) -> None:
    world.push("team/a", "v1", [LAYER])
    world.push("team/b", "v1", [LAYER])
    world.east.fault("team/b/tags", status=404)

    execution = plan(world, mirror("team/*"))

    assert finish(world, execution) is ExecutionState.SUCCEEDED


def test_a_list_that_ends_in_not_found_is_not_complete(world: World) -> None:
    world.east.api.tag_page = 1
    for tag in ("v1", "v2", "v3"):
        world.push("team/a", tag, [LAYER])
    world.east.fault("team/a/tags", nth=3, status=404)

    execution = plan(world, mirror("team/*"))

    assert finish(world, execution) is ExecutionState.PARTIAL
    (failure,) = told(world, execution)["failures"]
    assert (failure["source"], failure["class"]) == ("east/team/a:*", "gone")


# ---- SQL away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["finish", "spec", "clean_before"])
def test_planning_is_closed_as_soon_as_sql_answers(world: World, method: str) -> None:
    world.push("team/a", "v1", [LAYER])
    rule = mirror("team/*")
    services = world.services
    execution = services.executions.create(rule, trigger="test").id
    plans = Watched(services.plans, before=failing(method, times=2))
    executions = Watched(services.executions, before=failing(method, times=2))
    planner = planner_over(world, plans, executions)

    for _ in range(3):
        if not services.executions.get(execution).planned:
            assert planner.plan(execution, services.boot)

    assert finish(world, execution) is ExecutionState.SUCCEEDED


@pytest.mark.parametrize("method", ["attempts", "fail", "postpone"])
def test_a_failure_is_recorded_as_soon_as_sql_answers(world: World, method: str) -> None:
    world.push("team/a", "v1", [LAYER])
    for_good = method == "fail"
    world.east.fault("/v2/_catalog", times=FOREVER, status=403 if for_good else 500)
    calls = {"attempts": 0}

    def before(name: str, number: int) -> None:
        calls["attempts"] += name == "attempts"
        late = number > 1 if name == "attempts" else True  # its first call is not a closing one
        if name == method and late and number <= 3:
            raise StoreUnavailable("away")

    execution = plan(world, mirror("team/*"), Watched(world.services.plans, before=before))

    record = world.services.executions.get(execution)
    assert record.planned is for_good
    assert ("403" if for_good else "500") in record.reason
    assert calls["attempts"] >= 2
    assert for_good or world.services.plans.begin(execution, "another")


def test_a_stop_ends_the_wait_for_sql(world: World) -> None:
    stop = threading.Event()
    stop.set()
    execution = world.services.executions.create(mirror("team/*"), trigger="test").id
    plans = Watched(world.services.plans, before=failing("finish", times=99))

    assert planner_over(world, plans).plan(execution, world.services.boot, stop=stop)

    assert plans.calls["finish"] == 1


def test_a_one_shot_planner_that_breaks_says_so_on_the_execution(world: World) -> None:
    services = world.services
    execution = services.executions.create(mirror("team/*"), trigger="test").id
    planner = Watched(
        services.planner, before=failing("plan", times=1, error=RuntimeError("a fault of ours"))
    )
    plans = Watched(services.plans, before=failing("fail", times=2))
    assert unplanned([services.executions.get(execution)])

    _plan_here(world, services.executions, plans, planner, execution)

    assert not unplanned([services.executions.get(execution)])
    (ended,) = services.dispatching.end_executions()
    assert ended.state is ExecutionState.FAILED
    assert services.executions.get(execution).reason == "RuntimeError: a fault of ours"


def test_a_one_shot_planner_outlives_an_outage_of_sql(world: World) -> None:
    world.push("team/a", "v1", [LAYER])
    services = world.services
    execution = services.executions.create(mirror("team/*"), trigger="test").id
    executions = Watched(services.executions, before=failing("get", times=2))
    planner = Watched(services.planner, before=failing("plan", times=2))

    _plan_here(world, executions, services.plans, planner, execution)

    assert finish(world, execution) is ExecutionState.SUCCEEDED


def _plan_here(world: World, executions: Any, plans: Any, planner: Any, execution: str) -> None:
    plan_here(executions, plans, planner, world.services.boot, [execution], threading.Event())


# ---- many repositories ---------------------------------------------------------------------------


def test_few_repositories_are_in_hand_and_none_is_left_out(world: World) -> None:
    storage = world.east.storage
    world.push("team/r000", "v1", [])
    manifest = storage.manifest("team/r000", "v1")
    assert manifest is not None
    for number in range(1, 450):
        storage.put_manifest(f"team/r{number:03}", manifest, "v1")
    plans = Counting(world.services.plans)

    execution = plan(world, mirror("team/*"), plans)

    with world.services.database.read() as connection:
        rows = connection.execute(select(copies.c.source_repository)).scalars().all()
    assert sorted(rows) == [f"team/r{number:03}" for number in range(450)]
    assert world.services.plans.cursors(execution) == []
    assert 0 < plans.most_in_hand <= 2 * REPOSITORIES_IN_HAND


class Counting(Watched):
    """A PlanStore that counts the repositories that were taken from it and are not saved."""

    most_in_hand = 0

    def every_cursor(self, execution: str) -> Iterator[Cursor]:
        for taken, cursor in enumerate(self._port.every_cursor(execution), start=1):
            in_hand = taken - self.calls.get("add_page", 0)
            self.most_in_hand = max(self.most_in_hand, in_hand)
            yield cursor


def test_a_source_that_is_gone_is_not_asked_for_every_repository(world: World) -> None:
    for number in range(80):
        world.push(f"team/r{number}", "v1", [])
    world.east.fault("tags/list", times=FOREVER, status=500)

    execution = plan(world, mirror("team/*"))

    assert not world.services.executions.get(execution).planned
    assert world.services.executions.get(execution).reason
    assert asked(world, "GET", "tags/list") < 80 * 3
    assert len(world.services.plans.cursors(execution)) == 80


def test_what_is_in_place_everywhere_is_told_by_destination(world: World) -> None:
    for tag in ("v1", "v2"):
        world.push("team/a", tag, [LAYER])
    assert finish(world, plan(world, mirror("team/*"))) is ExecutionState.SUCCEEDED

    execution = plan(
        world,
        mirror(
            "team/*",
            destinations=(
                Destination(registry="west", repository="mirror/{repository}"),
                Destination(registry="west", repository="again/{repository}"),
            ),
        ),
    )

    assert finish(world, execution) is ExecutionState.SUCCEEDED
    result = told(world, execution)
    assert result["copies"] | {"pending": 0} == result["copies"]
    assert result["destinations"]["west"]["copies"]["unchanged"] == 2
    assert result["destinations"]["west"]["copies"]["copied"] == 2
    third = plan(world, mirror("team/*"))
    assert finish(world, third) is ExecutionState.SUCCEEDED
    assert told(world, third)["destinations"]["west"]["copies"]["unchanged"] == 2
    assert world.states(third) == list[CopyState]()


def test_a_registry_is_planned_with_as_it_was_saved_just_before(world: World) -> None:
    """Its client is made anew at once: a planning with the credentials of a moment ago fails for good."""
    world.push("app", "old", [LAYER])
    finish(world, plan(world, mirror("app")))
    with SampleRegistry() as moved:
        push_image(moved.storage, "app", "new", mark="new")
        world.services.registries.put(RegistryEndpoint("east", moved.url), document={})

        execution = plan(world, mirror("app"))

        assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert world.tag_at_west("app", "new")
