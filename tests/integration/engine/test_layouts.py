"""A directory as one end of a rule, between processes that may use it and one that may not (docs/adr/0025)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.model.digest import Digest
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination
from service.model.states import CopyState
from service.registry.layout import left_out
from tests.integration.registry.test_layout import incomplete, layout, tags
from tests.support.world import World, a_rule, some_bytes

LARGE = 3 << 20


@pytest.fixture
def disk(world: World) -> Path:
    path = world.folder / "layouts/disk"
    path.parent.mkdir()
    world.services.registries.put(RegistryEndpoint("disk", f"oci:{path}"), document={})
    return path


def plan(
    world: World,
    *,
    repository: str = "app",
    name: str = "",
    source: str = "east",
    destination: str = "disk",
) -> str:
    services = world.open(replace(world.settings, layouts_dir=str(world.folder / "layouts")))
    rule = replace(
        a_rule(repository, name=name or repository),
        source=source,
        destinations=(Destination(registry=destination, repository="{repository}"),),
    )
    execution = services.executions.create(rule, trigger="test").id
    assert services.planner.plan(execution, services.boot)
    return execution


def test_two_processes_write_one_directory_and_each_blob_is_read_once(
    world: World, disk: Path
) -> None:
    base = some_bytes("base", LARGE)
    for number in range(6):
        world.push("app", f"v{number}", [base, f"own {number}".encode()], mark=str(number))
    parties = [world.party(layouts_dir=str(disk.parent), tags_per_task=1) for _ in range(2)]

    world.run_to_end(plan(world), *parties)

    assert tags(layout(disk), "app") == [f"v{number}" for number in range(6)]
    assert incomplete(disk) == []
    reads = [
        line.path for line in world.east.log if line.method == "GET" and "/blobs/" in line.path
    ]
    assert len(reads) == len(set(reads))


def test_what_is_in_the_directory_is_not_sent_for_again_whatever_sql_knows_of_it(
    world: World, disk: Path
) -> None:
    layers = [some_bytes("a", LARGE), b"small"]
    image = world.push("app", "v1", layers)
    ready = layout(disk)
    for data, digest in zip(layers, image.layers, strict=True):
        ready.put_blob("other", Digest.parse(digest), data)

    world.run_to_end(plan(world), world.party(layouts_dir=str(disk.parent)))

    assert tags(ready, "app") == ["v1"]
    assert [world.reads(digest) for digest in image.layers] == [0, 0]


def test_a_layer_that_is_left_out_of_one_repository_is_carried_for_another_one(
    world: World, disk: Path
) -> None:
    """What the ledger has of the first one are no bytes: they come from the source then."""
    base = some_bytes("base", LARGE)
    first = world.push("app", "v1", [base, b"first"])
    client = layout(disk)
    left_out.begin(client.folder, {"app": {"v1": first.digest}}, [])
    party = world.party(layouts_dir=str(disk.parent))
    second = world.push("app", "v2", [base, b"second"], mark="2")
    world.run_to_end(plan(world), party)
    assert client.blobs.head("app", Digest.parse(second.layers[1])) is not None
    assert world.reads(second.layers[0]) == 0, "it was not left out"

    world.push("web", "v1", [base, b"web"], mark="3")
    execution = plan(world, repository="web")
    world.run_to_end(execution, party)

    assert [copy.state for copy in world.copies(execution)] == [CopyState.COPIED]
    assert world.reads(second.layers[0]) == 1
    left_out.end(client.folder)
    assert tags(layout(disk), "web") == ["v1"]


def test_what_was_left_out_is_no_tag_that_is_in_place_once_nobody_gives_the_receipt(
    world: World, disk: Path
) -> None:
    """A rule of a server, or `transship migrate`, said `unchanged` of a directory that had nothing."""
    image = world.push("app", "v1", [b"layer"])
    client = layout(disk)
    left_out.begin(client.folder, {"app": {"v1": image.digest}}, [])
    party = world.party(layouts_dir=str(disk.parent))
    since = plan(world)
    assert world.copies(since) == [], "it was confirmed"
    left_out.end(client.folder)
    assert client.left_out.tags == {"app": {"v1": image.digest}}

    execution = plan(world, name="again")
    world.run_to_end(execution, party)

    assert [copy.state for copy in world.copies(execution)] == [CopyState.COPIED]
    assert incomplete(disk) == []
    assert client.get_manifest("app", "v1").digest == Digest.parse(image.digest)


def test_a_process_that_may_not_use_it_says_so_and_the_others_go_on(
    world: World, disk: Path
) -> None:
    world.push("app", "v1", [b"layer"])
    execution = plan(world)

    world.run_to_end(execution, world.party())

    (copy,) = world.copies(execution)
    assert (copy.state, copy.failure_class) == (CopyState.FAILED, "invalid")
    assert "TRANSSHIP_LAYOUTS_DIR" in f"{copy.reason} {copy.hint}"
    assert not disk.exists()
