"""Each key of a rule that is no condition on content, seen at the destination: with it, and without."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from api.config_file import load_text
from api.samples.registry import BasicAuth, SampleRegistry
from api.schemas.rule import load_rule
from service.model.endpoint import RegistryEndpoint
from service.model.rule import SyncRule
from service.model.states import CopyState, ExecutionState
from service.replication import executions as use_cases
from service.store import tables
from service.store.clock import now_epoch
from tests.integration.engine.databases import on_both_databases
from tests.support.effects import arrived, effect_rule, run, standing
from tests.support.processes import wait_until
from tests.support.world import Party, World, some_bytes

LAYER = some_bytes("one", 2000)
ALL = {"repositories": ["**"]}


def push(world: World, *names: str, mark: str = "") -> None:
    for name in names:
        repository, _, tag = name.partition(":")
        world.push(repository, tag, [LAYER], mark or name)


def drive(world: World, party: Party) -> None:
    """Let the scheduler look once, plan what it started, and carry everything out."""
    services = world.services
    services.drive(party.publisher, events=services.events).step()
    for record in services.executions.list():
        if record.kind in {"full", "tags"} and not record.planned:
            services.planner.plan(record.id, services.boot)
            world.run_to_end(record.id, party)
    services.dispatching.end_executions()


# ---- from where -------------------------------------------------------------------


def test_effect_select_repositories_include(world: World) -> None:
    push(world, "team/a:v1", "team/deep/b:v1", "other/c:v1")

    assert arrived(world, {"repositories": {"include": ["team/*"]}}) == {"team/a:v1"}
    assert arrived(world, {"repositories": ["team/**"]}) == {"team/a:v1", "team/deep/b:v1"}


def test_effect_select_repositories_exclude(world: World) -> None:
    push(world, "team/a:v1", "team/tmp-b:v1")

    taken = arrived(world, {"repositories": {"include": ["team/*"], "exclude": ["*/tmp-*"]}})

    assert taken == {"team/a:v1"}
    assert len(arrived(world, {"repositories": ["team/*"]})) == 2


def test_effect_select_tags_exclude(world: World) -> None:
    push(world, "app:v1", "app:v1-rc1")

    assert arrived(world, {**ALL, "tags": {"exclude": ["*-rc*"]}}) == {"app:v1"}
    assert len(arrived(world, ALL)) == 2


def test_effect_select_tags_include(world: World) -> None:
    push(world, "app:v1", "app:latest")

    assert arrived(world, {**ALL, "tags": {"include": ["v*"]}}) == {"app:v1"}
    assert len(arrived(world, ALL)) == 2


def test_effect_source(world: World) -> None:
    push(world, "app:v1")
    world.services.registries.put(RegistryEndpoint("empty", world.west.url), document={})

    run(world, effect_rule(ALL, source="empty", destinations=[{"registry": "east"}]))
    assert standing(world) == set()
    assert arrived(world, ALL) == {"app:v1"}


# ---- where it goes -----------------------------------------------------------------------------------


def test_effect_destinations_registry(world: World) -> None:
    push(world, "app:v1")
    world.services.registries.put(RegistryEndpoint("nowhere", "http://127.0.0.1:1"), document={})

    lost = effect_rule(ALL, destinations=[{"registry": "nowhere"}])
    run(world, replace(lost, name="lost"), ExecutionState.FAILED)
    assert standing(world) == set()
    assert arrived(world, ALL) == {"app:v1"}


def test_effect_destinations_group(world: World) -> None:
    """And groups of registries: a registry is written because it is in the group."""
    push(world, "app:v1")
    to_group = [{"group": "prod"}]
    world.services.registries.put(RegistryEndpoint("west", world.west.url), document={})
    refused = world.services.executions.create(
        effect_rule(ALL, destinations=to_group), trigger="test"
    )
    assert world.services.planner.plan(refused.id, world.services.boot)
    world.services.dispatching.end_executions()
    assert world.services.executions.get(refused.id).state is ExecutionState.FAILED
    assert standing(world) == set()

    world.services.registries.put(
        RegistryEndpoint("west", world.west.url, groups=("prod",)), document={}
    )

    assert arrived(world, ALL, destinations=to_group) == {"app:v1"}


def test_effect_destinations_repository(world: World) -> None:
    push(world, "team/app:v1")
    named = [{"registry": "west", "repository": "mirror/{repository[1:]}"}]

    assert arrived(world, ALL, destinations=named) == {"mirror/app:v1"}
    assert arrived(world, ALL) == {"mirror/app:v1", "team/app:v1"}


def test_effect_destinations_tag(world: World) -> None:
    push(world, "app:v1")
    named = [{"registry": "west", "tag": "east-{tag}"}]

    assert arrived(world, ALL, destinations=named) == {"app:east-v1"}
    assert arrived(world, ALL) == {"app:east-v1", "app:v1"}


# ---- policies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "state", "copy"),
    [
        ("overwrite", ExecutionState.SUCCEEDED, CopyState.COPIED),
        ("keep", ExecutionState.SUCCEEDED, CopyState.SKIPPED),
        ("fail", ExecutionState.FAILED, CopyState.FAILED),
    ],
)
def test_effect_on_conflict(
    world: World, policy: str, state: ExecutionState, copy: CopyState
) -> None:
    push(world, "app:v1")
    run(world, effect_rule(ALL))
    before = world.west.storage.manifest("app", "v1")
    push(world, "app:v1", mark="newer")

    execution = run(world, effect_rule(ALL, on_conflict=policy), state)

    after = world.west.storage.manifest("app", "v1")
    assert before is not None
    assert after is not None
    assert (after.digest != before.digest) is (policy == "overwrite")
    assert world.states(execution) == [copy]


def test_a_tag_that_appears_while_it_is_copied_is_kept_too(world: World) -> None:
    """The rule's promise holds at the moment of the write (P5), not only when it compared."""
    push(world, "app:v1")
    rule = effect_rule(ALL, on_conflict="keep")
    execution = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)
    image = world.push("elsewhere", "v1", [LAYER], "somebody's own")
    found = world.east.storage.manifest("elsewhere", "v1")
    assert found is not None
    world.west.storage.put_manifest("app", found, "v1")

    world.run_to_end(execution, world.party())

    assert world.states(execution) == [CopyState.SKIPPED]
    kept = world.west.storage.manifest("app", "v1")
    assert kept is not None
    assert kept.digest == image.digest


