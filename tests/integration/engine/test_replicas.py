"""Replicas: what somebody else changed there is seen, told of, and put right when the rule says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from api.samples.faults import FOREVER, FaultRule
from api.samples.registry import SampleRegistry
from api.schemas.rule import load_rule
from service.model.endpoint import RegistryEndpoint
from service.model.replica import ADDED, DELETED, MOVED, OPEN, REPAIRED
from service.model.rule import SyncRule
from service.model.states import CopyState, ExecutionState
from service.model.subscription import Subscription
from service.replication.replica_metrics import ReplicaFigures
from service.store.replicas import AGAIN_SECONDS
from service.store.tables import executions
from service.store.tables_replicas import replicas
from tests.integration.engine.databases import on_both_databases
from tests.support.content import push_image
from tests.support.planning import finish
from tests.support.world import World


def replica_rule(*destinations: str, **keys: Any) -> SyncRule:
    """A rule that replicates east, as a document says it."""
    return load_rule(
        {
            "name": "instance",
            "source": "east",
            "mode": "replicate",
            "delete": {"enabled": False},
            "destinations": [{"registry": name} for name in destinations or ("west",)],
            "trigger": {"event": True},
            **keys,
        }
    )


class Instance:
    """A primary, its replicas, and what a scheduler and a worker do about them, step by step."""

    def __init__(self, world: World, rule: SyncRule) -> None:
        self.world = world
        self.services = world.services
        self.registries = {"east": world.east, "west": world.west}
        self.save(rule)

    def save(self, rule: SyncRule, **document: Any) -> None:
        self.rule = rule
        self.services.rules.put(rule, document=document)

    def save_again(self, **keys: Any) -> None:
        """Save the rule as it is but for some fields."""
        stored = self.services.rules.get(self.rule.name)
        self.save(replace(stored.rule, **keys), **stored.document)

    def add(self, name: str, registry: SampleRegistry) -> None:
        self.registries[name] = registry
        self.services.registries.put(RegistryEndpoint(name, registry.url), document={})

    def push(self, registry: str, name: str, mark: str = "") -> str:
        """Push an image past the product; returns its digest."""
        repository, _, tag = name.partition(":")
        return push_image(self.registries[registry].storage, repository, tag, mark=mark or name)

    def holds(self, registry: str) -> dict[str, str]:
        """Every tag of a registry and its digest."""
        storage = self.registries[registry].storage
        return {
            f"{name}:{tag}": digest
            for name in storage.repositories()
            for tag, digest in (storage.tags(name) or {}).items()
        }

    def keep(self) -> None:
        """Do what the scheduler's keeper does in one step."""
        self.services.replicas.keeper.step()

    def run(self, state: ExecutionState = ExecutionState.SUCCEEDED, trigger: str = "api") -> str:
        """Run the rule as it is saved, and have the keeper look at what came of it."""
        rule = self.services.rules.get(self.rule.name).rule
        execution = self.services.executions.create(rule, trigger=trigger).id
        return self.carry_out(execution, state)

    def carry_out(self, execution: str, state: ExecutionState = ExecutionState.SUCCEEDED) -> str:
        assert self.services.planner.plan(execution, self.services.boot)
        assert finish(self.world, execution) is state, self.world.copies(execution)
        self.keep()
        return execution

    def drift(self, registry: str = "west", state: str | None = OPEN) -> dict[str, str]:
        """What is noted of a replica: kind by name."""
        found = self.services.replicas.drift.list(self.rule.name, registry, state=state)
        return {f"{one.repository}:{one.tag}": one.kind for one in found}


@pytest.fixture
def instance(world: World) -> Instance:
    found = Instance(world, replica_rule())
    for name in ("app:v1", "app:v2", "web:v1"):
        found.push("east", name)
    return found


@pytest.fixture
def south() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry:
        yield registry


