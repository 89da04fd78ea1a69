"""No byte goes where its rule does not take it, whoever wrote what into SQL, and whoever is alive."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from service.model.borders import Borders
from service.model.endpoint import RegistryEndpoint
from service.model.region import Region
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.states import CopyState, ExecutionState
from service.model.work import CopyRef, ProcessReport
from service.replication.dispatch import Dispatcher
from service.store import codec
from service.store.tables import copies, executions, processes, registries
from service.store.tables_governance import audit
from tests.integration.engine.databases import on_both_databases
from tests.support.world import Party, RecordingPublisher, World, some_bytes

pytestmark = on_both_databases

LAYERS = [some_bytes("one", 50_000)]


def draw(world: World, east: str, west: str, **jurisdictions: str | None) -> None:
    """Declare regions, and put the two registries into some."""
    for name, jurisdiction in jurisdictions.items():
        world.services.regions.put(Region(name, jurisdiction), document={"name": name})
    for name, registry, region in (("east", world.east, east), ("west", world.west, west)):
        world.services.registries.put(
            RegistryEndpoint(name, registry.url, region=region, groups=("all",)), document={}
        )


def make(world: World, destination: Destination) -> str:
    rule = SyncRule(
        "fleet", "east", (Selection(NameFilter(("team/*",))),), (destination,), referrers=False
    )
    return world.services.executions.create(rule, trigger="test").id


NAMED = Destination(registry="west", repository="mirror/{repository}")
NAMED_ELSEWHERE = Destination(registry="elsewhere")
GROUP = Destination(group="all", repository="mirror/{repository}")


def send(world: World, execution: str) -> list[CopyRef]:
    store = world.services.dispatching
    with world.services.database.read() as connection:
        region = connection.execute(
            select(copies.c.region).where(copies.c.execution_id == execution)
        ).scalar_one()
    return store.dispatch(store.eligible(region, 100))


def party_in(world: World, region: str) -> Party:
    return world.party(region=region)


def moved(world: World) -> list[str]:
    """What was asked of the source for its content, and written at the destination."""
    reads = [
        line.path
        for line in list(world.east.log)
        if line.method == "GET" and ("/blobs/" in line.path or "/manifests/" in line.path)
    ]
    writes = [line.path for line in list(world.west.log) if line.method in ("PUT", "POST", "PATCH")]
    return reads + writes


def test_a_group_across_a_border_is_refused_when_it_is_planned(world: World) -> None:
    draw(world, "eu", "us", eu="eu", us="us")
    world.push("team/app", "v1", LAYERS)
    execution = make(world, GROUP)

    assert party_in(world, "eu").services.planner.plan(execution, "boot")

    world.services.dispatching.end_executions()
    record = world.services.executions.get(execution)
    assert (record.state, record.failure_class) == (ExecutionState.FAILED, "policy")
    assert "west of group all is in us, and east in eu" in record.reason
    assert moved(world) == []


def illegal_spec(world: World, execution: str) -> None:
    """The rule behind the execution names a group now."""
    spec = codec.dump(SyncRule("fleet", "east", (Selection(NameFilter(("team/*",))),), (GROUP,)))
    change = update(executions).where(executions.c.id == execution).values(spec=spec)
    world.services.database.write(lambda connection: connection.execute(change))


def replicating(world: World, execution: str) -> None:
    """The rule behind the execution replicates now."""
    rule = SyncRule(
        "fleet", "east", (Selection(NameFilter(("team/*",))),), (NAMED,), mode="replicate"
    )
    change = update(executions).where(executions.c.id == execution).values(spec=codec.dump(rule))
    world.services.database.write(lambda connection: connection.execute(change))


def another_region(world: World, _execution: str) -> None:
    """The destination is found to be abroad, and no rule names it."""
    text = codec.dump(RegistryEndpoint("west", world.west.url, region="us", groups=("all",)))
    change = update(registries).where(registries.c.name == "west")
    values = {"endpoint": text, "version": registries.c.version + 1}
    world.services.database.write(lambda connection: connection.execute(change.values(**values)))


@pytest.mark.parametrize(
    ("destination", "at", "behind_our_back"),
    [(NAMED, "us", illegal_spec), (NAMED, "us", replicating), (GROUP, "eu", another_region)],
    ids=["group", "replicate", "registry"],
)
def test_what_was_made_illegal_in_sql_moves_no_byte(
    world: World, destination: Destination, at: str, behind_our_back: Callable[[World, str], None]
) -> None:
    draw(world, "eu", at, eu="eu", us="us")
    world.push("team/app", "v1", LAYERS)
    execution = make(world, destination)
    assert party_in(world, "eu").services.planner.plan(execution, "boot")
    refs = send(world, execution)
    before = moved(world)
    behind_our_back(world, execution)

    party_in(world, "eu").replicate(*refs)

    (copy,) = world.copies(execution)
    assert (copy.state, copy.failure_class) == (CopyState.FAILED, "policy")
    assert moved(world) == before


def test_a_worker_of_a_third_jurisdiction_touches_nothing(world: World) -> None:
    draw(world, "eu", "us", eu="eu", us="us", cn="cn")
    image = world.push("team/app", "v1", LAYERS)
    execution = make(world, NAMED)
    stranger = party_in(world, "cn")

    assert stranger.services.planner.plan(execution, "boot")

    record = world.services.executions.get(execution)
    assert not record.planned
    assert "a worker of region cn (cn) may not touch what is of eu and us" in record.reason
    assert moved(world) == []
    assert list(world.east.log) == []

    later = update(executions).values(not_before=0)
    world.services.database.write(lambda connection: connection.execute(later))
    native = party_in(world, "us")
    assert native.services.planner.plan(execution, "boot")
    refs = send(world, execution)
    before = moved(world)
    stranger.replicate(*refs)
    (copy,) = world.copies(execution)
    assert (copy.state, copy.failure_class) == (CopyState.PENDING, "region")
    assert moved(world) == before

    now = update(copies).values(not_before=0)
    world.services.database.write(lambda connection: connection.execute(now))
    native.replicate(*send(world, execution))
    assert world.states(execution) == [CopyState.COPIED]
    assert world.is_whole(image)


def test_each_crossing_is_in_the_audit_log(world: World) -> None:
    draw(world, "eu", "us", eu="eu", us="us")
    image = world.push("team/app", "v1", LAYERS)
    execution = make(world, NAMED)
    party = party_in(world, "us")
    assert party.services.planner.plan(execution, "boot")

    party.replicate(*send(world, execution))

    with world.services.database.read() as connection:
        (row,) = connection.execute(select(audit).where(audit.c.action == "cross")).all()
    told = json.loads(row.after)
    assert (row.actor, row.name) == ("rule fleet", "west/mirror/team/app:v1")
    assert (told["from"], told["to"], told["digest"]) == ("eu", "us", image.digest)
    assert told["bytes"] > len(LAYERS[0])
    assert told["read_at"] == "east"


def test_inside_a_jurisdiction_nothing_is_told(world: World) -> None:
    draw(world, "eu-1", "eu-2", **{"eu-1": "eu", "eu-2": "eu"})
    world.push("team/app", "v1", LAYERS)
    execution = make(world, GROUP)
    party = party_in(world, "eu-2")
    assert party.services.planner.plan(execution, "boot")

    party.replicate(*send(world, execution))

    assert world.states(execution) == [CopyState.COPIED]
    with world.services.database.read() as connection:
        assert connection.execute(select(audit)).all() == []


# ---- who is sent what -----------------------------------------------------------------------------


def dispatcher(world: World, publisher: RecordingPublisher, **jurisdictions: str) -> Dispatcher:
    return Dispatcher(
        world.settings,
        world.services.dispatching,
        publisher,
        borders=lambda: Borders(jurisdictions),
        region_of=world.services.guard.region_of,
    )


def alive(world: World, *regions: str) -> None:
    for region in regions:
        report = ProcessReport(f"worker-{region}", "worker", region, 4, "host", 1)
        world.services.state.heartbeat(report)


def planned(world: World, region: str) -> str:
    world.push("team/app", "v1", LAYERS)
    execution = make(world, NAMED)
    assert party_in(world, region).services.planner.plan(execution, "boot")
    return execution


def test_workers_of_the_same_jurisdiction_stand_in(world: World) -> None:
    draw(world, "eu-1", "eu-1", **{"eu-1": "eu", "eu-2": "eu", "us": "us"})
    execution = planned(world, "eu-1")
    alive(world, "eu-2", "us")
    publisher = RecordingPublisher()

    sent = dispatcher(world, publisher, **{"eu-1": "eu", "eu-2": "eu", "us": "us"}).fill_windows()

    assert sent == 1
    assert publisher.regions == ["eu-2"]
    with world.services.database.read() as connection:
        query = select(copies.c.region).where(copies.c.execution_id == execution)
        assert connection.execute(query).scalar_one() == "eu-2"


def test_nobody_of_another_jurisdiction_does(world: World) -> None:
    draw(world, "eu-1", "eu-1", **{"eu-1": "eu", "us": "us"})
    execution = planned(world, "eu-1")
    alive(world, "us")
    publisher = RecordingPublisher()

    assert dispatcher(world, publisher, **{"eu-1": "eu", "us": "us"}).fill_windows() == 0

    assert publisher.pages == []
    assert world.states(execution) == [CopyState.PENDING]


def test_a_region_is_unserved_only_while_others_are_not(world: World) -> None:
    draw(world, "eu-1", "eu-1", **{"eu-1": "eu", "us": "us"})
    planned(world, "eu-1")
    gone = update(processes).values(seen_at=0)
    world.services.database.write(lambda connection: connection.execute(gone))
    sends = dispatcher(world, RecordingPublisher(), **{"eu-1": "eu", "us": "us"})
    assert sends.unserved() == frozenset()

    alive(world, "us")
    assert sends.unserved() == {"eu-1"}

    alive(world, "eu-1")
    assert sends.unserved() == frozenset()


def test_plannings_go_where_the_rule_is(world: World) -> None:
    draw(world, "eu", "eu", eu="eu", us="us")
    execution = make(world, NAMED)
    alive(world, "us")
    publisher = RecordingPublisher()
    sends = dispatcher(world, publisher, eu="eu", us="us")

    assert sends.send_plans() == 0
    reason = world.services.executions.get(execution).reason
    assert reason == "no worker is alive in eu, and no other may look at its images"

    later = update(executions).values(not_before=0)
    world.services.database.write(lambda connection: connection.execute(later))
    alive(world, "eu")
    assert sends.send_plans() == 1
    assert publisher.plans == [execution]
    assert publisher.regions == ["eu"]


def test_whoever_plans_a_rule_without_registries_says_so(world: World) -> None:
    draw(world, "eu", "eu", eu="eu")
    rule = SyncRule(
        "gone",
        "nowhere",
        (Selection(NameFilter(("team/*",))),),
        (NAMED_ELSEWHERE,),
        referrers=False,
    )
    execution = world.services.executions.create(rule, trigger="test").id
    alive(world, "eu")
    publisher = RecordingPublisher()

    assert dispatcher(world, publisher, eu="eu").send_plans() == 1

    assert (publisher.plans, publisher.regions) == ([execution], [None])
