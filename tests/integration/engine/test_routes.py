"""Trees over destinations: the source sends once, and whoever holds the bytes feeds the next (docs/adr/0015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import select, update

from api.samples.faults import FOREVER
from api.samples.registry import SampleRegistry
from api.samples.storage import digest_of
from service.model.endpoint import RegistryEndpoint
from service.model.region import Region
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.states import CopyState
from service.store.tables import HELD, copies, registries
from service.store.tables_regions import execution_links
from tests.integration.engine.databases import on_both_databases
from tests.support.processes import wait_until
from tests.support.world import Image, Party, World, some_bytes

pytestmark = on_both_databases

NAMES = ("first", "second", "third")
LAYERS = [some_bytes("l1", 50_000), some_bytes("l2", 60_000)]
BYTES = sum(len(layer) for layer in LAYERS)


@dataclass
class Chain:
    """East feeds first, that feeds second, and that third: all in one declared region."""

    world: World
    registries: dict[str, SampleRegistry]

    def plan(self, *, referrers: bool = False) -> str:
        rule = SyncRule(
            "fleet",
            "east",
            (Selection(NameFilter(("team/*",))),),
            tuple(Destination(registry=name, repository=f"{name}/{{name}}") for name in NAMES),
            referrers=referrers,
        )
        execution = self.world.services.executions.create(rule, trigger="test").id
        assert self.world.services.planner.plan(execution, self.world.services.boot)
        return execution

    def lacks(self, image: Image, *names: str, tag: str = "v1") -> list[str]:
        """Which of the registries do not have the image whole under its tag."""
        found = []
        for name in names or NAMES:
            storage, repository = self.registries[name].storage, f"{name}/app"
            manifest = storage.manifest(repository, tag)
            blobs = [storage.blob(repository, digest) for digest in image.layers]
            whole = all(
                blob is not None and digest_of(blob[0]) == digest
                for blob, digest in zip(blobs, image.layers, strict=True)
            )
            if manifest is None or manifest.digest != image.digest or not whole:
                found.append(name)
        return found

    def reads(self, registry: SampleRegistry, image: Image) -> int:
        """How often a registry was asked for the bytes of one of the image's layers."""
        return sum(
            line.method == "GET" and line.path.endswith(tuple(image.layers))
            for line in list(registry.log)
        )

    def state_of(self, execution: str) -> dict[str, CopyState]:
        return {one.destination_registry: one.state for one in self.world.copies(execution)}


@pytest.fixture
def chain(world: World) -> Iterator[Chain]:
    world.services.regions.put(Region("local"), document={"name": "local"})
    with SampleRegistry() as one, SampleRegistry() as two, SampleRegistry() as three:
        registries = dict(zip(NAMES, (one, two, three), strict=True))
        for name, registry in registries.items():
            world.services.registries.put(RegistryEndpoint(name, registry.url), document={})
        yield Chain(world, registries)
        for registry in registries.values():
            registry.faults.clear()


def step(chain: Chain, party: Party) -> int:
    """Carry out what may be sent now; how many copies that were."""
    refs = chain.world.dispatch()
    for ref in refs:
        party.replicate(ref)
    return len(refs)


def test_each_byte_leaves_each_registry_once(chain: Chain) -> None:
    image = chain.world.push("team/app", "v1", LAYERS)
    execution = chain.plan()
    party = chain.world.party()

    assert [step(chain, party) for _ in range(4)] == [1, 1, 1, 0]

    assert chain.lacks(image) == []
    assert set(chain.state_of(execution).values()) == {CopyState.COPIED}
    senders = [chain.world.east, *chain.registries.values()]
    assert [chain.reads(one, image) for one in senders] == [2, 2, 2, 0]
    query = select(
        execution_links.c.from_registry,
        execution_links.c.to_registry,
        execution_links.c.copies,
        execution_links.c.bytes,
    ).order_by(execution_links.c.from_registry)
    with chain.world.services.database.read() as connection:
        crossed = [tuple(row) for row in connection.execute(query)]
    assert [(sender, to, count) for sender, to, count, _ in crossed] == [
        ("east", "first", 1),
        ("first", "second", 1),
        ("second", "third", 1),
    ]
    assert all(moved > BYTES for *_, moved in crossed)  # the layers, and a config


def test_the_others_complete_without_the_source(chain: Chain) -> None:
    image = chain.world.push("team/app", "v1", LAYERS)
    execution = chain.plan()
    party = chain.world.party()
    assert step(chain, party) == 1
    gone = chain.world.east.fault("", status=503, times=FOREVER)

    chain.world.run_to_end(execution, party)

    assert gone.fired > 0, "nobody missed the source"
    assert chain.lacks(image) == []


def test_a_dead_parents_children_are_fed_by_whoever_has_the_image(chain: Chain) -> None:
    image = chain.world.push("team/app", "v1", LAYERS)
    execution = chain.plan()
    party = chain.world.party()
    assert step(chain, party) == 1
    assert step(chain, party) == 1
    dead = chain.registries["second"].fault("", status=503, times=FOREVER)

    chain.world.run_to_end(execution, party)

    assert dead.fired > 0
    assert chain.lacks(image, "first", "third") == []
    assert chain.reads(chain.world.east, image) == 2
    assert chain.reads(chain.registries["first"], image) == 4


