"""Large blobs go on before their image is whole (docs/adr/0016)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest
from sqlalchemy import func, select, update

from api.samples.faults import FOREVER
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.line import LEAST_BYTES
from service.model.region import Region
from service.model.states import CopyState
from service.model.work import Errand
from service.replication import ahead, errands
from service.replication import replicate as use_cases
from service.store.tables import HELD, copies, executions
from service.store.tables_regions import execution_links
from tests.integration.engine.databases import on_both_databases
from tests.integration.engine.test_routes import NAMES, Chain, chain, step
from tests.support.world import Image, Party, RecordingPublisher, some_bytes

pytestmark = on_both_databases

__all__ = ["chain"]

LARGE = some_bytes("large", LEAST_BYTES + 1000)
SMALL = some_bytes("small", 5000)


def elsewhere(chain: Chain) -> Party:
    """A process of another region: those that live here are sent errands, and not fed along by it."""
    for name in ("local", "elsewhere"):
        chain.world.services.regions.put(Region(name, "eu"), document={"name": name})
    return chain.world.party(region="elsewhere")


def push(chain: Chain) -> Image:
    return chain.world.push("team/app", "v1", [LARGE, SMALL])


@dataclass
class AtOnce(RecordingPublisher):
    """A queue whose errands another process has done by the time that sending returns."""

    other: Party | None = None
    done: list[str] = field(default_factory=list)

    def ahead(self, region: str, errand: Errand, label: str) -> None:
        assert self.other is not None
        self.errands.append(errand)
        engine = replace(self.other.engine, publisher=self)
        self.done.append(ahead.place_ahead(engine, errand))


def first_hop(chain: Chain) -> AtOnce:
    """Carry out the first registry's copy, and errands as they come."""
    queue = AtOnce(other=elsewhere(chain))
    (ref,) = chain.world.dispatch()
    engine = replace(elsewhere(chain).engine, publisher=queue)
    use_cases.replicate(engine, [ref])
    return queue


def large_reads(chain: Chain, image: Image) -> list[int]:
    """How often the large layer was asked for, at the source and at each destination; probes are not."""
    found = []
    for registry in (chain.world.east, *chain.registries.values()):
        lines = [
            line
            for line in list(registry.log)
            if line.method == "GET" and line.path.endswith(image.layers[0])
        ]
        found.append(len(lines))
    return found


def has_large(chain: Chain, image: Image, name: str) -> bool:
    return chain.registries[name].storage.blob(f"{name}/app", image.layers[0]) is not None


