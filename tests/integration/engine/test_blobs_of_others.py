"""A manifest that names a layer which its own repository never had: knowing a digest gives nobody its bytes.

The source is a registry that takes any manifest: whoever may push to team-a there names a private layer of team-b.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from api.samples.manifests import OCI_IMAGE
from api.samples.storage import StoredManifest, digest_of
from service.model.endpoint import RegistryEndpoint
from service.model.manifest import parse_manifest
from service.model.media_types import OCI_INDEX
from service.model.rule import Destination
from service.model.states import CopyState
from tests.support.world import Image, World, a_rule, some_bytes

SIZES = (600, 100_000, 3_000_000)
"""Below the size from which a destination is asked first, above it, and one that fans out."""


def _private_and_thief(world: World, size: int) -> tuple[Image, Image]:
    secret = some_bytes("private", size)
    private = world.push("team-b/secret", "v1", [secret])
    thief = world.push("team-a/app", "v1", [secret])
    world.east.storage.delete_blob("team-a/app", thief.layers[0])
    return private, thief


def _nothing_was_had(world: World, execution: str, thief: Image) -> None:
    [copy] = [one for one in world.copies(execution) if one.source_repository == "team-a/app"]
    assert (copy.state, copy.failure_class) == (CopyState.FAILED, "gone"), copy
    assert world.west.storage.blob("mirror/team-a/app", thief.layers[0]) is None
    assert world.tag_at_west("team-a/app", "v1") is None


@pytest.mark.parametrize("mounts", [True, False], ids=["mounted", "read-from-near"])
@pytest.mark.parametrize("size", SIZES)
def test_a_layer_that_another_rule_brought_is_not_had_by_naming_it(
    world: World, size: int, mounts: bool
) -> None:
    private, thief = _private_and_thief(world, size)
    if not mounts:
        world.west.fault("mount=", method="POST", refuse_mount=True, times=99)
    party = world.party()
    world.run_to_end(world.plan("team-b/secret", rule="one"), party)
    assert world.is_whole(private)

    execution = world.plan("team-a/app", rule="two")
    world.run_to_end(execution, party)

    _nothing_was_had(world, execution, thief)


@pytest.mark.parametrize("mounts", [True, False], ids=["mounted", "read-from-near"])
def test_a_layer_of_another_repository_of_the_rule_is_not_had_by_naming_it(
    world: World, mounts: bool
) -> None:
    private, thief = _private_and_thief(world, 100_000)
    if not mounts:
        world.west.fault("mount=", method="POST", refuse_mount=True, times=99)
    execution = world.plan("team-a/app", "team-b/secret")
    names = {copy.id: copy.source_repository for copy in world.copies(execution)}
    refs = {names[ref.id]: ref for ref in world.dispatch()}
    party = world.party()
    party.replicate(refs["team-b/secret"])
    party.replicate(refs["team-a/app"])
    world.run_to_end(execution, party)

    assert world.is_whole(private)
    _nothing_was_had(world, execution, thief)


@pytest.mark.parametrize("size", [600, 3_000_000])
def test_a_layer_that_a_layout_holds_for_another_repository_is_not_had_by_naming_it(
    world: World, size: int
) -> None:
    """A layout keeps one file for all of its repositories; carried on, it would be served under both names."""
    private, thief = _private_and_thief(world, size)
    disk = world.folder / "layouts/disk"
    disk.parent.mkdir()
    world.services.registries.put(RegistryEndpoint("disk", f"oci:{disk}"), document={})
    party = world.party(layouts_dir=str(disk.parent))
    first = _plan_to(world, disk, private.repository)
    world.run_to_end(first, party)
    assert world.states(first) == [CopyState.COPIED]

    execution = _plan_to(world, disk, thief.repository)
    world.run_to_end(execution, party)

    [copy] = world.copies(execution)
    assert (copy.state, copy.failure_class) == (CopyState.FAILED, "gone"), copy


def test_a_manifest_of_another_repository_is_not_had_by_naming_it_in_an_index(world: World) -> None:
    """What a process still has of it in memory is of the repository that it was read from."""
    private = world.push("team-b/secret", "v1", [])
    stored = world.east.storage.manifest("team-b/secret", "v1")
    assert stored is not None
    for blob in parse_manifest(stored.raw, OCI_IMAGE).blobs():  # they are nobody's secret
        world.east.storage.mount("team-a/app", str(blob.digest), "team-b/secret")
    entry = {"mediaType": OCI_IMAGE, "digest": private.digest, "size": len(stored.raw)}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    index = StoredManifest(raw, OCI_INDEX, digest_of(raw))
    world.east.storage.put_manifest("team-a/app", index, "v1")
    party = world.party()
    world.run_to_end(world.plan("team-b/secret", rule="one"), party)

    execution = world.plan("team-a/app", rule="two")
    world.run_to_end(execution, party)

    [copy] = world.copies(execution)
    assert (copy.state, copy.failure_class) == (CopyState.FAILED, "gone"), copy
    assert world.west.storage.manifest("mirror/team-a/app", private.digest) is None


def test_what_a_repository_has_costs_one_question_and_is_mounted(world: World) -> None:
    shared = some_bytes("shared", 100_000)
    images = [world.push(f"team/app{number}", "v1", [shared]) for number in range(3)]
    party = world.party()
    world.run_to_end(world.plan("team/*"), party)

    assert all(world.is_whole(image) for image in images)
    digest = images[0].layers[0]
    assert world.reads(digest) == 1
    asked = [
        line.path for line in list(world.east.log) if line.method == "HEAD" and digest in line.path
    ]
    assert len(asked) == len(set(asked)) == 2, "the one that was read has told that it has it"


@pytest.mark.parametrize("status", [405, 500], ids=["no-such-method", "breaks"])
def test_a_source_that_answers_no_head_is_asked_for_a_byte(world: World, status: int) -> None:
    shared = some_bytes("shared", 100_000)
    images = [world.push(f"team/app{number}", "v1", [shared]) for number in range(2)]
    digest = images[0].layers[0]
    refused = world.east.fault(f"/blobs/{digest}", method="HEAD", status=status, times=99)
    execution = world.plan("team/*")
    party = world.party()
    world.run_to_end(execution, party)

    assert refused.fired
    assert all(world.is_whole(image) for image in images)
    assert world.services.executions.totals(execution).blobs_mounted == 1
    moved = [
        line.bytes
        for line in list(world.east.log)
        if line.method == "GET" and line.path.endswith(f"/blobs/{digest}")
    ]
    assert sorted(moved) == [1, len(shared)]


def test_what_a_source_will_not_say_is_read_from_it(world: World) -> None:
    """Neither a HEAD nor a byte of it: the whole blob crosses again, and nothing fails."""
    shared = some_bytes("shared", 100_000)
    images = [world.push(f"team/app{number}", "v1", [shared]) for number in range(2)]
    digest = images[0].layers[0]
    world.east.fault(f"/blobs/{digest}", method="HEAD", status=405, times=99)
    byte = world.east.fault(f"/blobs/{digest}", method="GET", nth=2, times=2, status=405)
    execution = world.plan("team/*")
    world.run_to_end(execution, world.party())

    assert byte.fired
    assert all(world.is_whole(image) for image in images)
    assert world.services.executions.totals(execution).blobs_mounted == 0


def _plan_to(world: World, disk: Path, repository: str) -> str:
    services = world.open(replace(world.settings, layouts_dir=str(disk.parent)))
    rule = replace(
        a_rule(repository, name=repository.replace("/", "-")),
        destinations=(Destination(registry="disk", repository="{repository}"),),
    )
    execution = services.executions.create(rule, trigger="test").id
    assert services.planner.plan(execution, services.boot)
    return execution