def test_a_parent_that_never_gets_the_image_holds_up_nobody(chain: Chain) -> None:
    image = chain.world.push("team/app", "v1", LAYERS)
    execution = chain.plan()
    chain.registries["first"].fault("", status=403, times=FOREVER)

    chain.world.run_to_end(execution, chain.world.party())

    assert chain.state_of(execution) == {
        "first": CopyState.FAILED,
        "second": CopyState.COPIED,
        "third": CopyState.COPIED,
    }
    assert chain.lacks(image, "second", "third") == []
    assert chain.reads(chain.registries["second"], image) == 2


def test_who_waits_for_a_copy_that_is_put_off_goes_on_without_it(chain: Chain) -> None:
    image = chain.world.push("team/app", "v1", LAYERS)
    execution = chain.plan()
    party = chain.world.party(outage_patience_seconds=3600.0)
    chain.registries["first"].fault("", status=503, times=FOREVER)

    def fed() -> bool:
        step(chain, party)
        return chain.lacks(image, "second", "third") == []

    wait_until(fed, 20, "the others to go on")

    assert chain.lacks(image, "second", "third") == []
    assert not chain.state_of(execution)["first"].ended


def test_what_is_in_place_feeds_the_next_at_once(chain: Chain) -> None:
    image = chain.world.push("team/app", "v1", LAYERS)
    party = chain.world.party()
    chain.world.run_to_end(chain.plan(), party)
    chain.world.services.dispatching.end_executions()
    chain.registries["third"].storage.delete_tag("third/app", "v1")
    for digest in image.layers:
        chain.registries["third"].storage.delete_blob("third/app", digest)
    before = chain.reads(chain.world.east, image)
    execution = chain.plan()

    assert step(chain, party) == 1

    assert chain.state_of(execution) == {"third": CopyState.COPIED}
    assert chain.lacks(image) == []
    assert chain.reads(chain.world.east, image) == before


def test_a_holder_that_has_lost_a_layer_is_passed_over(chain: Chain) -> None:
    image = chain.world.push("team/app", "v1", LAYERS)
    execution = chain.plan()
    party = chain.world.party()
    assert step(chain, party) == 1
    chain.registries["first"].storage.delete_blob("first/app", image.layers[0])

    chain.world.run_to_end(execution, party)

    assert chain.lacks(image, "second", "third") == []
    assert chain.reads(chain.world.east, image) > 2


def test_a_tag_that_has_moved_at_the_source_is_not_gone_on_with(chain: Chain) -> None:
    chain.world.push("team/app", "v1", LAYERS[:1])
    execution = chain.plan()
    party = chain.world.party()
    assert step(chain, party) == 1
    image = chain.world.push("team/app", "v1", LAYERS, "moved")

    chain.world.run_to_end(execution, party)

    assert chain.lacks(image, "second", "third") == []


@pytest.mark.parametrize("cause", ["paused", "unserved"])
def test_who_waits_for_what_nobody_can_begin_goes_on_without_it(chain: Chain, cause: str) -> None:
    image = chain.world.push("team/app", "v1", LAYERS)
    execution = chain.plan()
    store = chain.world.services.dispatching
    unserved: set[str] = set()
    if cause == "paused":
        change = update(registries).where(registries.c.name == "first").values(paused_at=1.0)
    else:
        change = update(copies).where(copies.c.destination_registry == "first")
        change = change.values(region="moon")
        unserved = {"moon"}
    chain.world.services.database.write(lambda connection: connection.execute(change))
    party = chain.world.party()
    assert step(chain, party) == 0

    assert store.free_orphans(unserved) == 1

    assert [step(chain, party) for _ in range(3)] == [1, 1, 0]
    assert chain.lacks(image, "second", "third") == []
    assert chain.state_of(execution)["first"] is CopyState.PENDING


def test_what_belongs_to_an_image_is_the_sources_word(chain: Chain) -> None:
    """A holder may lack what was signed since, and have what is its own."""
    image = chain.world.push("team/app", "v1", LAYERS)
    party = chain.world.party()
    chain.world.run_to_end(chain.plan(referrers=True), party)
    chain.world.services.dispatching.end_executions()
    first, second = chain.registries["first"].storage, chain.registries["second"].storage
    second.delete_tag("second/app", "v1")
    second.delete_manifest("second/app", image.digest)
    signature = image.digest.replace(":", "-") + ".sig"
    chain.world.push("team/app", signature, LAYERS[:1])
    private = image.digest.replace(":", "-") + ".att"
    here = first.manifest("first/app", "v1")
    assert here is not None
    first.put_manifest("first/app", here, private)

    execution = chain.plan(referrers=True)
    chain.world.run_to_end(execution, party)

    assert chain.lacks(image) == []
    assert second.manifest("second/app", signature) is not None
    assert second.manifest("second/app", private) is None


def test_what_waits_for_nothing_is_found(chain: Chain) -> None:
    chain.world.push("team/app", "v1", LAYERS)
    execution = chain.plan()
    store = chain.world.services.dispatching
    assert store.free_orphans() == 0
    lost = update(copies).where(copies.c.destination_registry == "first")
    chain.world.services.database.write(
        lambda connection: connection.execute(lost.values(state=CopyState.FAILED))
    )

    assert store.free_orphans() == 1

    query = select(copies.c.destination_registry).where(copies.c.not_before >= HELD)
    with chain.world.services.database.read() as connection:
        assert list(connection.execute(query).scalars()) == ["third"]
    assert chain.state_of(execution)["second"] is CopyState.PENDING
