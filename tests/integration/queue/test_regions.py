"""Workers of a region: their queues, and registries by the region's own address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.model.endpoint import Nearer, RegistryEndpoint
from service.model.states import CopyState
from service.registry.doctor import MEANINGS
from service.store.examinations import Examination, Question
from tests.support.processes import ManagedProcess, wait_until
from tests.support.world import World, a_rule, some_bytes
from workers.signatures import QueuePublisher


def worker(world: World, region: str) -> ManagedProcess:
    """A worker of a region, in an environment that names another one."""
    patient = {"TRANSSHIP_DEAD_AFTER_SECONDS": "20"}  # or it hands back what nobody takes up
    return world.process(region, "-m", "workers.main", "worker", "--region", region, **patient)


def alive(world: World, region: str) -> bool:
    return region in world.services.region_load.workers()


def place_out_of_sight(world: World) -> None:
    """Have both registries stand under names that only workers of `eu` know how to reach."""
    for name, registry in (("east", world.east), ("west", world.west)):
        near = Nearer("eu", connect_to=f"127.0.0.1:{registry.port}")
        url = f"http://{name}.invalid:{registry.port}"
        endpoint = RegistryEndpoint(name, url, region="eu", endpoints=(near,))
        world.services.registries.put(endpoint, document={})


def answered(world: World, identity: str) -> Examination:
    def look() -> Examination | None:
        found = world.services.examinations.get(identity)
        return found if found.state not in {"pending", "running"} else None

    return wait_until(look, 30, "the answer")


def test_examination_is_carried_out_by_a_worker_of_the_region_by_its_address(world: World) -> None:
    place_out_of_sight(world)
    publisher = QueuePublisher(world.services.redis)
    asked = world.services.examinations.ask(
        Question("east", "scratch", write=True), "eu", seconds=60
    )
    publisher.examine("eu", asked.id)
    publisher.examine("eu", asked.id)  # a message may come twice
    assert publisher.depths("eu") == {"urgent": 2, "commit": 0, "copy": 0}

    with worker(world, "eu") as process:
        process.wait_ready(lambda: alive(world, "eu"))
        found = answered(world, asked.id)

    assert (found.state, found.reason) == ("ended", "")
    assert [one["name"] for one in found.findings] == list(MEANINGS)
    assert found.findings[0]["result"] == "yes"
    assert found.worker
    assert any("/v2/scratch/" in line.path for line in world.east.log)


def test_registry_that_is_gone_is_an_answer(world: World) -> None:
    publisher = QueuePublisher(world.services.redis)
    asked = world.services.examinations.ask(
        Question("nowhere", "scratch", write=True), "eu", seconds=60
    )
    publisher.examine("eu", asked.id)

    with worker(world, "eu") as process:
        process.wait_ready(lambda: alive(world, "eu"))
        found = answered(world, asked.id)

    assert (found.state, found.reason) == ("failed", "there is no registry named nowhere")


def test_copies_go_by_the_region_s_address(world: World) -> None:
    image = world.push("team/app", "v1", [some_bytes("layer", 300_000)])
    execution = world.plan("team/app")
    place_out_of_sight(world)
    world.services.region_load.take_over("eu")
    store = world.services.dispatching
    (ref,) = store.dispatch(store.eligible("eu", 10))

    with worker(world, "eu") as process:
        process.wait_ready(lambda: alive(world, "eu"))
        QueuePublisher(world.services.redis).replicate("eu", [[ref]], urgent=False)
        wait_until(lambda: world.states(execution) == [CopyState.COPIED], 30, "the copy")

    assert world.is_whole(image)
    assert world.tag_at_west("team/app", "v1") == image.digest


@pytest.mark.parametrize("priority", ["normal", "urgent"])
def test_a_home_region_without_workers_keeps_no_execution(world: World, priority: str) -> None:
    """The API and the scheduler stand in `local`, as they do when nobody says where they stand."""
    world.push("team/app", "v1", [some_bytes("layer", 1000)])
    for name, registry in (("east", world.east), ("west", world.west)):
        endpoint = RegistryEndpoint(name, registry.url, region="eu")
        world.services.registries.put(endpoint, document={})
    rule = replace(a_rule("team/app"), priority=priority)
    execution = world.services.executions.create(rule, trigger="test").id

    with worker(world, "eu"), world.process("scheduler", "-m", "workers.main", "scheduler"):
        wait_until(
            lambda: world.services.executions.get(execution).state.ended, 30, "the execution's end"
        )

    assert world.states(execution) == [CopyState.COPIED]