def test_effect_on_empty(world: World) -> None:
    nothing = {"repositories": ["none/*"]}

    run(world, effect_rule(nothing, on_empty="fail"), ExecutionState.FAILED)
    warned = run(world, effect_rule(nothing))

    assert "matches nothing" in " ".join(world.services.executions.get(warned).warnings)


def test_effect_referrers(world: World) -> None:
    image = world.push("app", "v1", [LAYER])
    tag = image.digest.replace(":", "-") + ".sig"
    world.push("app", tag, [some_bytes("signature", 100)])

    assert arrived(world, ALL, referrers=False) == {"app:v1"}
    assert arrived(world, ALL) == {"app:v1", f"app:{tag}"}


def test_effect_priority(world: World) -> None:
    """What is urgent is committed before what was there first."""
    push(world, "bulk/a:v1", "urgent/b:v1")
    services = world.services
    for name, priority in (("bulk", "bulk"), ("urgent", "urgent")):
        rule = replace(effect_rule({"repositories": [f"{name}/*"]}, priority=priority), name=name)
        execution = services.executions.create(rule, trigger="test").id
        assert services.planner.plan(execution, services.boot)
    (first,) = services.dispatching.dispatch(services.dispatching.eligible("local", 1))

    world.party().replicate(first)

    assert standing(world) == {"urgent/b:v1"}


def test_effect_deadline(world: World) -> None:
    """An execution past its deadline moves nothing any more; one with time left does."""
    push(world, "app:v1")
    services, party = world.services, world.party()
    rule = effect_rule(ALL, deadline="3s")
    late = services.executions.create(rule, trigger="test").id
    assert services.planner.plan(late, services.boot)
    wait_until(lambda: services.executions.overdue() == [late], 5, "the deadline")
    services.drive(party.publisher).step()

    assert world.dispatch() == []
    record = services.executions.get(late)
    assert (record.state, record.reason) == (ExecutionState.STOPPED, "its deadline ran out")
    assert standing(world) == set()
    assert arrived(world, ALL) == {"app:v1"}


