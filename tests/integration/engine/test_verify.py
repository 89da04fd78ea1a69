"""Verification finds what is missing, stale, or holed behind an equal digest, and repairs only that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.samples.faults import FaultRule
from service.errors import Conflict
from service.model.states import CopyState, ExecutionState
from service.replication.executions import retry
from service.store.verifications import Findings
from tests.integration.engine.databases import on_both_databases
from tests.support.world import Party, World, a_rule, some_bytes

pytestmark = on_both_databases

SHARED = some_bytes("shared", 100_000)
REPOSITORIES = ("team/app", "team/other", "team/third")


def verify(world: World, *, repair: bool = False, **changes: object) -> str:
    """Plan a verification to its end."""
    rule = replace(a_rule(*REPOSITORIES), **changes)  # type: ignore[arg-type]
    execution = world.services.verifications.create(rule, trigger="test", repair=repair)
    assert world.services.planner.plan(execution, world.services.boot)
    ended = [one.execution for one in world.services.dispatching.end_executions()]
    assert execution in ended
    return execution


def mirrored(world: World) -> Party:
    """Three repositories at the mirror, a tag each."""
    for repository in REPOSITORIES:
        world.push(repository, "v1", [SHARED, some_bytes(repository, 5000)])
    party = world.party()
    world.run_to_end(world.plan(*REPOSITORIES), party)
    world.services.dispatching.end_executions()
    return party


def writes(world: World) -> list[str]:
    return [f"{line.method} {line.path}" for line in world.west.log if line.method in WRITING]


WRITING = {"PUT", "POST", "PATCH", "DELETE"}


def test_what_is_whole_is_found_whole_and_nothing_is_written(world: World) -> None:
    mirrored(world)
    world.west.log.clear()

    execution = verify(world)

    assert world.services.verifications.findings(execution) == Findings(3, 3, 0, 0, 0)
    assert world.services.executions.get(execution).state is ExecutionState.SUCCEEDED
    assert world.states(execution) == []
    assert writes(world) == []


def test_holes_missing_and_stale_tags_are_found_and_only_they_are_repaired(world: World) -> None:
    party = mirrored(world)
    holed = world.push("team/app", "v1", [SHARED, some_bytes("team/app", 5000)])
    world.west.storage.collect_blob(holed.layers[1])  # its manifest and tag stay: an equal digest
    stale = world.push("team/other", "v1", [SHARED], "newer")
    gone = world.push("team/third", "v2", [SHARED], "never copied")
    world.west.log.clear()

    execution = verify(world, repair=True)

    found = {copy.source_repository: copy for copy in world.copies(execution)}
    assert {name: copy.failure_class for name, copy in found.items()} == {
        "team/app": "hole",
        "team/other": "stale",
        "team/third": "missing",
    }
    assert holed.layers[1] in found["team/app"].reason
    assert world.services.verifications.findings(execution) == Findings(4, 1, 3, 0, 0)
    assert writes(world) == []
    (repair,) = world.services.verifications.start_repairs()
    assert world.services.verifications.start_repairs() == []
    world.east.log.clear()
    assert world.services.planner.plan(repair, world.services.boot)
    world.run_to_end(repair, party)
    assert world.states(repair) == [CopyState.COPIED] * 3
    assert world.is_whole(holed)
    assert world.tag_at_west("team/other", "v1") == stale.digest
    assert world.tag_at_west("team/third", "v2") == gone.digest
    assert world.services.verifications.findings(execution).repaired == 3
    assert world.reads(holed.layers[1]) == 1
    assert world.reads(holed.layers[0]) == 0  # the shared layer was whole all along
    assert world.services.verifications.findings(verify(world)) == Findings(4, 4, 0, 0, 0)


def test_a_collected_child_of_an_index_is_a_hole(world: World) -> None:
    mirrored(world)
    manifest = world.west.storage.manifest("mirror/team/app", "v1")
    assert manifest is not None
    world.west.faults.add(
        FaultRule(
            method="GET", path=rf"/v2/mirror/team/app/manifests/{manifest.digest}", status=404
        )
    )

    execution = verify(world)

    (copy,) = world.copies(execution)
    assert (copy.failure_class, copy.source_repository) == ("hole", "team/app")
    assert f"manifest {manifest.digest} is missing" in copy.reason


def test_a_registry_that_does_not_answer_is_unreachable_and_no_hole(world: World) -> None:
    mirrored(world)
    world.west.faults.add(
        FaultRule(method="GET", path=r"/v2/mirror/team/app/blobs/.*", status=500, times=99)
    )

    execution = verify(world, repair=True)

    assert world.services.verifications.findings(execution) == Findings(3, 2, 0, 0, 1)
    assert world.copies(execution)[0].failure_class == "server"
    assert world.services.verifications.start_repairs() == []


def test_a_repair_goes_through_where_the_rule_keeps_what_is_there(world: World) -> None:
    party = mirrored(world)
    holed = world.push("team/app", "v1", [SHARED, some_bytes("team/app", 5000)])
    world.west.storage.collect_blob(holed.layers[1])

    verify(world, repair=True, on_conflict="keep")

    (repair,) = world.services.verifications.start_repairs()
    assert world.services.planner.plan(repair, world.services.boot)
    world.run_to_end(repair, party)
    assert world.is_whole(holed)


def test_what_could_not_be_compared_is_unreachable_and_not_stale(world: World) -> None:
    mirrored(world)
    world.west.faults.add(
        FaultRule(method="HEAD", path="/v2/mirror/team/app/manifests/v1", status=503, times=99)
    )

    execution = verify(world, repair=True)

    assert world.services.verifications.findings(execution) == Findings(3, 2, 0, 0, 1)
    assert world.services.verifications.start_repairs() == []


def test_a_retry_of_what_only_looked_is_refused_with_what_to_do(world: World) -> None:
    mirrored(world)
    with pytest.raises(Conflict, match="a verification") as caught:
        retry(world.services.executions, verify(world))
    assert "repair" in caught.value.hint
