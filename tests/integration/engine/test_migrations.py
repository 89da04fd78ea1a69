"""A migration between two sample registries: inventory, waves, freeze, delta, proof, the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from api.samples.faults import FOREVER
from api.samples.profiles import OCI_1_1
from service.errors import Conflict
from service.model.endpoint import RegistryEndpoint
from service.model.migration import (
    FREEZE,
    INVENTORY,
    PROOF,
    Namespace,
    SurveyState,
    Wave,
    WaveState,
    Window,
)
from service.model.project import Grant, Project
from service.model.rule import NameFilter, Newest, Selection
from service.model.states import ExecutionState
from service.store.tables_migrations import migration_blobs, migration_tags
from tests.integration.engine.databases import on_both_databases
from tests.integration.engine.moving import Move
from tests.integration.engine.test_deletion_borders import declare, place
from tests.support.content import push_artifact, push_image, push_index
from tests.support.world import World, some_bytes


@on_both_databases
def test_a_fleet_moves_in_waves_and_the_move_is_proved(world: World) -> None:
    """The whole way: the source changes meanwhile, and what the freeze saw is proved."""
    shared = some_bytes("shared", 5000)
    move = Move(
        world,
        waves=(Wave("first", ("team/a*",)), Wave("small", max_bytes=12_000), Wave("rest")),
    )
    for name in ("team/app:v1", "team/app:v2"):
        move.push(name, layer=shared)
    for name, size in (("web:v1", 6000), ("lib:v1", 5000), ("big:v1", 90_000)):
        move.push(name, layer=some_bytes(name, size))
    before = move.push("team/app:v3", layer=shared)
    there = push_image(world.west.storage, "mirror/web", "v1", mark="older")

    inventory = move.survey(INVENTORY)

    assert inventory.figures["repositories"] == 4
    assert inventory.figures["tags"] == 6
    assert inventory.figures["findings"] == {}
    waves = {one.repository: one.wave for one in move.surveys.every_repository(inventory.id)}
    assert waves == {"team/app": 0, "big": 1, "lib": 2, "web": 2}, "one too large moves alone"
    assert set(move.holds()) == {"mirror/web:v1"}, "a look has written something"

    with pytest.raises(Conflict, match="wave first comes before small"):
        move.services.migration_steps.start("move", "small")
    move.run("first")
    assert set(move.holds()) == {f"mirror/team/app:v{n}" for n in (1, 2, 3)} | {"mirror/web:v1"}
    rule = move.services.rules.get("migration-move-first")
    assert rule.set == "migration:move"
    move.run("small")
    after = move.push("team/app:v3", mark="pushed while it moves")
    new = move.push("fresh:v1")
    move.run("rest")
    assert move.survey(FREEZE).figures["tags"] == 7
    move.delta()
    proof = move.survey(PROOF)

    assert proof.figures["findings"] == {}
    assert proof.figures["tags"] == 7
    assert move.holds()["mirror/team/app:v3"] == after != before
    assert move.holds()["mirror/fresh:v1"] == new
    back = {f"{b.repository}:{b.tag}": b.digest for b in move.store.before(move.store.get("move"))}
    assert back.pop("mirror/web:v1") == there
    assert set(back) == set(move.holds()) - {"mirror/web:v1"}
    assert set(back.values()) == {""}, "what we wrote ourselves is not what was there before"
    with pytest.raises(Conflict, match="was started"):
        move.store.put(Move.changed(move.migration, source="west"), document={})


@on_both_databases
def test_what_the_inventory_counts_is_what_is_there(world: World) -> None:
    """A layer that images share counts once among the unique bytes, and in each image among the others."""
    move = Move(world)
    storage, shared = world.east.storage, some_bytes("shared", 7000)
    for name in ("a:v1", "a:v2", "b:v1"):
        move.push(name, layer=shared)
    push_image(storage, "b", "same", mark="a:v1", layer=shared)
    push_index(storage, "c", "v1", ["linux/amd64", "linux/arm64"])

    figures = move.survey(INVENTORY).figures

    sizes: dict[str, int] = {}
    logical = 0

    def tree(repository: str, reference: str) -> dict[str, int]:
        one = storage.manifest(repository, reference)
        assert one is not None
        document = json.loads(one.raw)
        found = {one.digest: len(one.raw)}
        for child in document.get("manifests", ()):
            found |= tree(repository, child["digest"])
        blobs = [document["config"], *document["layers"]] if "layers" in document else []
        return found | {blob["digest"]: blob["size"] for blob in blobs}

    for image in (("a", "v1"), ("a", "v2"), ("b", "v1"), ("b", "same"), ("c", "v1")):
        here = tree(*image)
        logical += sum(here.values())
        sizes |= here
    assert (figures["repositories"], figures["tags"]) == (3, 5)
    assert figures["bytes"] == logical
    assert figures["unique_bytes"] == sum(sizes.values())
    wave = move.wave("all").figures
    assert wave == {key: figures[key] for key in wave}
    count = len([a for a in world.east.log if a.method == "GET" and "/manifests/" in a.path])
    assert count == 4 + 3, "each digest is read once in its repository"
    again = move.survey(INVENTORY)
    assert again.figures == figures
    for _ in range(10):
        move.services.surveyor.step()
    with world.services.database.read() as connection:
        for table in (migration_tags, migration_blobs):
            query = select(func.count()).select_from(table).where(table.c.survey != again.id)
            assert connection.execute(query).scalar() == 0, "an older look is still there"


@on_both_databases
def test_names_that_collide_are_named_and_no_wave_starts(world: World) -> None:
    """Two sources of one name, in two waves: neither wave's rule alone would see it."""
    namespaces = (Namespace("*/app", "apps/{name}"), Namespace("bad", "Upper/{name}"))
    move = Move(world, namespaces=namespaces, waves=(Wave("first", ("team/*",)), Wave("rest")))
    for name in ("team/app:v1", "other/app:v1", "other/app:v2", "bad:v1", "kept:v1"):
        move.push(name)

    found = move.survey(INVENTORY)

    assert found.figures["findings"] == {"collision": 1, "unnamed": 1}
    assert (
        move.findings(INVENTORY)["collision", "team/app:v1"]
        == "other/app:v1 would get this name, too"
    )
    assert "upper-case" in move.findings(INVENTORY)["unnamed", "bad:v1"]
    with pytest.raises(Conflict, match=r"bad:v1.*team/app:v1 -> apps/app:v1: other/app:v1 would"):
        move.services.migration_steps.start("move", "first")
    move.keeper.step()
    assert move.holds() == {}
    assert not [a for a in world.west.log if a.method not in ("GET", "HEAD")]


