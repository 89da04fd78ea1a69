"""Where an image is, from SQL: every state, one row a registry, and few queries for many registries."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import Engine, delete, event

from api.samples.faults import FaultRule
from service.errors import NotFoundInStore
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, SyncRule
from service.replication.locate import Location, LocationState
from service.store.tables import written_tags
from tests.support.many_places import ManyPlaces
from tests.support.world import World, a_rule, some_bytes

LAYER = some_bytes("layer", 3000)


def saved(world: World, **changes: object) -> SyncRule:
    rule = replace(a_rule("team/app"), **changes)  # type: ignore[arg-type]
    world.services.rules.put(rule, document={})
    return rule


def row(world: World, registry: str = "west", **options: object) -> Location:
    found = world.services.locator.locate("team/app", "v1", **options)  # type: ignore[arg-type]
    return next(one for one in found if one.registry == registry)


def test_each_state_has_its_row_and_its_reason(world: World) -> None:
    services = world.services
    services.registries.put(RegistryEndpoint("aside", world.east.url), document={})
    image = world.push("team/app", "v1", [LAYER])
    rule = saved(world)

    assert row(world).state is LocationState.UNKNOWN
    assert row(world, "east").state is LocationState.SOURCE
    assert row(world, "aside").state is LocationState.NOT_WANTED
    execution = services.executions.create(rule, trigger="test").id
    assert services.planner.plan(execution, services.boot)
    assert (row(world).state, row(world).why) == (LocationState.COPYING, f"execution {execution}")
    services.pauses.pause_registry("west")
    assert (row(world).state, row(world).why) == (LocationState.BLOCKED, "registry west is paused")
    services.pauses.resume_registry("west")
    world.run_to_end(execution, world.party())
    services.dispatching.end_executions()
    found = row(world)
    assert (found.state, found.digest) == (LocationState.WHOLE, image.digest)
    assert (found.repository, found.reference, found.rule) == ("mirror/team/app", "v1", "fleet")
    other = f"sha256:{'1' * 64}"
    assert row(world, digest=other).state is LocationState.STALE


def test_a_failure_blocks_until_a_later_run_of_the_whole_rule_succeeds(world: World) -> None:
    world.push("team/app", "v1", [LAYER])
    rule = saved(world)
    world.west.faults.add(FaultRule(method="POST", status=403, times=99))
    execution = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)
    world.run_to_end(execution, world.party())
    world.services.dispatching.end_executions()

    blocked = row(world)
    assert blocked.state is LocationState.BLOCKED
    assert blocked.why
    world.west.faults.clear()
    again = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(again, world.services.boot)
    world.run_to_end(again, world.party())
    assert row(world).state is LocationState.WHOLE


def test_proof_asks_and_names_what_is_lost(world: World) -> None:
    image = world.push("team/app", "v1", [LAYER])
    rule = saved(world)
    missing = row(world, prove=True)
    assert (missing.state, missing.why) == (LocationState.STALE, "there is no such tag")
    execution = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)
    world.run_to_end(execution, world.party())
    assert row(world, prove=True).state is LocationState.WHOLE

    world.west.storage.collect_blob(image.layers[0])

    assert row(world).state is LocationState.WHOLE  # as far as SQL knows
    lost = row(world, prove=True)
    assert lost.state is LocationState.HOLE
    assert image.layers[0] in lost.why
    world.west.faults.add(FaultRule(path="/v2/mirror/", status=403, times=99))
    assert row(world, prove=True).state is LocationState.BLOCKED


def test_a_registry_that_is_not_there_is_an_error(world: World) -> None:
    saved(world)
    with pytest.raises(NotFoundInStore, match="nobody"):
        world.services.locator.locate("team/app", "v1", only=["nobody"])


def test_forty_registries_cost_as_many_queries_as_one(world: World) -> None:
    services = world.services
    counts = []
    for number in (1, 40):
        for name in range(number):
            endpoint = RegistryEndpoint(f"r{name:02}", world.west.url, groups=("prod",))
            services.registries.put(endpoint, document={})
        rule = replace(
            a_rule("team/app"),
            destinations=(Destination(group="prod", repository="mirror/{repository}"),),
        )
        services.rules.put(rule, document={})
        statements: list[str] = []

        def note(_c: object, _r: object, statement: str, *_: object) -> None:
            statements.append(statement)  # noqa: B023 - taken off before the next turn

        event.listen(Engine, "before_cursor_execute", note)
        found = services.locator.locate("team/app", "v1")
        event.remove(Engine, "before_cursor_execute", note)
        assert len([one for one in found if one.registry.startswith("r")]) == number
        counts.append(len(statements))

    assert counts[0] == counts[1]


def test_every_place_is_answered_however_much_is_known_of_the_others(world: World) -> None:
    """80,000 rows of 40 registries; what was copied last to one of them is older than the rest."""
    services = world.services
    places = ManyPlaces(registries=40, tags=2000)
    places.fill(services)
    for number in range(25):  # younger rows of the other 39 places of this tag
        services.database.write(partial(places.again, beside="r00", tag="v7", number=number))
    services.database.write(
        lambda connection: connection.execute(
            delete(written_tags).where(written_tags.c.registry == "r00")
        )
    )
    statements: list[str] = []

    def note(_c: object, _r: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    began = time.perf_counter()
    found = services.locator.locate("team/app", "v7")
    print(f"where took {1000 * (time.perf_counter() - began):.1f} ms")
    event.remove(Engine, "before_cursor_execute", note)

    asked = [one for one in statements if one.lstrip().startswith("SELECT")]
    assert len(asked) == 7
    digests = {one.registry: one.digest for one in found if one.registry.startswith("r")}
    assert len(digests) == 40
    assert {one.state for one in found} >= {LocationState.SOURCE, LocationState.STALE}
    assert digests["r00"] == f"sha256:{0:064x}"
    assert {digest for name, digest in digests.items() if name != "r00"} == {f"sha256:{24:064x}"}
