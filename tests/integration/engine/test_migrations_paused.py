"""A migration that is paused sends no request to either registry, counted at both (issue 8 point 3)."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from api.samples.registry import SampleRegistry
from service.model.endpoint import Limits
from service.model.migration import INVENTORY, SurveyState, Wave, WaveState
from service.model.states import ENDED_EXECUTIONS
from tests.integration.engine.moving import Move
from tests.support.processes import wait_until
from tests.support.world import World

HELD_TO_SECONDS = 4.0
"""Five are promised."""
WATCHED_SECONDS = 1.0
IMAGES = 60


def test_a_paused_migration_is_silent_within_five_seconds_and_goes_on(world: World) -> None:
    """Amid the inventory (its scheduler is killed then), while a wave is compared, and while it is copied."""
    east = world.services.registries.get("east").endpoint
    slow = replace(east, limits=Limits(requests_per_second=30.0))
    world.services.registries.put(slow, document={})
    move = Move(world, waves=(Wave("first", ("a",)), Wave("rest")))
    for number in range(IMAGES):
        move.push(f"a:v{number}")
    with ExitStack() as stack:
        stack.enter_context(world.worker())
        scheduler = ("-m", "workers.main", "scheduler")
        first = stack.enter_context(world.process("first", *scheduler))
        move.surveys.begin("move", INVENTORY)
        _pause_amid(move, [world.east, world.west], at_least=10)
        assert move.latest(INVENTORY).state is SurveyState.RUNNING
        first.kill()
        stack.enter_context(world.process("second", *scheduler))
        move.services.registries.put(east, document={"url": east.url})
        move.store.resume("move")
        wait_until(lambda: move.latest(INVENTORY).state is SurveyState.ENDED, 60, "the inventory")
        assert move.latest(INVENTORY).figures["tags"] == IMAGES

        move.services.registries.put(slow, document={})
        move.services.migration_steps.start("move", "first")
        _pause_amid(move, [world.east, world.west], at_least=5)
        assert move.holds() == {}
        move.store.resume("move")
        wait_until(lambda: len(move.holds()) > 1, 60, "the first images")
        _pause_amid(move, [world.east, world.west], at_least=0)
        stopped = move.services.executions.list(rule="migration-move-first", limit=10)
        assert {one.state for one in stopped} <= ENDED_EXECUTIONS
        assert len(move.holds()) < IMAGES
        assert move.wave("first").state is WaveState.RUNNING
        move.services.registries.put(east, document={"url": east.url})
        move.store.resume("move")
        wait_until(lambda: move.wave("first").state is WaveState.DONE, 60, "the wave")
    assert len(move.holds()) == IMAGES
    assert len(move.wave("first").executions) == 3


def _pause_amid(move: Move, registries: list[SampleRegistry], *, at_least: int) -> None:
    """Pause once so many requests were made; then count at both registries, from when it has to be silent."""
    before = sum(len(one.log) for one in registries)

    def asked() -> int:
        return sum(len(one.log) for one in registries)

    wait_until(lambda: asked() >= before + at_least, 30, "requests")
    move.store.pause("move")
    paused = time.monotonic()
    wait_until(lambda: time.monotonic() > paused + HELD_TO_SECONDS, 10, "what is promised")
    count = asked()
    with pytest.raises(AssertionError, match="in vain"):
        wait_until(
            lambda: asked() > count, WATCHED_SECONDS, "a request that must not be", bound=True
        )