def test_what_a_project_may_not_touch_is_neither_counted_nor_moved(world: World) -> None:
    move = Move(world, project="team")
    grants = (Grant("east", ("team/*",)),), (Grant("west", ("mirror/team/a*",)),)
    move.services.projects.put(Project("team", *grants), document={})
    for name in ("team/app:v1", "team/web:v1", "other/app:v1"):
        move.push(name)

    assert move.survey(INVENTORY).figures["tags"] == 1
    assert set(move.findings(INVENTORY)) == {("denied", "team/web:v1")}
    with pytest.raises(Conflict, match="may not write west/mirror/team/web"):
        move.services.migration_steps.start("move", "all")


def test_what_select_says_of_tags_holds_for_looks_and_waves_alike(world: World) -> None:
    """The newest by version, types and platforms: what is counted, moved and proved is the same."""
    select_ = (
        Selection(
            NameFilter(("app",)), NameFilter(semver=">=1", newest=Newest(2)), to_tag="{tag}-moved"
        ),
        Selection(NameFilter(("multi",)), platforms=("linux/arm64",)),
        Selection(NameFilter(("charts",)), types=("image",)),
    )
    move = Move(world, select=select_, priority="bulk")
    world.west.api.profile = replace(OCI_1_1, sparse_indexes=True)
    storage = world.east.storage
    for tag in ("v1.0.0", "v1.1.0", "v1.2.0", "v0.9.0", "latest"):
        move.push(f"app:{tag}")
    push_index(storage, "multi", "v1", ["linux/amd64", "linux/arm64"])
    push_artifact(storage, "charts", "v1", config="application/vnd.cncf.helm.config.v1+json")
    move.push("charts:image")
    move.push("unwanted:v1")

    assert move.survey(INVENTORY).figures["tags"] == 4
    move.run("all")
    assert move.services.rules.get("migration-move-all").rule.priority == "bulk"
    assert set(move.holds()) == {
        "mirror/app:v1.1.0-moved",
        "mirror/app:v1.2.0-moved",
        "mirror/multi:v1",
        "mirror/charts:image",
    }
    move.survey(FREEZE)
    move.delta()
    assert move.survey(PROOF).figures == {
        "tags": 4,
        "freeze": move.latest(FREEZE).id,
        "findings": {},
    }


