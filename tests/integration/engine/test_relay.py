"""What we commit at a registry starts the rules that go on from there, unless the registry tells itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, insert

from api.samples.registry import SampleRegistry
from api.schemas.rule import load_rule
from service.bootstrap import Services
from service.model.endpoint import RegistryEndpoint
from service.model.events.values import Action, Delivery, RegistryEvent
from service.model.rule import SyncRule
from service.model.states import CopyState
from service.store.creation import insert_tags
from service.store.events import EventStore
from service.store.tables_events import hooks
from tests.integration.engine.databases import on_both_databases
from tests.support.content import push_image
from tests.support.planning import finish
from tests.support.processes import wait_until
from tests.support.world import World


@dataclass
class Chain:
    """East to west by one rule, and on from west to a third registry by another."""

    world: World

    @property
    def services(self) -> Services:
        return self.world.services

    def rule(
        self,
        name: str,
        source: str,
        destination: str,
        *,
        event: bool = True,
        takes: str = "app",
        to: str = "{repository}",
    ) -> None:
        document = {
            "name": name,
            "source": source,
            "select": [{"repositories": [takes]}],
            "destinations": [{"registry": destination, "repository": to}],
            "trigger": {"event": event},
        }
        self.services.rules.put(load_rule(document), document=document)

    def run(self, rule: str = "first") -> str:
        """Run a rule to its end."""
        saved = self.services.rules.get(rule).rule
        return self.carry_out(self.services.executions.create(saved, trigger="api").id)

    def carry_out(self, execution: str) -> str:
        assert self.services.planner.plan(execution, self.services.boot)
        finish(self.world, execution)
        return execution

    def told(self) -> dict[str, str]:
        """Take the hints that wait, as the scheduler does: each new execution by its rule."""
        made: dict[str, str] = {}
        events = EventStore(self.services.database, debounce_seconds=0.0)

        def make(
            connection: Connection,
            rule: SyncRule,
            references: Sequence[tuple[str, str]],
            since: float,
        ) -> str:
            made[rule.name] = insert_tags(connection, rule, references, changed_at=since)
            return made[rule.name]

        wait_until(lambda: events.consume(make) == 0, 10, "all hints to be taken")
        return made


@pytest.fixture
def chain(world: World) -> Iterator[Chain]:
    found = Chain(world)
    with SampleRegistry() as third:
        world.services.registries.put(RegistryEndpoint("third", third.url), document={})
        push_image(world.east.storage, "app", "v1")
        found.rule("first", "east", "west", event=False)
        found.rule("second", "west", "third")
        yield found


@on_both_databases
def test_commit_starts_the_rule_that_goes_on_from_there(chain: Chain) -> None:
    """Once: nothing is told again for what is in place, and each execution knows what caused it."""
    first = chain.run()

    made = chain.told()

    assert list(made) == ["second"]
    second = chain.carry_out(made["second"])
    (copy,) = chain.world.copies(second)
    assert (copy.source_registry, copy.destination_registry) == ("west", "third")
    assert copy.state is CopyState.COPIED
    flows = chain.services.executions.flows()
    assert (flows.of(first), flows.of(second)) == ([], [first])
    assert [(hop.execution, hop.causes) for hop in flows.hops(first)] == [
        (first, ()),
        (second, (first,)),
    ]
    chain.run()
    assert chain.told() == {}


def test_registry_that_tells_of_pushes_is_left_to_that(chain: Chain) -> None:
    telling = {"registry": "west", "secret": b"s", "version": 1, "created_at": 1.0}
    chain.services.database.write(
        lambda connection: connection.execute(insert(hooks).values(**telling, received_at=2.0))
    )

    first = chain.run()

    assert chain.told() == {}
    digest = chain.world.copies(first)[0].digest
    event = RegistryEvent(Action.PUSHED, "app", "v1", digest=digest)
    chain.services.events.accept("west", [], Delivery((event,)))
    made = chain.told()
    assert chain.services.executions.flows().of(made["second"]) == [first]


def test_push_of_somebody_else_is_no_part_of_a_flow(chain: Chain) -> None:
    chain.run()
    chain.told()
    digest = push_image(chain.world.west.storage, "app", "v1", mark="somebody else")

    event = RegistryEvent(Action.PUSHED, "app", "v1", digest=digest)
    chain.services.events.accept("west", [], Delivery((event,)))

    made = chain.told()
    assert chain.services.executions.flows().of(made["second"]) == []


@on_both_databases
def test_circle_of_rules_comes_to_rest(chain: Chain) -> None:
    """Back to where it came from nothing starts; over a third registry, the last rule finds all in place."""
    chain.rule("back", "west", "east")
    chain.rule("round", "third", "east")
    chain.run()

    made = chain.told()
    assert list(made) == ["second"]
    chain.carry_out(made["second"])
    made = chain.told()
    assert list(made) == ["round"]
    last = chain.carry_out(made["round"])

    assert chain.world.copies(last) == []
    assert chain.told() == {}


def test_circle_that_makes_other_names_is_held_off(chain: Chain) -> None:
    """Saved behind the back of the check, it goes round three times, and no more."""
    chain.rule("first", "east", "west", takes="**", to="more/{repository}")
    chain.rule("second", "west", "third", takes="**")
    chain.rule("round", "third", "east", takes="**")
    made = {"first": chain.run()}
    started = [*made]

    while made:
        assert len(started) < 20
        made = chain.told()
        for execution in made.values():
            chain.carry_out(execution)
        started += made

    assert started.count("first") == 3
    assert "more/more/more/app" in chain.world.west.storage.repositories()
    assert "more/more/more/more/app" not in chain.world.west.storage.repositories()
