"""Copies lent to a far region, and the account that it gives of them (docs/adr/0017)."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from service.bootstrap import Services
from service.errors import Conflict, InvalidInput, NetworkError
from service.model.endpoint import RegistryEndpoint
from service.model.region import Region
from service.model.states import CopyState
from service.replication.agent import Agent
from service.replication.dispatch import Dispatcher
from service.replication.examine import carry_out
from service.store.examinations import Question
from service.store.keyring import write_new_key
from service.store.processes import AGENT
from service.store.schema import create_or_upgrade
from service.store.tables import (
    copies,
    execution_requests,
    executions,
    processes,
    registries,
    rules,
)
from service.store.tables_agents import lender, lent_copies
from service.store.tables_governance import audit
from service.store.tables_regions import execution_links
from service.store.tables_releases import release_tags
from tests.integration.engine.databases import on_both_databases
from tests.support.world import Party, RecordingPublisher, World, some_bytes

pytestmark = on_both_databases

REGION = "far"


@dataclass
class Line:
    """The line to home: both ways may lose what goes over it."""

    home: Services
    lose_answers: str = ""  # to questions of this kind
    most_outcomes: int = 1000
    asked: list[str] = field(default_factory=list)
    batches: list[dict[str, Any]] = field(default_factory=list)

    def lease(self, wish: dict[str, Any]) -> dict[str, Any]:
        held = [(one, fence) for one, fence in wish["held"]]
        others = {name: wish[name] for name in ("slots", "host", "room")}
        found: dict[str, Any] = self._over(
            "lease", lambda: self.home.lending.lease(REGION, wish["agent"], held=held, **others)
        )
        return found

    def record(self, batch: dict[str, Any]) -> int:
        self.batches.append(copy.deepcopy(batch))
        if len(batch["outcomes"]) > self.most_outcomes:
            raise InvalidInput("too much")
        number: int = self._over(
            "outcomes",
            lambda: self.home.lending.record(REGION, batch["agent"], batch["number"], batch),
        )
        return number

    def _over(self, what: str, ask: Any) -> Any:
        self.asked.append(what)
        answer = ask()
        if self.lose_answers == what:
            raise NetworkError("the answer was lost")
        return answer


class FarRegion:
    """A region with a database of its own, whose tasks are carried out when a test says so."""

    def __init__(self, world: World) -> None:
        self.world = world
        folder = world.folder / "far"
        folder.mkdir()
        write_new_key(folder / "keys")
        settings = replace(
            world.settings,
            region=REGION,
            database_url=f"sqlite:///{folder}/region.db",
            redis_url=world.redis.url.replace("db=0", "db=1"),
            secret_key_file=str(folder / "keys"),
            agent_dir=str(folder),
        )
        self.services = world.open(settings)
        create_or_upgrade(self.services.database)
        self.party = Party(self.services, RecordingPublisher())
        self.line = Line(world.services)
        self.slots = 4
        self.now = 0.0
        self.leads = True
        self.examined: list[str] = []
        self.agent = self.restarted()

    def restarted(self) -> Agent:
        """An agent that knows what the database knows."""
        return Agent(
            self.services.borrowing,
            self.line,
            lambda: self.slots,
            lambda: self.leads,
            examine=self.examined.append,
            tags_per_task=2,
            clock=lambda: self.now,
        )

    def step(self) -> None:
        """A step of the agent for which everything is due."""
        self.now += 1000.0
        self.agent.step()

    def work(self) -> int:
        """Carry out what there is; how many copies that were."""
        store = self.services.dispatching
        refs = store.dispatch(store.eligible(REGION, 1000))
        for ref in refs:
            self.party.replicate(ref)
        return len(refs)

    def run_to_end(self, execution: str) -> None:
        for _ in range(50):
            self.step()
            self.work()
            if all(state.ended for state in self.world.states(execution)):
                return
        raise AssertionError(self.world.states(execution))


@pytest.fixture
def far(world: World) -> FarRegion:
    services = world.services
    services.regions.put(Region(REGION), document={"name": REGION})
    west = services.registries.get("west").endpoint
    services.registries.put(replace(west, region=REGION), document={})
    services.registries.put(RegistryEndpoint("other", "https://other.example"), document={})
    return FarRegion(world)


def fleet(world: World, count: int) -> str:
    for number in range(count):
        world.push("team/app", f"v{number}", [some_bytes(f"layer {number}", 2000)])
    return world.plan("team/app")


def sums(world: World, execution: str) -> tuple[int, int, int]:
    """Requests, bytes by ways and bytes by copies, as home has them."""
    queries = (
        select(execution_requests.c.requests).where(execution_requests.c.execution_id == execution),
        select(execution_links.c.bytes).where(execution_links.c.execution_id == execution),
        select(copies.c.bytes_copied).where(copies.c.execution_id == execution),
    )
    with world.services.database.read() as connection:
        found = [sum(connection.execute(query).scalars()) for query in queries]
    return found[0], found[1], found[2]


def owners(world: World, execution: str) -> set[str]:
    with world.services.database.read() as connection:
        query = select(copies.c.owner).where(copies.c.execution_id == execution)
        return set(connection.execute(query).scalars())


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


def test_two_hundred_copies_cost_home_few_requests(world: World, far: FarRegion) -> None:
    execution = fleet(world, 200)
    far.slots = 64

    far.run_to_end(execution)

    assert set(world.states(execution)) == {CopyState.COPIED}
    assert len(far.line.asked) <= 8, far.line.asked


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


def silent(world: World) -> None:
    """Have the agent not been heard of for long."""
    world.services.database.write(
        lambda c: c.execute(update(processes).where(processes.c.kind == AGENT).values(seen_at=0))
    )
    world.services.dispatching.recover_dead(max_crashes=3)


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


def test_late_outcomes_of_what_was_taken_back_change_nothing(world: World, far: FarRegion) -> None:
    execution = fleet(world, 1)
    far.step()
    far.work()
    silent(world)

    far.slots = 0
    far.step()

    assert world.states(execution) == [CopyState.PENDING]
    assert far.services.borrowing.held() == []


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


def rule_of(services: Services, execution: str) -> Any:
    return services.dispatching.specs([execution])[execution]


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


def test_what_was_sent_before_the_region_had_an_agent_is_lent(world: World, far: FarRegion) -> None:
    execution = fleet(world, 2)
    store = world.services.dispatching
    store.dispatch(store.eligible(REGION, 9))
    far.step()
    assert far.services.borrowing.held() == [], "their messages may be on their way yet"
    world.services.database.write(lambda c: c.execute(update(copies).values(updated_at=1.0)))

    far.run_to_end(execution)

    assert world.states(execution) == [CopyState.COPIED] * 2


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