def test_a_look_goes_on_where_another_process_left_it(world: World) -> None:
    """Slices of no time, each by a process that dies after it: each page of tags is read once."""
    move = Move(world)
    for repository in range(6):
        for tag in range(3):
            move.push(f"r{repository}:v{tag}")
    world.east.api.tag_page = 2
    move.surveys.begin("move", INVENTORY)
    slices = 0
    while move.latest(INVENTORY).state is not SurveyState.ENDED:
        move.surveyor_of(world.party().services, slice_seconds=0.0).step()
        slices += 1
        assert slices < 60
    assert slices > 3
    assert move.latest(INVENTORY).figures["tags"] == 18
    heads = [a.path for a in world.east.log if a.method == "HEAD" and "/manifests/" in a.path]
    assert len(heads) == len(set(heads)) == 18


def test_a_look_goes_on_after_failures_that_pass_and_tells_what_it_may_not_read(
    world: World,
) -> None:
    """A repository that is denied, and a tag that fails each time, are named; a freeze is refused for them."""
    move = Move(world)
    move.surveyor = move.surveyor_of(world.services, max_attempts=2)
    for name in ("a:v1", "b:v1", "c:v1", "c:v2"):
        move.push(name)
    passing = world.east.fault("/v2/a/manifests/v1", method="HEAD", status=500, times=1)
    world.east.fault("/v2/b/tags/list", method="GET", status=403, times=FOREVER)
    stuck = world.east.fault("/v2/c/manifests/v2", method="HEAD", status=502, times=FOREVER)

    assert move.survey(INVENTORY).figures["tags"] == 2
    assert passing.fired == 1
    assert stuck.fired > 1
    assert set(move.findings(INVENTORY)) == {("unlisted", "b:"), ("unread", "c:v2")}
    stuck.times = 0
    failed = move.survey(FREEZE, SurveyState.FAILED)
    assert "could not be read" in failed.reason
    with pytest.raises(Conflict, match="no freeze that has ended"):
        move.surveys.begin("move", PROOF)


def test_a_process_of_another_jurisdiction_looks_at_nothing_and_says_so(world: World) -> None:
    """DESIGN section 7: the region of a process is a stop on the way of what it reads."""
    move = Move(world)
    move.push("app:v1")
    place(world, east="eu-1", west="eu-2")
    declare(world, **{"eu-1": "eu", "eu-2": "eu", "us-1": "us"})
    move.surveys.begin("move", INVENTORY)
    before = len(list(world.east.log))
    foreign = world.open(replace(world.settings, region="us-1"))
    foreign.surveyor.step()

    waiting = move.latest(INVENTORY)
    assert waiting.state is SurveyState.PENDING
    assert "a worker of region us-1 (us) may not touch what is of eu" in waiting.reason
    assert len(list(world.east.log)) == before

    move.surveyor = world.open(replace(world.settings, region="eu-2")).surveyor
    ended = move.look_to_its_end(INVENTORY)
    assert (ended.figures["tags"], ended.reason) == (1, "")


