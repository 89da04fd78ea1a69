"""The account that a far region gives of the copies that it was lent (docs/adr/0017)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from service.errors import NetworkError
from service.model.region import Region
from service.model.states import CopyState
from service.replication.examine import carry_out
from service.store.examinations import Question
from service.store.tables import (
    copies,
    executions,
)
from service.store.tables_agents import lender, lent_copies
from service.store.tables_governance import audit
from tests.integration.engine.databases import on_both_databases
from tests.integration.engine.lent import REGION, FarRegion, fleet, silent, sums
from tests.support.world import World, some_bytes

pytestmark = on_both_databases


def test_home_knows_what_the_region_did(world: World, far: FarRegion) -> None:
    execution = fleet(world, 10)
    before = len(list(world.east.log)) + len(list(world.west.log))

    far.run_to_end(execution)

    sent = len(list(world.east.log)) + len(list(world.west.log)) - before
    assert world.states(execution) == [CopyState.COPIED] * 10
    requests, over_links, by_copies = sums(world, execution)
    manifest = world.east.storage.manifest("team/app", "v0")
    assert manifest is not None
    config = int(json.loads(manifest.raw)["config"]["size"])  # the same of all
    assert by_copies == over_links == 10 * 2000 + config
    assert requests >= sent, "those of the planning are among them"
    with far.services.database.read() as connection:
        assert connection.execute(select(copies.c.id)).first() is None
        assert connection.execute(select(lent_copies)).first() is None


def test_a_batch_whose_answer_is_lost_counts_once(world: World, far: FarRegion) -> None:
    execution = fleet(world, 2)
    far.step()
    assert far.work() == 2
    far.line.lose_answers = "outcomes"
    with pytest.raises(NetworkError):
        far.step()
    once = sums(world, execution)
    assert once[1] > 4000
    assert world.states(execution) == [CopyState.COPIED] * 2

    far.line.lose_answers = ""
    far.agent = far.restarted()
    far.step()

    assert far.line.batches[0] == far.line.batches[1], "what was sent is sent again as it was"
    assert sums(world, execution) == once
    assert far.services.borrowing.held() == []


def test_what_ends_meanwhile_is_in_the_next_batch(world: World, far: FarRegion) -> None:
    execution = fleet(world, 2)
    far.step()
    store = far.services.dispatching
    first, second = store.dispatch(store.eligible(REGION, 10))
    far.party.replicate(first)
    far.line.lose_answers = "outcomes"
    with pytest.raises(NetworkError):
        far.step()
    far.party.replicate(second)
    far.line.lose_answers = ""

    far.step()

    assert [len(batch["outcomes"]) for batch in far.line.batches] == [1, 1, 1]
    assert world.states(execution) == [CopyState.COPIED] * 2


def test_late_outcomes_of_what_was_taken_back_change_nothing(world: World, far: FarRegion) -> None:
    execution = fleet(world, 1)
    far.step()
    far.work()
    silent(world)

    far.slots = 0
    far.step()

    assert world.states(execution) == [CopyState.PENDING]
    assert far.services.borrowing.held() == []


def test_a_batch_that_home_does_not_take_is_told_in_pieces(world: World, far: FarRegion) -> None:
    execution = fleet(world, 4)
    far.step()
    assert far.work() == 4
    far.line.most_outcomes = 1

    for _ in range(6):
        far.step()

    assert world.states(execution) == [CopyState.COPIED] * 4
    assert far.services.borrowing.held() == []


def test_who_does_not_lead_any_more_forgets_nothing(world: World, far: FarRegion) -> None:
    fleet(world, 1)
    far.step()
    far.work()
    far.leads = False

    far.step()

    assert not far.services.borrowing.account().is_empty
    assert len(far.services.borrowing.held()) == 1
    far.leads = True
    far.step()
    assert far.services.borrowing.account().is_empty


def test_a_folder_of_an_earlier_day_goes_on_from_homes_number(world: World, far: FarRegion) -> None:
    execution = fleet(world, 1)
    far.run_to_end(execution)
    far.services.database.write(lambda c: c.execute(update(lender).values(number=0, batch="")))

    world.push("team/new", "v1", [some_bytes("new", 10)])
    other = world.plan("team/new", rule="new")
    far.run_to_end(other)
    far.step()

    assert world.states(other) == [CopyState.COPIED]
    assert far.services.borrowing.account().is_empty


def test_executions_end_at_home_alone(world: World, far: FarRegion) -> None:
    execution = fleet(world, 2)
    far.step()
    drive = far.services.drive(far.party.publisher, plans=False, ends=False)
    far.work()

    for _ in range(3):
        drive._next_look = 0.0
        drive.step()
    with far.services.database.read() as connection:
        assert connection.execute(select(executions.c.state)).scalars().all() == ["running"]

    far.step()
    far.step()
    assert world.states(execution) == [CopyState.COPIED] * 2
    with far.services.database.read() as connection:
        assert connection.execute(select(executions.c.state)).first() is None


def test_crossings_are_in_the_log_at_home_once(world: World, far: FarRegion) -> None:
    services = world.services
    services.regions.put(Region(REGION, "cn"), document={"name": REGION})
    services.regions.put(Region("local", "eu"), document={"name": "local"})
    execution = fleet(world, 2)
    far.step()
    far.work()
    far.line.lose_answers = "outcomes"
    with pytest.raises(NetworkError):
        far.step()
    far.line.lose_answers = ""

    far.run_to_end(execution)

    with services.database.read() as connection:
        rows = connection.execute(
            select(audit.c.actor, audit.c.after).where(audit.c.action == "cross")
        ).all()
    assert len(rows) == 2
    assert {row.actor for row in rows} == {"rule fleet"}
    assert all('"to":"cn"' in row.after for row in rows)
    assert services.audit.verify().broken is None


def test_long_reasons_are_told_in_several_batches(world: World, far: FarRegion) -> None:
    fleet(world, 30)
    far.slots = 64
    far.step()
    values = {"state": CopyState.FAILED, "reason": "x" * 50_000}
    far.services.database.write(lambda c: c.execute(update(copies).values(**values)))

    far.step()

    sizes = [len(json.dumps(batch)) for batch in far.line.batches]
    assert len(sizes) == 3
    assert max(sizes) < 400_000
    assert far.services.borrowing.held() == []


def test_an_examination_is_carried_out_in_the_region(world: World, far: FarRegion) -> None:
    store = world.services.examinations
    asked = store.ask(Question("west", "scratch", write=True), REGION, seconds=60)
    late = store.ask(Question("west", "scratch", write=True), REGION, seconds=-1)
    far.step()
    assert far.examined == [asked.id]
    services = far.services

    assert carry_out(services.examinations, services.clients, asked.id, services.boot)
    far.line.lose_answers = "outcomes"
    with pytest.raises(NetworkError):
        far.step()
    far.line.lose_answers = ""
    far.step()

    answer = store.get(asked.id)
    assert (answer.state, len(answer.findings) > 5) == ("ended", True)
    assert store.get(late.id).state == "expired"
    assert services.borrowing.account().is_empty
    far.step()
    assert services.registries.list() == []


def test_an_examination_of_a_registry_that_cannot_be_told_says_why(
    world: World, far: FarRegion
) -> None:
    services = world.services
    west = services.registries.get("west").endpoint
    spec = replace(west.credentials, secret="gone")
    services.registries.put(replace(west, credentials=spec), document={})
    asked = services.examinations.ask(Question("west", "scratch", write=True), REGION, seconds=60)

    far.step()

    answer = services.examinations.get(asked.id)
    assert (answer.state, far.examined) == ("failed", [])
    assert "there is no secret named gone" in answer.reason
    assert "transship secrets set gone" in answer.hint
