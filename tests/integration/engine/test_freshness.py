"""Objectives of freshness: lag by region, error budgets, and alerts that come once and go by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import update

from api.samples.registry import SampleRegistry
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, SyncRule, Trigger
from service.model.subscription import Subscription
from service.replication.freshness import FreshnessKeeper
from service.replication.rule_metrics import RuleFigures
from service.store import codec, tables
from service.store.creation import insert_tags
from service.store.freshness import FreshnessStore
from service.store.incidents import TARGET, WINDOW_SECONDS, Asked, Incident
from service.store.lag import Lag, LagStore
from service.store.tables_freshness import rule_incidents
from service.store.tables_governance import webhook_deliveries
from tests.support.world import World, a_rule, some_bytes

ON_BOTH = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)


def subscribe(world: World) -> None:
    """Have events of rules kept for somebody who takes none."""
    wanted = Subscription("ops", "http://127.0.0.1:9/none", ("rule.*",))
    world.services.webhooks.put(wanted, document={})


def events(world: World) -> list[str]:
    """The events that are to be told, in their order."""
    with world.services.database.read() as connection:
        found = connection.execute(
            webhook_deliveries.select().order_by(webhook_deliveries.c.id)
        ).all()
    return [row.event for row in found]


def open_incidents(world: World) -> list[tuple[str, str, str]]:
    return [(one.rule, one.kind, one.region) for one in world.services.incidents.open()]


def shift_created(world: World, seconds: float) -> None:
    """Have every rule be so much older."""
    world.services.database.write(
        lambda c: c.execute(
            update(tables.rules).values(created_at=tables.rules.c.created_at - seconds)
        )
    )


def _registry(world: World) -> CollectorRegistry:
    """What the scheduler's process shows of rules."""
    services = world.services
    registry = CollectorRegistry()
    registry.register(RuleFigures(services.freshness_keeper.judged, services.incidents))
    return registry


def run(world: World, rule: SyncRule) -> None:
    """Run a saved rule to its end."""
    execution = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)
    world.run_to_end(execution, world.party())
    world.services.dispatching.end_executions()


@ON_BOTH
def test_a_region_that_falls_behind_is_told_of_once_and_spends_its_budget(world: World) -> None:
    """An event 100 s ago is in one region and not in the other: 40 s more than allowed are missed there."""
    services = world.services
    subscribe(world)
    with SampleRegistry() as north:
        services.registries.put(RegistryEndpoint("west", world.west.url, region="eu"), document={})
        services.registries.put(RegistryEndpoint("north", north.url, region="us"), document={})
        rule = replace(
            a_rule("team/*"),
            destinations=(Destination(registry="west"), Destination(registry="north")),
            trigger=Trigger(event=True),
            freshness_seconds=60.0,
        )
        services.rules.put(rule, document={})
        shift_created(world, 1000)
        world.push("team/app", "v1", [some_bytes("v1", 100)])
        keeper = services.freshness_keeper
        assert keeper.judge() == []
        now = FreshnessStore(services.database).rules()[1]
        execution = services.database.write(
            lambda c: insert_tags(c, rule, [("team/app", "v1")], changed_at=now - 100)
        )
        assert services.planner.plan(execution, services.boot)
        by_registry = {copy.id: copy.destination_registry for copy in world.copies(execution)}
        store = services.dispatching
        refs = {
            by_registry[ref.id]: ref
            for region in ("eu", "us")
            for ref in store.dispatch(store.eligible(region, 10))
        }
        world.party().replicate(refs["west"])

        assert keeper.judge() == [("fleet", True)]
        assert keeper.judge() == []

        [late] = services.incidents.open()
        assert (late.kind, late.region) == ("late", "us")
        assert late.began_at == pytest.approx(now - 40, abs=5)
        assert services.rules.get("fleet").late_since == pytest.approx(late.began_at)
        created = services.rules.get("fleet").created_at
        asked = {"fleet": Asked(created, ("eu", "us"))}
        budgets = services.incidents.budgets(asked)["fleet"]
        assert budgets["us"].missed_seconds == pytest.approx(40, abs=10)
        assert budgets["us"].judged_seconds == pytest.approx(1000, abs=30)
        assert budgets["us"].within == pytest.approx(0.96, abs=0.01)
        assert budgets["us"].left == pytest.approx(1 - 40 / (0.01 * WINDOW_SECONDS), abs=0.001)
        assert (budgets["eu"].missed_seconds, budgets["eu"].left) == (0.0, 1.0)

        told = generate_latest(_registry(world)).decode()
        assert 'transship_rule_lag_seconds{region="us",rule="fleet"} 10' in told
        assert 'transship_rule_lag_seconds{region="eu",rule="fleet"} 0.0' in told
        assert 'transship_rule_objective_seconds{rule="fleet"} 60.0' in told
        assert 'transship_rule_budget_left_ratio{region="eu",rule="fleet"} 1.0' in told
        assert 'transship_rule_within_ratio{region="us",rule="fleet"} 0.9' in told
        assert 'transship_rule_alerts{kind="late",rule="fleet"} 1.0' in told

        world.party().replicate(refs["north"])
        services.dispatching.end_executions()
        assert keeper.judge() == [("fleet", False)]
        assert keeper.judge() == []
    assert services.incidents.open() == []
    assert services.rules.get("fleet").late_since is None
    assert events(world) == ["rule.late", "rule.fresh"]
    missed = services.incidents.budgets(asked)["fleet"]["us"].missed_seconds
    assert missed == pytest.approx(40, abs=15)  # it ended, and stays spent

    assert services.incidents.forget() == 0
    services.database.write(
        lambda c: c.execute(
            update(rule_incidents).values(ended_at=rule_incidents.c.ended_at - WINDOW_SECONDS - 60)
        )
    )
    assert services.incidents.forget() == 1