# ---- triggers ----------------------------------------------------------------------------------------


def test_effect_trigger_every(world: World) -> None:
    push(world, "app:v1")
    rules, party = world.services.rules, world.party()
    rules.put(effect_rule(ALL), document={})
    drive(world, party)
    assert standing(world) == set()

    rules.put(effect_rule(ALL, trigger={"every": "1h"}), document={})
    drive(world, party)

    assert standing(world) == {"app:v1"}


def test_effect_enabled(world: World) -> None:
    push(world, "app:v1")
    rules, party = world.services.rules, world.party()
    rules.put(effect_rule(ALL, trigger={"every": "1h"}, enabled=False), document={})
    drive(world, party)
    assert standing(world) == set()

    rules.put(effect_rule(ALL, trigger={"every": "1h"}), document={})
    drive(world, party)

    assert standing(world) == {"app:v1"}


def due(world: World, seconds_ago: float) -> None:
    """Have the rule's next run lie so long in the past."""
    world.services.database.write(
        lambda connection: connection.execute(
            tables.rules.update().values(next_run_at=now_epoch() - seconds_ago)
        )
    )


def test_effect_trigger_schedule(world: World) -> None:
    push(world, "app:v1")
    rules, party = world.services.rules, world.party()
    planned = rules.put(
        effect_rule(ALL, trigger={"schedule": "0 3 * * *"}), document={}
    ).next_run_at
    assert planned is not None
    assert planned % 86400 == 3 * 3600
    drive(world, party)
    assert standing(world) == set()  # not before its time

    due(world, 1)
    drive(world, party)

    assert standing(world) == {"app:v1"}
    assert rules.get("effect").next_run_at == planned


def test_effect_trigger_timezone(world: World) -> None:
    """Of two schedules at the same hour, the one whose zone has reached it runs."""
    push(world, "app:v1")
    rules = world.services.rules
    times = {
        zone: rules.put(
            load_rule(
                {
                    **json.loads(json.dumps({"source": "east", "select": [ALL]})),
                    "name": name,
                    "destinations": [{"registry": "west", "repository": f"{name}/{{repository}}"}],
                    "trigger": {"schedule": "0 3 * * *", "timezone": zone},
                }
            ),
            document={},
        ).next_run_at
        for name, zone in (("utc", "UTC"), ("shanghai", "Asia/Shanghai"))
    }
    assert times["UTC"] is not None
    assert times["Asia/Shanghai"] is not None
    apart = (times["Asia/Shanghai"] - times["UTC"]) % 86400
    assert apart == 16 * 3600  # 03:00 in Shanghai is 19:00 UTC
    first = min(times, key=lambda zone: times[zone] or 0)
    passed = (times[first] or 0) + 1
    world.services.database.write(
        lambda connection: connection.execute(
            tables.rules.update().values(
                next_run_at=tables.rules.c.next_run_at - passed + now_epoch()
            )
        )
    )

    drive(world, world.party())

    name = {"UTC": "utc", "Asia/Shanghai": "shanghai"}[first]
    assert standing(world) == {f"{name}/app:v1"}


@pytest.mark.parametrize(("missed", "arrives"), [("once", {"app:v1"}), ("skip", set())])
def test_effect_trigger_missed(world: World, missed: str, arrives: set[str]) -> None:
    push(world, "app:v1")
    trigger = {"schedule": "0 3 * * *", "missed": missed}
    world.services.rules.put(effect_rule(ALL, trigger=trigger), document={})
    due(world, 3 * 86400)

    drive(world, world.party())

    assert standing(world) == arrives


# ---- what operators do -------------------------------------------------------------------------------


