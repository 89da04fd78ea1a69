"""Large blobs are read once for all registries that this process would bring them to (docs/adr/0016)."""

from __future__ import annotations

import threading
from dataclasses import replace

from sqlalchemy import func, select, update

from api.samples.faults import FOREVER
from service.model.line import LEAST_BYTES
from service.model.provider import CapabilityOverrides
from service.model.region import Region
from service.model.states import CopyState
from service.registry.feed import HELD_BYTES
from service.replication import ahead
from service.store.tables import copies, executions
from service.store.tables_regions import execution_links
from tests.integration.engine.databases import on_both_databases
from tests.integration.engine.test_routes import NAMES, Chain, chain, step
from tests.support.processes import wait_until
from tests.support.world import Image, some_bytes

pytestmark = on_both_databases

__all__ = ["chain"]

LARGE = some_bytes("large", LEAST_BYTES + 1000)
SMALL = some_bytes("small", 5000)


def push(chain: Chain) -> Image:
    return chain.world.push("team/app", "v1", [LARGE, SMALL])


def has_large(chain: Chain, image: Image, name: str) -> bool:
    return chain.registries[name].storage.blob(f"{name}/app", image.layers[0]) is not None


def everywhere(chain: Chain, image: Image) -> bool:
    return all(has_large(chain, image, name) for name in NAMES)


def alongs() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "along"]


def sent(chain: Chain, image: Image) -> list[int]:
    """How many times the large layer's bytes left the source and each destination; probes are small."""
    found = []
    for registry in (chain.world.east, *chain.registries.values()):
        lines = [one for one in list(registry.log) if one.method == "GET"]
        read = sum(one.bytes for one in lines if one.path.endswith(image.layers[0]))
        found.append(round(read / len(LARGE)))
    return found


def test_a_large_blob_is_read_once_for_all(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    party = chain.world.party()

    assert step(chain, party) == 1

    wait_until(lambda: everywhere(chain, image), 20, "the blob at all registries")
    states = chain.state_of(execution)
    assert [states[name] for name in NAMES] == ["copied", "pending", "pending"]
    assert party.publisher.errands == []
    chain.world.run_to_end(execution, party)
    assert chain.lacks(image) == []
    assert sent(chain, image) == [1, 0, 0, 0]


def test_what_crossed_is_counted_for_each_registry(chain: Chain) -> None:
    push(chain)
    execution = chain.plan()

    chain.world.run_to_end(execution, chain.world.party())

    with chain.world.services.database.read() as connection:
        crossed = connection.execute(select(func.sum(execution_links.c.bytes))).scalar_one()
        moved = connection.execute(select(func.sum(copies.c.bytes_copied))).scalar_one()
        blobs = connection.execute(select(func.sum(copies.c.blobs_copied))).scalar_one()
    assert crossed == moved
    assert moved >= 3 * (len(LARGE) + len(SMALL))
    assert blobs == 9


def test_a_registry_that_refuses_gets_it_from_the_next(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    fault = chain.registries["second"].fault("blobs/uploads", status=403, times=FOREVER)
    party = chain.world.party()

    step(chain, party)

    assert fault.fired
    wait_until(lambda: has_large(chain, image, "third"), 20, "the blob at the third")
    assert not has_large(chain, image, "second")
    wait_until(lambda: party.publisher.errands, 20, "an errand for the second")
    (errand,) = party.publisher.errands
    ids = {one.destination_registry: one.id for one in chain.world.copies(execution)}
    assert errand.follower == ids["second"]
    chain.registries["second"].faults.clear()
    assert ahead.place_ahead(party.engine, errand) == "placed"
    chain.world.run_to_end(execution, party)
    assert chain.lacks(image) == []
    assert sent(chain, image)[0] == 1


def test_a_registry_that_takes_pieces_only_is_sent_an_errand(chain: Chain) -> None:
    """What breaks off could not be gone on with: the bytes are gone."""
    image = push(chain)
    registries = chain.world.services.registries
    pieces = CapabilityOverrides(uploads="chunked", chunk_bytes=1 << 20)
    second = replace(registries.get("second").endpoint, capabilities=pieces)
    registries.put(second, document={})
    execution = chain.plan()
    party = chain.world.party()

    step(chain, party)

    wait_until(lambda: has_large(chain, image, "third"), 20, "the blob at the third")
    assert not has_large(chain, image, "second")
    wait_until(lambda: party.publisher.errands, 20, "an errand for the second")
    (errand,) = party.publisher.errands
    assert ahead.place_ahead(party.engine, errand) == "placed"
    chain.world.run_to_end(execution, party)
    assert chain.lacks(image) == []
    assert sent(chain, image)[0] == 1


def test_a_registry_that_hangs_holds_nobody_up(chain: Chain) -> None:
    """What its feed cannot hold is dropped, and the others' copies go on."""
    layer = some_bytes("huge", 3 * HELD_BYTES)
    image = chain.world.push("team/app", "v1", [layer])
    execution = chain.plan()
    gate = threading.Event()
    fault = chain.registries["second"].fault("/blobs/uploads/", hold=gate, times=FOREVER)
    party = chain.world.party()

    step(chain, party)

    assert fault.fired
    assert chain.state_of(execution)["first"] == CopyState.COPIED
    wait_until(lambda: has_large(chain, image, "third"), 20, "the blob at the third")
    assert not has_large(chain, image, "second")
    gate.set()
    chain.registries["second"].faults.clear()
    wait_until(lambda: party.publisher.errands, 20, "the errand to the registry that hung")
    assert ahead.place_ahead(party.engine, party.publisher.errands[0]) == "placed"
    chain.world.run_to_end(execution, party)
    assert chain.lacks(image) == []


def test_who_is_fed_ends_with_its_reader(chain: Chain) -> None:
    image = push(chain)
    execution = chain.plan()
    chain.world.east.storage.flip_byte(image.layers[0])
    party = chain.world.party()

    step(chain, party)

    wait_until(lambda: not alongs(), 20, "the end of what went along")
    assert not any(has_large(chain, image, name) for name in NAMES)
    redis = chain.world.redis.client()
    assert list(redis.scan_iter("transship:ahead:*")) == [], "nobody waits for it"
    opened = [one.storage for one in chain.registries.values()]
    wait_until(lambda: not any(one.open_uploads for one in opened), 20, "the uploads' end")
    assert chain.state_of(execution)["first"] != CopyState.COPIED


def test_a_border_drawn_meanwhile_is_not_crossed_along(chain: Chain) -> None:
    image = push(chain)
    chain.plan()
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

    step(chain, chain.world.party())

    assert has_large(chain, image, "first")
    wait_until(lambda: not alongs(), 20, "the end of what went along")
    assert not any(has_large(chain, image, name) for name in NAMES[1:])


def test_a_copy_that_has_ended_is_not_fed(chain: Chain) -> None:
    image = push(chain)
    chain.plan()
    chain.world.services.database.write(
        lambda c: c.execute(
            update(copies)
            .where(copies.c.destination_registry == "third")
            .values(state=CopyState.STOPPED)
        )
    )

    step(chain, chain.world.party())

    wait_until(lambda: has_large(chain, image, "second"), 20, "the blob at the second")
    wait_until(lambda: not alongs(), 20, "the end of what went along")
    assert not has_large(chain, image, "third")
