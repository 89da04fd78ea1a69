"""Deletions in a jurisdiction that the scheduler does not stand in: its workers do them (issue 6 point 5)."""

from __future__ import annotations

from dataclasses import replace

from service.model.endpoint import RegistryEndpoint
from service.model.region import Region
from service.model.rule import DeletePolicy
from service.store.deletion_values import DONE
from tests.support.processes import wait_until
from tests.support.world import World, a_rule, some_bytes


def test_workers_of_its_jurisdiction_delete_for_a_scheduler_of_another(world: World) -> None:
    services = world.services
    for name in ("v1", "v2"):
        world.push("team/app", name, [some_bytes(name, 500)])
    policy = DeletePolicy(enabled=True, grace_seconds=0.0)
    rule = replace(a_rule("team/app"), delete=policy)
    services.rules.put(rule, document={})
    for _ in range(2):
        execution = services.executions.create(rule, trigger="test").id
        assert services.planner.plan(execution, services.boot)
        world.run_to_end(execution, world.party())
        services.dispatching.end_executions()
        world.east.storage.delete_tag("team/app", "v1")
    for name, registry in (("east", world.east), ("west", world.west)):
        services.registries.put(RegistryEndpoint(name, registry.url, region="eu"), document={})
    for name, jurisdiction in (("eu", "eu"), ("us", "us")):
        services.regions.put(Region(name, jurisdiction), document={"name": name})

    worker = world.process("worker-eu", "-m", "workers.main", "worker", "--region", "eu")
    scheduler = world.process("scheduler", "-m", "workers.main", "scheduler", TRANSSHIP_REGION="us")
    with worker, scheduler:
        wait_until(
            lambda: [one.state for one in services.deletions.list()] == [DONE], 40, "the deletion"
        )

    assert world.tag_at_west("team/app", "v1") is None
    assert world.tag_at_west("team/app", "v2") is not None