@ON_BOTH
def test_a_rule_that_should_have_run_and_did_not_is_told_of_until_it_runs(world: World) -> None:
    services = world.services
    subscribe(world)
    world.push("team/app", "v1", [some_bytes("v1", 100)])
    due = replace(a_rule("team/*", name="due"), trigger=Trigger(schedule="0 3 * * *"))
    by_hand = a_rule("team/*", name="by-hand")
    paused = replace(due, name="paused")
    for rule in (due, by_hand, paused):
        services.rules.put(rule, document={})
    services.pauses.pause_rule("paused")
    keeper = services.freshness_keeper
    keeper.look()
    assert open_incidents(world) == []
    shift_created(world, 2 * 86400)

    keeper.look()
    keeper.look()

    assert open_incidents(world) == [("due", "idle", "")]
    [found] = services.incidents.open(["due"])
    assert "it was to run at " in found.reason
    assert "T03:00:00Z, and did not" in found.reason
    execution = services.executions.create(due, trigger="test").id
    keeper.look()
    assert open_incidents(world) == [("due", "idle", "")]  # nobody has begun it
    assert services.planner.plan(execution, services.boot)
    services.database.write(
        lambda c: c.execute(
            update(tables.executions).values(started_at=tables.executions.c.started_at - 90_000)
        )
    )
    keeper.look()
    assert open_incidents(world) == []  # it takes longer than a day, and is under way
    world.run_to_end(execution, world.party())
    services.dispatching.end_executions()
    keeper.look()
    assert open_incidents(world) == [("due", "idle", "")]  # and the next one did not come
    run(world, due)
    keeper.look()
    assert open_incidents(world) == []
    assert events(world) == ["rule.idle", "rule.running"] * 2


@ON_BOTH
def test_a_rule_that_matches_nothing_any_more_is_told_of_until_it_does(world: World) -> None:
    services = world.services
    subscribe(world)
    rule, never = a_rule("team/*"), a_rule("nobody/*", name="never")
    for one in (rule, never):
        services.rules.put(one, document={})
        run(world, one)
    keeper = services.freshness_keeper
    keeper.look()
    assert open_incidents(world) == []  # nothing matched yet: nothing was lost
    world.push("team/app", "v1", [some_bytes("v1", 100)])
    run(world, rule)
    keeper.look()
    assert open_incidents(world) == []
    world.east.storage.delete_tag("team/app", "v1")
    run(world, rule)

    keeper.look()
    keeper.look()

    assert open_incidents(world) == [("fleet", "empty", "")]
    world.push("team/app", "v2", [some_bytes("v2", 100)])
    run(world, rule)
    keeper.look()
    assert open_incidents(world) == []
    assert events(world) == ["rule.empty", "rule.matching"]


class _Counting(LagStore):
    """Counts the rules whose lag is read one by one."""

    asked = 0

    def of(self, rule: str, source: str, destinations: Sequence[str]) -> list[Lag]:
        self.asked += 1
        return super().of(rule, source, list(destinations))


def test_rules_that_are_well_are_not_asked_one_by_one(world: World) -> None:
    """A thousand calm rules cost a few queries, and no row."""
    services = world.services
    calm = replace(a_rule("team/*"), freshness_seconds=3600.0, trigger=Trigger(event=True))
    rows = [_row(replace(calm, name=f"r{number}")) for number in range(1000)]
    services.database.write(lambda c: c.execute(tables.rules.insert(), rows).rowcount)
    lags = _Counting(services.database)
    keeper = FreshnessKeeper(
        services.registries, FreshnessStore(services.database), lags, services.incidents
    )
    world.push("team/app", "v1", [some_bytes("v1", 100)])
    busy = services.rules.get("r7").rule
    services.executions.create(busy, trigger="test")

    assert keeper.judge() == []

    assert lags.asked == 1
    assert len(keeper.judged()) == 1000
    with services.database.read() as connection:
        assert connection.execute(rule_incidents.select()).all() == []


def _row(rule: SyncRule) -> dict[str, object]:
    return {
        "name": rule.name,
        "document": "{}",
        "spec": codec.dump(rule),
        "enabled": True,
        "freshness_seconds": rule.freshness_seconds,
        "version": 1,
        "created_at": 0.0,
        "updated_at": 0.0,
    }


def test_incidents_that_overlap_are_spent_once(world: World) -> None:
    """Two processes that judge at once open one incident; what overlaps is counted once."""
    services = world.services
    services.rules.put(replace(a_rule("team/*"), freshness_seconds=60.0), document={})
    late = Incident("fleet", "late", "eu", 1000.0, "late", 5.0)

    assert services.incidents.settle(("late",), [late])[0] == [late]
    assert services.incidents.settle(("late",), [late]) == ([], [])
    services.database.write(
        lambda c: c.execute(
            rule_incidents.insert(),
            [
                {"rule": "fleet", "region": "eu", "kind": "late", "began_at": a, "ended_at": b}
                for a, b in ((0.0, 10.0), (5.0, 12.0))
            ],
        )
    )
    found = services.incidents.budgets({"fleet": Asked(-1e12, ("eu",))})["fleet"]["eu"]
    assert found.missed_seconds == pytest.approx(WINDOW_SECONDS, abs=60)
    assert found.left == pytest.approx(1 - 1 / (1 - TARGET), abs=0.1)
