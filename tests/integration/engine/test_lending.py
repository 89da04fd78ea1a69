"""Copies lent to a far region (docs/adr/0017)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from api.schemas.agent import AccountSchema
from service.errors import Conflict, NetworkError
from service.model.states import CopyState
from service.replication.dispatch import Dispatcher
from service.store.copy_details import CopyDetails
from service.store.tables import (
    copies,
    processes,
    registries,
    rules,
)
from service.store.tables_releases import release_tags
from tests.integration.engine.databases import on_both_databases
from tests.integration.engine.lent import REGION, FarRegion, fleet, owners, rule_of, silent
from tests.support.world import World

pytestmark = on_both_databases


def test_two_hundred_copies_cost_home_few_requests(world: World, far: FarRegion) -> None:
    execution = fleet(world, 200)
    far.slots = 64

    far.run_to_end(execution)

    assert set(world.states(execution)) == {CopyState.COPIED}
    assert len(far.line.asked) <= 8, far.line.asked


def test_home_hears_of_attempts_that_failed_there(world: World, far: FarRegion) -> None:
    execution = fleet(world, 1)
    refusal = world.west.fault("/manifests/", method="PUT", status=403)

    far.run_to_end(execution)
    far.step()

    assert refusal.fired
    (copy,) = world.services.executions.copies(execution)
    (there,) = CopyDetails(world.services.database).get(execution, copy.id).attempts
    assert (there.outcome, there.failure_class, there.region) == ("failed", "denied", REGION)
    assert there.worker == far.services.boot
    for batch in far.line.batches:
        AccountSchema().load(json.loads(json.dumps({"agent": "a", **batch})))


def test_what_was_lent_in_a_lost_answer_is_lent_again(world: World, far: FarRegion) -> None:
    execution = fleet(world, 3)
    far.line.lose_answers = "lease"
    with pytest.raises(NetworkError):
        far.step()
    assert world.states(execution) == [CopyState.RUNNING] * 3
    far.line.lose_answers = ""

    far.step()

    assert len(far.services.borrowing.held()) == 3
    far.run_to_end(execution)
    assert world.states(execution) == [CopyState.COPIED] * 3


def test_a_region_that_falls_silent_has_not_crashed(world: World, far: FarRegion) -> None:
    fleet(world, 2)
    far.step()

    silent(world)

    with world.services.database.read() as connection:
        rows = connection.execute(select(copies.c.crashes, copies.c.state, copies.c.owner)).all()
    assert {tuple(row) for row in rows} == {(0, CopyState.PENDING, "")}


def test_what_was_taken_back_is_let_go_of_by_the_region(world: World, far: FarRegion) -> None:
    execution = fleet(world, 1)
    far.step()
    store = far.services.dispatching
    (ref,) = store.dispatch(store.eligible(REGION, 10))
    far.services.state.begin([ref], far.party.engine.boot)
    silent(world)
    assert far.services.state.holds(ref), "the lease is not over yet"

    far.slots = 0
    far.step()

    assert not far.services.state.holds(ref)
    far.slots = 4
    far.run_to_end(execution)
    assert world.states(execution) == [CopyState.COPIED]


def test_nothing_begins_and_no_tag_moves_when_the_lease_is_over(
    world: World, far: FarRegion
) -> None:
    execution = fleet(world, 1)
    far.step()
    dispatcher = far.services.drive(far.party.publisher, plans=False)._dispatcher
    far.services.borrowing.renew(-1.0)

    assert dispatcher.fill_windows() == 0
    assert far.work() == 1  # as a message that was sent before
    assert world.tag_puts("team/app", "v0") == 0
    far.services.borrowing.renew(60.0)
    far.run_to_end(execution)
    assert world.tag_puts("team/app", "v0") == 1


@pytest.mark.parametrize("what", ["rule", "registry", "execution"])
def test_what_is_paused_or_stopped_comes_back(world: World, far: FarRegion, what: str) -> None:
    execution = fleet(world, 2)
    far.step()
    services = world.services
    if what == "execution":
        services.executions.request_stop(execution)
    elif what == "registry":
        services.database.write(
            lambda c: c.execute(
                update(registries).where(registries.c.name == "west").values(paused_at=1.0)
            )
        )
    else:
        saved = services.rules.put(rule_of(services, execution), document={})
        assert saved
        services.database.write(lambda c: c.execute(update(rules).values(paused_at=1.0)))

    far.step()
    far.step()

    assert far.services.borrowing.held() == []
    states = set(world.states(execution))
    assert states == {CopyState.STOPPED if what == "execution" else CopyState.PENDING}
    assert owners(world, execution) == {""}
    assert world.tag_puts("team/app", "v0") == 0


def test_what_a_release_holds_is_not_lent(world: World, far: FarRegion) -> None:
    execution = fleet(world, 2)
    services = world.services
    rule = rule_of(services, execution)
    services.rules.put(rule, document={})
    services.releases.create("held", rule, (), region="local")
    values = {
        "release": "held",
        "source_repository": "team/app",
        "registry": "west",
        "region": REGION,
        "repository": "mirror/team/app",
        "tag": "v1",
        "digest": "sha256:0",
        "state": "flipped",
    }
    services.database.write(lambda c: c.execute(release_tags.insert().values(**values)))

    far.step()

    assert len(far.services.borrowing.held()) == 1
    far.work()
    far.step()
    assert sorted(world.states(execution)) == [CopyState.COPIED, CopyState.SKIPPED]
    reasons = {one.reason for one in world.copies(execution)}
    assert "release held moves this tag, nothing else, until it is deleted" in reasons


def test_a_registry_that_cannot_be_told_fails_its_copies_alone(
    world: World, far: FarRegion
) -> None:
    services = world.services
    bad = services.registries.get("west").endpoint
    spec = replace(bad.credentials, secret="gone")
    services.registries.put(replace(bad, name="bad", credentials=spec), document={})
    execution = fleet(world, 2)
    services.database.write(
        lambda c: c.execute(
            update(copies)
            .where(copies.c.destination_reference == "v0")
            .values(destination_registry="bad")
        )
    )

    far.run_to_end(execution)

    ended = {one.destination_registry: one for one in world.copies(execution)}
    assert (ended["west"].state, ended["bad"].state) == (CopyState.COPIED, CopyState.FAILED)
    assert "gone" in ended["bad"].reason


def test_an_agent_takes_no_other_process_for_itself(world: World, far: FarRegion) -> None:
    execution = fleet(world, 1)
    worker = world.party()
    (ref,) = world.services.dispatching.dispatch(world.services.dispatching.eligible(REGION, 9))
    worker.services.state.begin([ref], worker.services.boot)
    lending = world.services.lending
    wish: dict[str, Any] = {"slots": 1, "host": "h", "room": 0, "held": []}

    with pytest.raises(Conflict, match="is another process"):
        lending.lease(REGION, worker.services.boot, **wish)
    far.step()
    with pytest.raises(Conflict, match="is another process"):
        lending.lease("elsewhere", far.services.borrowing.identity(), **wish)

    assert owners(world, execution) == {worker.services.boot}


def test_what_was_sent_before_the_region_had_an_agent_is_lent(world: World, far: FarRegion) -> None:
    execution = fleet(world, 2)
    store = world.services.dispatching
    store.dispatch(store.eligible(REGION, 9))
    far.step()
    assert far.services.borrowing.held() == [], "their messages may be on their way yet"
    world.services.database.write(lambda c: c.execute(update(copies).values(updated_at=1.0)))

    far.run_to_end(execution)

    assert world.states(execution) == [CopyState.COPIED] * 2


def test_registries_that_no_copy_needs_are_forgotten(world: World, far: FarRegion) -> None:
    execution = fleet(world, 1)
    far.step()

    def known() -> set[str]:
        with far.services.database.read() as connection:
            return set(connection.execute(select(registries.c.name)).scalars())

    assert known() == {"east", "west"}
    far.run_to_end(execution)
    far.step()
    far.step()
    assert known() == set()


def test_suspects_are_lent_one_at_a_time(world: World, far: FarRegion) -> None:
    execution = fleet(world, 3)
    world.services.database.write(
        lambda c: c.execute(update(copies).values(suspect=True, crashes=2))
    )

    lent = []
    for _ in range(8):
        far.step()
        lent.append(len(far.services.borrowing.held()))
        store = far.services.dispatching
        for ref in store.dispatch(store.eligible(REGION, 9, suspect=True)):
            far.party.replicate(ref)

    assert max(lent) == 1
    assert world.states(execution) == [CopyState.COPIED] * 3


def test_home_sends_no_messages_where_an_agent_lives(world: World, far: FarRegion) -> None:
    far.slots = 0
    far.step()
    fleet(world, 2)
    party = world.party()
    dispatcher = Dispatcher(world.settings, world.services.dispatching, party.publisher)

    assert dispatcher.fill_windows() == 0
    assert dispatcher.unserved() == frozenset()

    world.services.database.write(lambda c: c.execute(delete(processes)))
    assert world.services.dispatching.attended() == frozenset()