def test_a_wave_that_fails_says_why_and_starts_again(world: World) -> None:
    move = Move(world, waves=(Wave("first", ("a",)), Wave("rest")))
    for name in ("a:v1", "a:v2", "b:v1"):
        move.push(name)
    move.survey(INVENTORY)
    world.west.fault("/manifests/v2", method="PUT", status=403, times=FOREVER)

    move.run("first", state=WaveState.FAILED)

    execution = move.wave("first").executions[0]
    assert f"execution {execution} ended partial" in move.wave("first").reason
    assert f"transship executions failures {execution}" in move.wave("first").reason
    move.run("rest")
    with pytest.raises(Conflict, match="no freeze"):
        move.services.migration_steps.delta("move")
    world.west.faults.clear()
    move.run("first")
    assert move.wave("first").reason == ""
    assert move.wave("first").history == (execution,)
    assert len(move.holds()) == 3


def test_waves_move_within_their_windows_only(world: World) -> None:
    """At noon nothing begins; in the evening it does; at six in the morning what runs is stopped, and goes on later."""
    move = Move(world, windows=(Window(20 * 60, 6 * 60, (0, 1, 2, 3, 4)),))
    move.push("a:v1")
    move.survey(INVENTORY)
    move.services.migration_steps.start("move", "all")
    move.keeper.step()
    assert move.wave("all").execution == ""
    assert move.keeper.is_closed(move.migration)

    move.now += timedelta(hours=9)
    move.keeper.step()
    first = move.wave("all").execution
    assert first
    move.now += timedelta(hours=9, minutes=1)
    move.keeper.step()
    assert move.services.executions.get(first).state is ExecutionState.STOPPING
    move.services.dispatching.end_executions()
    assert move.services.executions.get(first).state is ExecutionState.STOPPED
    move.keeper.step()
    move.keeper.step()
    assert (move.wave("all").state, move.wave("all").execution) == (WaveState.RUNNING, "")

    move.now += timedelta(hours=15)
    move.carry_out("all")
    assert move.wave("all").state is WaveState.DONE
    assert len(move.wave("all").executions) == 2
    assert move.holds().keys() == {"mirror/a:v1"}


def test_how_far_a_wave_is_and_what_is_left_is_told_while_it_runs(world: World) -> None:
    """Half of the tags are through: what they took is what the others will take, or nearly so."""
    move = Move(world)
    for number in range(16):
        move.push(f"app:v{number}", layer=some_bytes(f"layer {number}", 40_000))
    move.survey(INVENTORY)
    steps = move.services.migration_steps
    steps.start("move", "all")
    assert steps.progress(move.wave("all")) is None
    move.keeper.step()
    execution = move.wave("all").execution
    assert move.services.planner.plan(execution, move.services.boot)
    party = world.party()
    refs = world.dispatch()
    for ref in refs[:8]:
        party.replicate(ref)

    half = steps.progress(move.wave("all"))

    assert half is not None
    assert half.totals.copied == half.totals.pending == 8
    assert half.totals.bytes_copied == pytest.approx(move.wave("all").figures["bytes"] / 2, rel=0.1)
    assert half.seconds_left == pytest.approx(half.seconds, rel=0.2)
    for ref in refs[8:]:
        party.replicate(ref)
    whole = steps.progress(move.wave("all"))
    assert whole is not None
    assert whole.seconds_left == 0
    move.services.dispatching.end_executions()
    move.keeper.step()
    assert move.wave("all").state is WaveState.DONE