@on_both_databases
def test_only_what_failed_is_tried_again(world: World) -> None:
    from api.samples.faults import FaultRule

    push(world, "a:v1", "b:v1")
    rule = effect_rule(ALL)
    world.services.rules.put(rule, document={})
    fault = world.east.faults.add(
        FaultRule(path="/b/manifests/", method="GET", status=403, times=99)
    )
    failed = run(world, rule, ExecutionState.PARTIAL)
    fault.times = 0
    world.east.faults.clear()
    world.east.log.clear()

    again = use_cases.retry(world.services.executions, failed)
    assert (again.kind, again.trigger) == ("tags", "retry")
    assert world.services.planner.plan(again.id, world.services.boot)
    world.run_to_end(again.id, world.party())

    assert standing(world) == {"a:v1", "b:v1"}
    assert not any("/a/" in line.path for line in world.east.log)


@on_both_databases
def test_a_paused_registry_gets_no_request_and_its_work_is_kept(world: World) -> None:
    push(world, "app:v1")
    services = world.services
    execution = services.executions.create(effect_rule(ALL), trigger="test").id
    assert services.planner.plan(execution, services.boot)
    refs = world.dispatch()
    services.pauses.pause_registry("west")
    party = world.party()
    world.west.log.clear()

    assert party.replicate(*refs) == {}  # taken back from the queue
    assert world.dispatch() == []
    assert list(world.west.log) == []
    assert services.executions.get(execution).state is ExecutionState.RUNNING
    services.pauses.resume_registry("west")
    world.run_to_end(execution, party)

    assert standing(world) == {"app:v1"}


def of_file(world: World, defaults: dict[str, object], **keys: object) -> SyncRule:
    """The one rule of a file with these defaults."""
    document = {
        "version": 1,
        "registries": [
            {"name": "east", "url": world.east.url},
            {"name": "west", "url": world.west.url},
        ],
        "defaults": defaults,
        "rules": [
            {
                "name": "effect",
                "source": "east",
                "select": [ALL],
                "destinations": [{"registry": "west"}],
                **keys,
            }
        ],
    }
    return load_text(json.dumps(document)).rules[0]


def test_defaults_of_a_file_stand_beneath_its_rules(world: World) -> None:
    image = world.push("app", "v1", [LAYER])
    tag = image.digest.replace(":", "-") + ".sig"
    world.push("app", tag, [some_bytes("signature", 100)])
    world.east.storage.put_blob("none", image.layers[0], LAYER)

    run(world, of_file(world, {"referrers": False}))
    assert standing(world) == {"app:v1"}
    push(world, "app:v1", mark="newer")
    kept = run(world, of_file(world, {"on_conflict": "keep"}))
    assert CopyState.SKIPPED in world.states(kept)
    run(world, of_file(world, {"on_conflict": "keep"}, on_conflict="overwrite"))
    moved = world.west.storage.manifest("app", "v1")
    assert moved is not None
    assert moved.digest != image.digest
    nothing = [{"repositories": ["nothing/*"]}]
    run(world, of_file(world, {"on_empty": "fail"}, select=nothing), ExecutionState.FAILED)
    later = of_file(world, {"priority": "urgent", "deadline": "90s"})
    assert (later.priority, later.deadline_seconds) == ("urgent", 90.0)
    services = world.services
    execution = services.executions.create(later, trigger="test").id
    world.push("app", "v2", [LAYER])
    assert services.planner.plan(execution, services.boot)
    assert services.dispatching.eligible("local", 9, urgent=True)


def test_a_destination_that_refuses_us_is_told_once_and_the_others_are_served(
    world: World,
) -> None:
    push(world, *(f"app{number}:v1" for number in range(12)))
    with SampleRegistry(auth=BasicAuth({"robot": "s3cret"})) as closed:
        world.services.registries.put(RegistryEndpoint("closed", closed.url), document={})
        both = effect_rule(ALL, destinations=[{"registry": "west"}, {"registry": "closed"}])
        execution = run(world, both, ExecutionState.PARTIAL)

        refused = [one for one in world.copies(execution) if one.destination_registry == "closed"]
        assert [(one.source_repository, one.failure_class) for one in refused] == [("*", "auth")]
        assert len(standing(world)) == 12
        assert len(closed.log) <= 2
        alone = effect_rule(ALL, destinations=[{"registry": "closed"}])
        failed = run(world, replace(alone, name="alone"), ExecutionState.FAILED)
        assert world.copies(failed) == []
        assert "closed" in world.services.executions.get(failed).reason
        again = use_cases.retry(world.services.executions, execution)
        assert again.kind == "full"