@on_both_databases
def test_what_somebody_else_changed_at_a_replica_is_drift(world: World) -> None:
    """A tag that was moved is kept, one that was deleted comes back, what was added is told of; all is shown."""
    instance = Instance(world, replica_rule())
    for name in ("app:v1", "app:v2", "app:v3", "web:v1"):
        instance.push("east", name)
    instance.run()
    assert instance.holds("west") == instance.holds("east")
    assert instance.drift() == {}
    foreign = instance.push("west", "app:v1", mark="somebody else")
    world.west.storage.delete_tag("app", "v2")
    instance.push("west", "app:own")
    instance.push("west", "private/tool:v1")

    execution = instance.run()

    assert instance.holds("west")["app:v1"] == foreign
    assert instance.holds("west")["app:v2"] == instance.holds("east")["app:v2"]
    assert instance.drift() == {"app:v1": MOVED, "app:own": ADDED, "private/tool:": ADDED}
    assert instance.drift(state=REPAIRED) == {"app:v2": DELETED}
    (kept,) = [one for one in world.copies(execution) if one.source_reference == "v1"]
    assert (kept.state, foreign in kept.reason) == (CopyState.SKIPPED, True)
    (moved,) = [
        one for one in instance.services.replicas.drift.list("instance", "west") if one.tag == "v1"
    ]
    assert (moved.found, moved.wanted) == (foreign, instance.holds("east")["app:v1"])


@on_both_databases
def test_drift_that_is_gone_is_drift_no_longer(world: World) -> None:
    instance = Instance(world, replica_rule())
    right = instance.push("east", "app:v1")
    instance.run()
    instance.push("west", "app:v1", mark="somebody else")
    instance.push("west", "app:own")
    instance.run()
    assert instance.drift() == {"app:v1": MOVED, "app:own": ADDED}

    world.west.storage.move_tag("app", "v1", right)
    world.west.storage.delete_tag("app", "own")
    instance.run()

    assert instance.drift() == {}


def test_effect_drift(instance: Instance) -> None:
    """With `repair` what somebody else moved is put right; what was added stays: P6."""
    instance.save(replica_rule(drift="repair"))
    instance.run()
    instance.push("west", "app:v1", mark="somebody else")
    instance.push("west", "app:own")

    instance.run()

    assert instance.holds("west").items() > instance.holds("east").items()
    assert instance.drift() == {"app:own": ADDED}
    assert instance.drift(state=REPAIRED) == {"app:v1": MOVED}


def test_tag_that_moves_at_the_primary_moves_at_a_replica(instance: Instance) -> None:
    """Also where the replica had its content before there was a rule."""
    for name in ("app:v1", "app:v2"):
        instance.push("west", name)
    instance.run()
    for name in ("app:v1", "web:v1"):
        instance.push("east", name, mark="new")

    instance.run()

    assert instance.holds("west") == instance.holds("east")
    assert instance.drift() == {}


def test_event_does_not_overwrite_drift(instance: Instance) -> None:
    instance.run()
    foreign = instance.push("west", "app:v1", mark="somebody else")
    instance.push("east", "app:v1", mark="new")
    rule = instance.services.rules.get("instance").rule

    record = instance.services.executions.create_tags(rule, [("app", "v1")], trigger="event")
    instance.carry_out(record.id)

    assert instance.holds("west")["app:v1"] == foreign
    assert instance.drift() == {"app:v1": MOVED}


def test_tag_that_moves_between_comparison_and_commit_is_not_overwritten(
    instance: Instance,
) -> None:
    instance.run()
    instance.push("east", "app:v1", mark="new")
    services = instance.services
    execution = services.executions.create(instance.rule, trigger="api").id
    assert services.planner.plan(execution, services.boot)
    foreign = instance.push("west", "app:v1", mark="somebody else")

    assert finish(instance.world, execution) is ExecutionState.SUCCEEDED

    (copy,) = instance.world.copies(execution)
    assert (copy.state, foreign in copy.reason) == (CopyState.SKIPPED, True)
    assert instance.holds("west")["app:v1"] == foreign
    instance.run()
    assert instance.drift() == {"app:v1": MOVED}


def test_repair_that_is_asked_for_is_done_once(instance: Instance) -> None:
    instance.run()
    instance.push("west", "app:v1", mark="somebody else")
    instance.run()
    instance.services.replicas.store.ask_repair("instance", "west")

    instance.keep()

    (asked,) = instance.services.executions.list(rule="instance", limit=1)
    assert (asked.trigger, asked.state) == ("replica", ExecutionState.PENDING)
    instance.carry_out(asked.id)
    assert instance.holds("west") == instance.holds("east")
    foreign = instance.push("west", "app:v1", mark="again")
    instance.run()
    assert instance.holds("west")["app:v1"] == foreign


