"""A replica takes over, and the former primary comes back: nothing is lost, and nothing is overwritten unseen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from api.samples.faults import FaultRule
from api.samples.registry import SampleRegistry
from service.errors import Conflict
from service.model.events.values import Action, Delivery, RegistryEvent
from service.model.replica import ADDED, MOVED, Missing
from service.model.replica_takeover import promoted, promoted_document
from service.model.rule import DeletePolicy
from service.model.states import ExecutionState
from service.model.subscription import Subscription
from service.replication.delete import Deleter
from service.replication.executions import start
from service.store.replica_takeovers import TakeoverStore
from tests.integration.engine.databases import on_both_databases
from tests.integration.engine.test_replicas import Instance, replica_rule
from tests.support.processes import wait_until
from tests.support.world import World


class Succession(Instance):
    """East, which west and south follow; either may take over."""

    @property
    def promotions(self) -> TakeoverStore:
        return self.services.replicas.promotions

    def promote(self, registry: str, *, accept_missing: bool = False) -> list[Missing]:
        stored = self.services.rules.get("instance")
        rule = promoted(stored.rule, registry, {})
        return self.promotions.promote(
            stored.rule,
            rule,
            document=promoted_document(stored.document, rule),
            expected_version=stored.version,
            accept_missing=accept_missing,
        )

    def missing(self, registry: str) -> dict[str, str]:
        """Why each name may be lost when a replica takes over."""
        rule = self.services.rules.get("instance").rule
        return {
            f"{one.repository}:{one.tag}": one.why
            for one in self.promotions.missing(rule, registry)
        }

    def life(self) -> dict[str, str]:
        """The state of each replica."""
        rule = self.services.rules.get("instance").rule
        names = [one.registry or "" for one in rule.destinations]
        return {
            one.replica.registry: one.state
            for one in self.services.replicas.statuses.of(rule, names)
        }

    def tell(self, registry: str, *names: str) -> None:
        """Have a registry tell of pushes."""
        events = [
            RegistryEvent(Action.PUSHED, repository, tag)
            for repository, _, tag in (name.partition(":") for name in names)
        ]
        self.services.events.accept(registry, [], Delivery(tuple(events)))


@pytest.fixture
def succession(world: World) -> Iterator[Succession]:
    found = Succession(world, replica_rule("west", "south"))
    with SampleRegistry() as south:
        found.add("south", south)
        for name in ("app:v1", "app:v2", "web:v1"):
            found.push("east", name)
        found.run()
        yield found


@on_both_databases
def test_replica_takes_over_and_the_others_follow_it(succession: Succession) -> None:
    assert succession.life() == {"west": "caught_up", "south": "caught_up"}

    assert succession.promote("west") == []

    stored = succession.services.rules.get("instance")
    assert (stored.rule.source, stored.document["source"]) == ("west", "west")
    assert [one.registry for one in stored.rule.destinations] == ["east", "south"]
    assert succession.life() == {"east": "fenced", "south": "preparing"}
    new = succession.push("west", "app:v1", mark="by the new primary")
    old = succession.push("east", "app:v1", mark="by the old primary")
    execution = succession.run()
    assert succession.holds("south")["app:v1"] == new
    assert succession.holds("east")["app:v1"] == old
    assert {one.destination_registry for one in succession.world.copies(execution)} == {"south"}
    assert succession.life() == {"east": "fenced", "south": "caught_up"}


def test_webhooks_are_told_who_is_the_primary_and_who_follows(succession: Succession) -> None:
    services = succession.services
    wanted = Subscription("ops", "https://ops.example/in", ("replica.*",))
    services.webhooks.put(wanted, document={})

    succession.promote("west")
    assert succession.promotions.follow("instance", "east")
    assert not succession.promotions.follow("instance", "east")

    told = [json.loads(one.body) for one in services.webhooks.take(10, 60, each=10)]
    assert [(one["type"], one["subject"]) for one in told] == [
        ("transship.replica.promoted", "replicas/instance/west"),
        ("transship.replica.following", "replicas/instance/east"),
    ]
    assert told[0]["data"]["before"] == "east"
    assert {one["data"]["project"] for one in told} == {"default"}


@on_both_databases
def test_what_would_be_lost_is_told_before_a_promotion(succession: Succession) -> None:
    """A tag that another replica has, one that failed, one that was told of, and one that somebody moved."""
    world = succession.world
    world.west.storage.delete_tag("app", "v2")
    foreign = succession.push("west", "web:v1", mark="somebody else")
    succession.run()
    world.west.storage.delete_tag("app", "v2")
    succession.push("east", "app:v3")
    world.west.faults.add(FaultRule("/v2/app/manifests/v3", "PUT", status=403))
    succession.run(ExecutionState.PARTIAL)
    succession.tell("east", "app:v9")

    with pytest.raises(Conflict, match="west may lack 3"):
        succession.promote("west")

    assert succession.missing("west") == {
        "app:v3": "another replica has it",
        "app:v9": "the primary told of it, and nobody has looked yet",
        "web:v1": "somebody else has moved it there",
    }
    assert succession.services.rules.get("instance").rule.source == "east"
    assert succession.life()["west"] != "fenced"
    world.west.faults.clear()
    assert len(succession.promote("west", accept_missing=True)) == 3
    succession.run()
    assert succession.holds("south")["web:v1"] == foreign
    assert succession.drift("south") == {"app:v3": ADDED}


@on_both_databases
def test_promotion_stops_what_is_under_way_and_takes_no_events_of_the_old_primary(
    succession: Succession,
) -> None:
    services = succession.services
    succession.push("east", "late:v1")
    under_way = start(services.rules, services.executions, "instance").id
    assert services.planner.plan(under_way, services.boot)

    assert succession.promote("west", accept_missing=True)

    succession.world.party().replicate(*succession.world.dispatch())
    services.dispatching.end_executions()
    assert services.executions.get(under_way).state is ExecutionState.STOPPED
    assert "late:v1" not in succession.holds("west")
    succession.tell("east", "late:v1")
    made: list[Any] = []
    wait_until(
        lambda: services.events.consume(lambda *words: made.append(words)) > 0, 10, "the hint"
    )
    assert made == []


@on_both_databases
def test_former_primary_follows_and_nothing_of_it_is_overwritten_unseen(
    succession: Succession,
) -> None:
    """What it got after it was left is drift; the rest is brought up to date; then it can take over again."""
    succession.promote("west")
    succession.push("west", "app:v1", mark="by the new primary")
    succession.push("west", "app:v2", mark="by the new primary")
    moved = succession.push("east", "app:v2", mark="late at the old primary")
    succession.push("east", "app:late")
    succession.save_again(drift="repair")
    succession.run()

    assert succession.promotions.follow("instance", "east")
    assert not succession.promotions.follow("instance", "east")

    assert succession.life()["east"] == "preparing"
    succession.run()
    assert succession.drift("east") == {"app:v2": MOVED, "app:late": ADDED}
    assert succession.holds("east")["app:v2"] == moved
    assert succession.holds("east")["app:v1"] == succession.holds("west")["app:v1"]
    succession.services.replicas.store.ask_repair("instance", "east")
    succession.run()
    assert succession.holds("east").items() > succession.holds("west").items()
    assert succession.drift("east") == {"app:late": ADDED}
    succession.promote("east")
    assert succession.life() == {"west": "fenced", "south": "preparing"}
    succession.promotions.follow("instance", "west")
    succession.run()
    assert succession.drift("west") == {}
    assert succession.holds("west") == succession.holds("east")


def test_registry_that_does_not_follow_takes_over_nothing(succession: Succession) -> None:
    with pytest.raises(Conflict, match="no replica"):
        succession.promote("east")
    succession.promote("west")
    with pytest.raises(Conflict, match="does not follow yet"):
        succession.promote("east")
    with pytest.raises(Conflict, match="was not the primary"):
        succession.promotions.follow("instance", "south")


def test_deletions_follow_the_new_primary_and_take_nothing_that_it_never_had(
    succession: Succession,
) -> None:
    services = succession.services
    succession.push("east", "app:only-south")
    succession.world.west.faults.add(FaultRule("manifests/only-south", "PUT", status=403))
    succession.run(ExecutionState.PARTIAL)
    succession.world.west.faults.clear()
    succession.save_again(delete=DeletePolicy(enabled=True, grace_seconds=0.0))
    succession.promote("west", accept_missing=True)
    succession.world.west.storage.delete_tag("app", "v1")
    succession.run()
    deleter = Deleter(
        replace(services.settings, absence_seconds=0.0),
        services.rules,
        services.registries,
        services.projects,
        services.deletions,
        services.clients,
        services.deletion_borders,
    )

    for _ in range(3):
        deleter.step()

    assert succession.holds("south").keys() == {"app:v2", "web:v1", "app:only-south"}
    assert succession.holds("east").keys() >= {"app:v1", "app:v2", "web:v1"}, "it is fenced"
    assert succession.drift("south") == {"app:only-south": ADDED}
