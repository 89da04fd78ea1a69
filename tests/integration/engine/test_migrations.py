"""A migration between two sample registries, step by step: inventory, waves, freeze, delta, proof, the way back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from service.errors import Conflict
from service.model.migration import (
    FREEZE,
    INVENTORY,
    PROOF,
    Migration,
    Namespace,
    SurveyState,
    Wave,
    WaveState,
)
from service.replication.migration_keeper import MigrationKeeper
from service.replication.migration_survey import Surveyor
from service.store.fleet_migrations import StoredWave
from service.store.migration_surveys import Survey
from service.store.migration_waves import WaveAssignment
from tests.integration.engine.databases import on_both_databases
from tests.support.content import push_image
from tests.support.planning import finish
from tests.support.processes import wait_until
from tests.support.world import World, some_bytes

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday


class Move:
    """A migration, and what scheduler and worker do about it, step by step."""

    def __init__(self, world: World, **fields: Any) -> None:
        self.world = world
        self.services = world.services
        self.now = NOON
        fields.setdefault("namespaces", (Namespace("**", "mirror/{repository}"),))
        self.migration = Migration("move", "east", "west", **fields)
        self.store = self.services.migrations
        self.surveys = self.services.migration_surveys
        self.keeper = MigrationKeeper(
            self.store,
            self.surveys,
            self.services.rules,
            self.services.executions,
            now=lambda: self.now,
        )
        self.store.put(self.migration, document={"source": "east"})

    def push(self, name: str, mark: str = "", layer: bytes | None = None) -> str:
        """Push an image to the source; returns its digest."""
        repository, _, tag = name.partition(":")
        storage = self.world.east.storage
        return push_image(storage, repository, tag, mark=mark or name, layer=layer)

    def survey(self, kind: str, state: SurveyState = SurveyState.ENDED) -> Survey:
        """Have a look taken to its end."""
        self.surveys.begin("move", kind)
        return self.look_to_its_end(kind, state)

    def look_to_its_end(self, kind: str, state: SurveyState = SurveyState.ENDED) -> Survey:
        def ended() -> bool:
            self.services.surveyor.step()
            return self.latest(kind).state not in (SurveyState.PENDING, SurveyState.RUNNING)

        wait_until(ended, 20, "the survey to end")
        found = self.latest(kind)
        assert found.state is state, found
        return found

    def latest(self, kind: str) -> Survey:
        return self.surveys.latest("move")[kind]

    def wave(self, name: str) -> StoredWave:
        return next(wave for wave in self.store.waves("move") if wave.name == name)

    def run(self, *names: str, state: WaveState = WaveState.DONE) -> None:
        """Move waves to their end, one after the other."""
        for name in names:
            self.store.start("move", name)
            self.carry_out(name)
            assert self.wave(name).state is state, self.wave(name)

    def carry_out(self, name: str) -> None:
        self.keeper.step()
        if execution := self.wave(name).execution:
            assert self.services.planner.plan(execution, self.services.boot)
            finish(self.world, execution)
            self.keeper.step()

    def findings(self, kind: str) -> dict[tuple[str, str], str]:
        """What a look has found: what is wrong, by kind and name."""
        found = self.surveys.findings(self.latest(kind).id)
        return {(one.kind, f"{one.repository}:{one.tag}"): one.reason for one in found}

    def holds(self) -> dict[str, str]:
        """Every tag of the destination and its digest."""
        storage = self.world.west.storage
        return {
            f"{name}:{tag}": digest
            for name in storage.repositories()
            for tag, digest in (storage.tags(name) or {}).items()
        }


@on_both_databases
def test_a_fleet_moves_in_waves_and_the_move_is_proved(world: World) -> None:
    """The whole way: the source changes meanwhile, and only what the freeze saw is proved."""
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
    assert waves == {"team/app": 0, "lib": 2, "web": 2, "big": 1}
    assert not move.holds().keys() - {"mirror/web:v1"}, "a look has written something"

    with pytest.raises(Conflict, match="wave first comes before small"):
        move.store.start("move", "small")
    move.run("first")
    assert set(move.holds()) == {f"mirror/team/app:v{n}" for n in (1, 2, 3)} | {"mirror/web:v1"}
    move.run("small")
    after = move.push("team/app:v3", mark="pushed while it moves")
    new = move.push("fresh:v1")
    move.run("rest")
    move.survey(FREEZE)
    assert move.surveys.every_repository(move.latest(FREEZE).id)

    move.store.start_delta("move")
    for name in ("first", "small", "rest"):
        move.carry_out(name)
        assert move.wave(name).state is WaveState.DONE
        assert move.wave(name).delta
    proof = move.survey(PROOF)

    assert proof.figures["findings"] == {}
    assert proof.figures["tags"] == 7
    assert move.holds()["mirror/team/app:v3"] == after != before
    assert move.holds()["mirror/fresh:v1"] == new
    back = {f"{b.repository}:{b.tag}": b.digest for b in move.store.before(move.store.get("move"))}
    assert back.pop("mirror/web:v1") == there
    assert set(back) == set(move.holds()) - {"mirror/web:v1"}
    assert set(back.values()) == {""}


def test_what_the_inventory_counts_is_what_is_there(world: World) -> None:
    """A layer that images share counts once among the unique bytes, and in each image among the others."""
    move = Move(world)
    shared = some_bytes("shared", 7000)
    for name in ("a:v1", "a:v2", "b:v1"):
        move.push(name, layer=shared)
    storage = world.east.storage
    storage.put_manifest("b", storage.manifest("a", "v1"), "same")  # type: ignore[arg-type]
    for name in ("config", "layer"):
        del name
    manifest = storage.manifest("a", "v1")
    assert manifest is not None
    for blob in [json.loads(manifest.raw)["config"], *json.loads(manifest.raw)["layers"]]:
        found = storage.blob("a", blob["digest"])
        assert found is not None
        storage.put_blob("b", blob["digest"], found[0])

    figures = move.survey(INVENTORY).figures

    names = [("a", "v1"), ("a", "v2"), ("b", "v1"), ("b", "same")]
    sizes: dict[str, int] = {}
    logical = 0
    for repository, tag in names:
        one = storage.manifest(repository, tag)
        assert one is not None
        document = json.loads(one.raw)
        blobs = {b["digest"]: b["size"] for b in [document["config"], *document["layers"]]}
        blobs[one.digest] = len(one.raw)
        logical += sum(blobs.values())
        sizes |= blobs
    assert figures["bytes"] == logical
    assert figures["unique_bytes"] == sum(sizes.values())
    assert 7000 < figures["unique_bytes"] < 2 * 7000
    gets = [a for a in world.east.log if a.method == "GET" and "/manifests/sha256" in a.path]
    assert len(gets) == 4, "a digest is read once in its repository"
    assert move.survey(INVENTORY).figures == figures


def test_names_that_collide_are_named_and_no_wave_starts(world: World) -> None:
    move = Move(world, namespaces=(Namespace("*/app", "apps/{name}"),))
    for name in ("team/app:v1", "other/app:v1", "other/app:v2"):
        move.push(name)

    assert move.survey(INVENTORY).figures["findings"] == {"collision": 1}
    assert move.findings(INVENTORY) == {
        ("collision", "team/app:v1"): "other/app:v1 would get this name, too"
    }


@pytest.mark.parametrize("slow", [False, True])
def test_a_look_goes_on_where_another_process_left_it(world: World, slow: bool) -> None:
    """Slices of no time, each by another process: each repository's list is read once."""
    del slow
    move = Move(world)
    for repository in range(6):
        for tag in range(3):
            move.push(f"r{repository}:v{tag}")
    move.surveys.begin("move", INVENTORY)
    slices = 0
    while move.latest(INVENTORY).state is not SurveyState.ENDED:
        party = world.party().services
        Surveyor(
            party.settings,
            party.migration_surveys,
            WaveAssignment(party.database, party.migration_surveys),
            party.plans,
            party.projects,
            party.clients,
            party.meter,
            party.guard,
            slice_seconds=0.02,
        ).step()
        slices += 1
        assert slices < 100
    assert move.latest(INVENTORY).figures["tags"] == 18
    lists = [a.path for a in world.east.log if a.path.partition("?")[0].endswith("/tags/list")]
    assert len(lists) == len(set(lists)) == 6