def test_a_large_blob_is_everywhere_before_the_second_copy_begins(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()

    queue = first_hop(chain)

    assert queue.done == ["placed", "placed"]
    assert all(has_large(chain, image, name) for name in NAMES)
    states = chain.state_of(execution)
    assert [states[name] for name in NAMES] == ["copied", "pending", "pending"]
    before = large_reads(chain, image)
    assert before[:2] == [1, 1], "the source and the first registry send it once each"
    chain.world.run_to_end(execution, elsewhere(chain))
    assert chain.lacks(image) == []
    assert large_reads(chain, image) == before


def test_what_crossed_is_counted_once(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    first_hop(chain)

    chain.world.run_to_end(execution, elsewhere(chain))

    with chain.world.services.database.read() as connection:
        crossed = connection.execute(select(func.sum(execution_links.c.bytes))).scalar_one()
        moved = connection.execute(select(func.sum(copies.c.bytes_copied))).scalar_one()
        blobs = connection.execute(select(func.sum(copies.c.blobs_copied))).scalar_one()
    assert crossed == moved == 3 * (len(LARGE) + len(SMALL) + config_bytes(chain, image))
    assert blobs == 9


def config_bytes(chain: Chain, image: Image) -> int:
    manifest = chain.world.east.storage.manifest("team/app", "v1")
    assert manifest is not None
    assert manifest.digest == image.digest
    return int(json.loads(manifest.raw)["config"]["size"])


def test_a_copy_waits_for_what_an_errand_is_bringing(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    party = elsewhere(chain)
    step(chain, party)
    (errand,) = party.publisher.errands

    step(chain, party)  # the second copy begins before its errand is carried out

    states = chain.state_of(execution)
    assert [states[name] for name in NAMES] == ["copied", "waiting", "pending"]
    assert large_reads(chain, image)[1] == 0, "the first registry was asked for what is on its way"
    queue = AtOnce(other=elsewhere(chain))
    queue.ahead("local", errand, "")
    assert queue.done == ["placed", "placed"]
    chain.world.run_to_end(execution, party)  # woken: nobody looks for lost wake-ups here
    assert chain.lacks(image) == []
    assert large_reads(chain, image)[:2] == [1, 1]


def test_a_copy_whose_blobs_are_there_does_not_wait_for_its_parent(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    party = elsewhere(chain)
    step(chain, party)
    first, *_ = party.publisher.errands
    queue = AtOnce(other=elsewhere(chain))

    queue.ahead("local", first, "")

    assert queue.done == ["placed", "placed"]
    assert step(chain, party) == 2, (
        "the first registry has the image, and the third all of its blobs"
    )
    assert set(chain.state_of(execution).values()) == {"copied"}
    assert chain.lacks(image) == []


def test_what_an_errand_leaves_undone_is_waited_for_no_longer(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    party = elsewhere(chain)
    step(chain, party)
    (errand,) = party.publisher.errands
    step(chain, party)
    first = next(name for name in NAMES[1:] if chain.state_of(execution)[name] == "waiting")
    fault = chain.registries[first].fault("blobs/uploads", status=403, times=FOREVER)

    queue = AtOnce(other=elsewhere(chain))
    queue.ahead("local", errand, "")

    assert fault.fired
    chain.registries[first].faults.clear()
    assert sorted(queue.done) == ["left", "placed"]
    chain.world.run_to_end(execution, party)
    assert chain.lacks(image) == []


def test_an_errand_that_is_lost_holds_nobody_up_for_long(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    party = elsewhere(chain)
    step(chain, party)
    assert party.publisher.errands, "sent, and carried out by nobody"
    step(chain, party)
    redis = chain.world.redis.client()
    most = errands.WAITED_SECONDS + len(LARGE) / errands.WAITED_BYTES_PER_SECOND
    announced = list(redis.scan_iter("transship:ahead:*"))
    assert len(announced) == 2
    assert all(0 < redis.ttl(key) <= most for key in announced)

    for name in NAMES[1:]:
        for key in list(redis.scan_iter("transship:ahead:*")):
            redis.delete(key)
        chain.world.services.dispatching.wake(name, image.layers[0], everybody=False)
        step(chain, party)
        step(chain, party)

    assert set(chain.state_of(execution).values()) == {"copied"}
    assert chain.lacks(image) == []


def test_an_errand_that_comes_twice_or_late_asks_no_registry(chain: Chain) -> None:
    push(chain)
    execution = chain.plan()
    queue = first_hop(chain)
    ids = {one.destination_registry: one.id for one in chain.world.copies(execution)}
    second = next(errand for errand in queue.errands if errand.follower == ids["third"])
    party = elsewhere(chain)

    def asked() -> int:
        return sum(len(list(one.log)) for one in chain.registries.values())

    before = asked()
    assert ahead.place_ahead(party.engine, second) == "late"
    assert asked() == before
    chain.world.run_to_end(execution, party)
    before = asked()
    assert ahead.place_ahead(party.engine, second) == "late"
    assert asked() == before


def test_a_registry_that_refuses_is_passed_over(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    fault = chain.registries["second"].fault("blobs/uploads", status=403, times=FOREVER)

    queue = first_hop(chain)

    assert fault.fired
    assert sorted(queue.done) == ["left", "placed"]
    assert has_large(chain, image, "third")
    assert not has_large(chain, image, "second")
    chain.registries["second"].faults.clear()
    chain.world.run_to_end(execution, elsewhere(chain))
    assert chain.lacks(image) == []


@pytest.mark.parametrize("policy", ["keep", "fail"])
def test_a_rule_that_may_keep_what_is_there_sends_nothing_ahead(chain: Chain, policy: str) -> None:
    image = push(chain)
    chain.plan()
    party = elsewhere(chain)
    (ref,) = chain.world.dispatch()
    (work,) = party.engine.state.begin([ref], party.engine.boot)
    blob = Descriptor(media_type="", digest=Digest.parse(image.layers[0]), size=len(LARGE))

    errands.Errands(party.engine, replace(work, on_conflict=policy)).offer(blob)

    assert party.publisher.errands == []
    errands.Errands(party.engine, work).offer(blob)
    assert len(party.publisher.errands) == 1


def test_only_large_blobs_run_ahead(chain: Chain) -> None:
    push(chain)
    chain.plan()

    queue = first_hop(chain)

    assert {errand.blob.size for errand in queue.errands} == {len(LARGE)}


def waiting_errand(chain: Chain) -> Errand:
    """The errand of the first hop's large blob, as if its image were not committed yet."""
    party = elsewhere(chain)
    assert step(chain, party)
    chain.world.services.database.write(
        lambda c: c.execute(
            update(copies).where(copies.c.state == CopyState.PENDING).values(not_before=HELD)
        )
    )
    (errand,) = party.publisher.errands
    return errand


def test_a_stopped_copy_gets_nothing(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    errand = waiting_errand(chain)
    chain.world.services.executions.request_stop(execution)
    queue = AtOnce(other=elsewhere(chain))

    queue.ahead("local", errand, "")

    assert set(queue.done) == {"late"}
    assert not any(has_large(chain, image, name) for name in NAMES[1:])


@pytest.mark.parametrize("known", [True, False])
def test_nothing_goes_a_way_that_the_route_does_not_know(chain: Chain, known: bool) -> None:
    image = push(chain)
    chain.world.push("team/other", "v1", [some_bytes("other", 10)])
    execution = chain.plan()
    errand = waiting_errand(chain)
    stranger = next(
        one.id
        for one in chain.world.copies(execution)
        if (one.destination_registry, one.source_repository) == ("first", "team/other")
    )
    party = elsewhere(chain)

    done = ahead.place_ahead(party.engine, replace(errand, holder=stranger if known else 1_000_000))

    assert done == "late"
    assert not any(has_large(chain, image, name) for name in NAMES[1:])


def test_a_border_drawn_meanwhile_holds_an_errand_off(chain: Chain) -> None:
    image = push(chain)
    chain.plan()
    errand = waiting_errand(chain)
    services = chain.world.services
    services.regions.put(Region("local", "eu"), document={"name": "local"})
    services.regions.put(Region("abroad", "cn"), document={"name": "abroad"})
    for name in NAMES[1:]:
        moved = replace(services.registries.get(name).endpoint, region="abroad")
        services.registries.put(moved, document={})
    services.database.write(
        lambda c: c.execute(
            update(executions).values(
                spec=func.replace(executions.c.spec, '"mode":"sync"', '"mode":"replicate"')
            )
        )
    )
    queue = AtOnce(other=elsewhere(chain))

    queue.ahead("local", errand, "")

    assert queue.done
    assert "placed" not in queue.done
    assert not any(has_large(chain, image, name) for name in NAMES[1:])


def test_a_busy_region_gets_no_errands(chain: Chain) -> None:
    push(chain)
    chain.plan()
    party = elsewhere(chain)
    party.publisher.standing = errands.MOST_WAITING

    step(chain, party)

    assert party.publisher.errands == []
