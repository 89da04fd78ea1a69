"""Registries that lie: what garbage collection took is noticed, and uploaded again."""

from __future__ import annotations

from sqlalchemy import select

from service.model.states import CopyState
from service.store.tables import ledgers
from tests.support.world import World, some_bytes

SHARED = some_bytes("shared", 100_000)


def test_a_mount_of_a_collected_blob_is_no_proof(world: World) -> None:
    """HEAD 200, mount 201 and a manifest that is taken: on a blob of no bytes (reliability M8)."""
    first = world.push("team/first", "v1", [SHARED])
    party = world.party()
    world.run_to_end(world.plan("team/first", rule="one"), party)
    assert world.is_whole(first)
    world.west.storage.collect_blob(first.layers[0])
    assert not world.is_whole(first)
    second = world.push("team/second", "v1", [SHARED])

    execution = world.plan("team/second", rule="two")
    world.run_to_end(execution, party)

    assert world.states(execution) == [CopyState.COPIED]
    assert world.is_whole(second)
    assert world.is_whole(first)
    assert world.reads(first.layers[0]) == 2
    assert _epoch(world) >= 1


def test_a_tag_of_ours_that_is_gone_is_evidence_against_the_registry(world: World) -> None:
    image = world.push("team/app", "v1", [SHARED])
    party = world.party()
    world.run_to_end(world.plan("team/app"), party)
    world.services.dispatching.end_executions()
    world.west.storage.delete_tag("mirror/team/app", "v1")
    world.west.storage.collect_blob(image.layers[0])

    execution = world.plan("team/app")
    world.run_to_end(execution, party)

    assert world.states(execution) == [CopyState.COPIED]
    assert world.tag_at_west("team/app", "v1") == image.digest
    assert world.is_whole(image)
    assert _epoch(world) >= 1
    assert "lost tags" in " ".join(world.services.executions.get(execution).warnings)


def test_what_an_earlier_run_proved_is_probed_before_it_counts(world: World) -> None:
    """A new tag on layers that are there: one ranged read each, and no bytes from the source."""
    world.push("team/app", "v1", [SHARED])
    party = world.party()
    world.run_to_end(world.plan("team/app"), party)
    world.services.dispatching.end_executions()
    again = world.push("team/app", "v2", [SHARED], "again")
    world.west.log.clear()

    execution = world.plan("team/app")
    world.run_to_end(execution, party)

    assert world.tag_at_west("team/app", "v2") == again.digest
    assert world.reads(again.layers[0]) == 1
    probes = [
        line
        for line in world.west.log
        if line.method == "GET" and line.path.endswith(f"/blobs/{again.layers[0]}")
    ]
    assert [line.bytes for line in probes] == [1]
    assert _epoch(world) == 0


def test_a_blob_that_is_gone_in_place_is_uploaded_again(world: World) -> None:
    image = world.push("team/app", "v1", [SHARED])
    party = world.party()
    world.run_to_end(world.plan("team/app"), party)
    world.services.dispatching.end_executions()
    world.west.storage.collect_blob(image.layers[0])
    again = world.push("team/app", "v2", [SHARED], "again")

    world.run_to_end(world.plan("team/app"), party)

    assert world.tag_at_west("team/app", "v2") == again.digest
    assert world.is_whole(again)
    assert _epoch(world) == 1


def _epoch(world: World) -> int:
    with world.services.database.read() as connection:
        return connection.execute(select(ledgers.c.epoch)).scalar() or 0