def test_an_execution_that_a_person_stops_fails_its_wave(world: World) -> None:
    move = Move(world)
    move.push("a:v1")
    move.survey(INVENTORY)
    move.services.migration_steps.start("move", "all")
    move.keeper.step()
    move.services.executions.request_stop(move.wave("all").execution)
    move.services.dispatching.end_executions()
    move.keeper.step()

    assert move.wave("all").state is WaveState.FAILED
    assert "ended stopped" in move.wave("all").reason


@on_both_databases
def test_the_proof_names_whatever_is_not_as_it_was_frozen(world: World) -> None:
    """Seen by another name of the destination: moved, missing, a hole, a lost referrer, pushed, removed."""
    world.services.registries.put(RegistryEndpoint("public", world.west.url), document={})
    move = Move(world, final="public")
    digests = {tag: move.push(f"app:{tag}") for tag in ("moved", "gone", "hole", "signed", "kept")}
    move.push("app:removed")
    signature = push_artifact(
        world.east.storage, "app", None, artifact_type="application/x.signature", subject="signed"
    )
    move.survey(INVENTORY)
    move.run("all")
    move.survey(FREEZE)
    move.delta()
    assert move.survey(PROOF).figures["findings"] == {}

    west = world.west.storage
    push_image(west, "mirror/app", "moved", mark="somebody else")
    assert west.delete_tag("mirror/app", "gone")
    manifest = west.manifest("mirror/app", "hole")
    assert manifest is not None
    layer = json.loads(manifest.raw)["layers"][0]["digest"]
    west.drop_blob(layer)
    west.drop_manifest("mirror/app", signature)
    move.push("app:kept", mark="pushed late")
    move.push("new:v1")
    assert world.east.storage.delete_tag("app", "removed")

    assert move.survey(PROOF).figures["findings"] == {
        "moved": 1,
        "missing": 1,
        "hole": 2,
        "pushed": 2,
        "removed": 1,
    }
    found = move.findings(PROOF)
    assert set(found) == {
        ("moved", "app:moved"),
        ("missing", "app:gone"),
        ("hole", "app:hole"),
        ("hole", "app:signed"),
        ("pushed", "app:kept"),
        ("pushed", "new:v1"),
        ("removed", "app:removed"),
    }
    assert found["missing", "app:gone"] == "public has no mirror/app:gone"
    assert layer in found["hole", "app:hole"]
    assert signature in found["hole", "app:signed"]
    assert digests["kept"] != world.east.storage.manifest("app", "kept").digest  # type: ignore[union-attr]


def test_a_proof_that_cannot_ask_for_a_while_proves_nothing_meanwhile(world: World) -> None:
    """A destination that fails is neither a proof nor a finding: the look waits, and goes on."""
    move = Move(world)
    move.push("app:v1")
    move.survey(INVENTORY)
    move.run("all")
    move.survey(FREEZE)
    fault = world.west.fault("/v2/mirror/app/manifests", method="HEAD", status=502, times=6)
    move.surveys.begin("move", PROOF)
    move.services.surveyor.step()
    held = move.latest(PROOF)
    assert held.state in (SurveyState.PENDING, SurveyState.RUNNING)
    assert "502" in held.reason or "west" in held.reason
    assert move.look_to_its_end(PROOF).figures["findings"] == {}
    assert fault.fired == 6


def test_a_migration_that_is_forgotten_leaves_no_rule_and_what_it_wrote(world: World) -> None:
    move = Move(world)
    move.push("app:v1")
    move.survey(INVENTORY)
    move.services.migration_steps.start("move", "all")
    move.keeper.step()
    with pytest.raises(Conflict, match="under way"):
        move.store.delete("move")
    move.carry_out("all")

    move.store.delete("move")

    assert move.holds().keys() == {"mirror/app:v1"}
    assert [stored.rule.name for stored in world.services.rules.list()] == []
    assert move.surveys.latest("move") == {}
    Move(world)
    assert move.wave("all").state is WaveState.PENDING