@on_both_databases
def test_new_replica_is_filled_without_being_asked(world: World, south: SampleRegistry) -> None:
    instance = Instance(world, replica_rule())
    instance.push("east", "app:v1")
    instance.keep()
    store = instance.services.replicas.store
    (first,) = instance.services.executions.list(rule="instance", limit=10)
    assert first.trigger == "replica"
    assert store.of("instance")["west"].caught_up_at is None
    instance.keep()
    assert len(instance.services.executions.list(rule="instance", limit=10)) == 1
    instance.carry_out(first.id)
    assert store.of("instance")["west"].caught_up_at is not None

    instance.add("south", south)
    instance.save(replica_rule("west", "south"))
    instance.keep()
    instance.keep()

    second, _ = instance.services.executions.list(rule="instance", limit=10)
    assert second.trigger == "replica"
    instance.carry_out(second.id)
    assert instance.holds("south") == instance.holds("east")
    assert store.of("instance")["south"].caught_up_at is not None
    instance.save(replica_rule("south"))
    instance.keep()
    assert list(store.of("instance")) == ["south"]


def test_prometheus_counts_drift(instance: Instance) -> None:
    instance.run()
    instance.push("west", "app:v1", mark="somebody else")
    instance.push("west", "app:own")
    instance.run()
    parts = instance.services.replicas

    gauges = {
        metric.name: metric for metric in ReplicaFigures(parts.store, parts.statuses).collect()
    }

    drift = {one.labels["kind"]: one.value for one in gauges["transship_replica_drift"].samples}
    assert drift == {"moved": 1, "deleted": 0, "added": 1}
    (caught_up,) = gauges["transship_replica_caught_up"].samples
    assert (caught_up.labels, caught_up.value) == ({"rule": "instance", "registry": "west"}, 1)


def test_replica_that_could_not_be_filled_is_tried_again(instance: Instance) -> None:
    """Not at once, and without a schedule."""
    instance.keep()
    services = instance.services
    (first,) = services.executions.list(rule="instance", limit=10)
    instance.world.west.faults.add(FaultRule("/manifests/v1", "PUT", times=FOREVER, status=403))
    instance.carry_out(first.id, ExecutionState.PARTIAL)
    instance.world.west.faults.clear()
    instance.keep()
    assert len(services.executions.list(rule="instance", limit=10)) == 1

    services.database.write(
        lambda connection: connection.execute(
            update(executions).values(created_at=executions.c.created_at - AGAIN_SECONDS - 1)
        )
    )
    services.database.write(
        lambda connection: connection.execute(
            update(replicas).values(joined_at=replicas.c.joined_at - AGAIN_SECONDS - 2)
        )
    )
    instance.keep()

    second, _ = services.executions.list(rule="instance", limit=10)
    instance.carry_out(second.id)
    assert services.replicas.store.of("instance")["west"].caught_up_at is not None


def test_rule_of_the_same_name_begins_anew(instance: Instance) -> None:
    instance.run()
    instance.push("west", "app:own")
    instance.run()
    services = instance.services
    services.rules.delete("instance")

    assert services.replicas.store.of("instance") == {}
    assert instance.drift() == {}


def test_webhooks_are_told_when_drift_comes_and_goes(instance: Instance) -> None:
    """Once each, however often the keeper looks."""
    services = instance.services
    wanted = Subscription("ops", "https://ops.example/in", ("replica.*",))
    services.webhooks.put(wanted, document={})
    right = instance.push("east", "app:v1", mark="right")
    instance.run()
    instance.push("west", "app:v1", mark="somebody else")
    instance.run()
    instance.keep()
    instance.world.west.storage.move_tag("app", "v1", right)
    instance.run()
    instance.keep()

    letters = services.webhooks.take(10, 60, each=10)

    told = [json.loads(one.body) for one in letters]
    assert [(one["type"], one["data"]["drift"]) for one in told] == [
        ("transship.replica.drift", {"moved": 1}),
        ("transship.replica.in_step", {}),
    ]
    assert {one["subject"] for one in told} == {"replicas/instance/west"}
