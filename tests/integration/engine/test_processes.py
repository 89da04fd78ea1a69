"""Real worker processes: a chord that loses its body, and workers whose parent is gone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from api.engine.children import ENGINE_VARIABLE, end_leftovers
from service.model.rule import Trigger
from service.model.states import CopyState, ExecutionState
from tests.support.processes import ManagedProcess, wait_until
from tests.support.servers import PostgresServer
from tests.support.world import World, a_rule, open_world, some_bytes
from workers.envelope import GROUP_PREFIX, PREFIX
from workers.signatures import QueuePublisher

LAYERS = [some_bytes("one", 1_200_000), some_bytes("two", 1_300_000)]


@contextmanager
def _driven(world: World) -> Iterator[None]:
    """The scheduler's loop, on a thread."""
    stop = threading.Event()
    drive = world.services.drive(QueuePublisher(world.services.redis))
    thread = threading.Thread(target=drive.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_chord_that_lost_its_keys_is_committed_all_the_same(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    gate = threading.Event()
    rule = world.east.fault(f"blobs/{image.layers[0]}", method="GET", hold=gate)
    execution = world.plan("team/app")
    redis = world.services.redis

    with world.worker(TRANSSHIP_SMALL_IMAGE_BYTES="1000000"), _driven(world):
        wait_until(lambda: rule.fired, 20, "a part's read")
        keys = wait_until(lambda: redis.keys(f"{PREFIX}{GROUP_PREFIX}*.s"), 10, "the chord")
        redis.delete(*keys, *redis.keys(f"{PREFIX}{GROUP_PREFIX}*"))
        gate.set()
        wait_until(lambda: _ended(world, execution), 30, "the execution's end")

    assert world.services.executions.get(execution).state is ExecutionState.SUCCEEDED
    assert world.states(execution) == [CopyState.COPIED]
    assert world.tag_at_west("team/app", "v1") == image.digest
    assert world.is_whole(image)
    assert world.reads(image.layers[0]) == world.reads(image.layers[1]) == 1


def test_a_killed_workers_part_is_placed_by_the_next(world: World) -> None:
    image = world.push("team/app", "v1", LAYERS)
    gate = threading.Event()
    rule = world.east.fault(f"blobs/{image.layers[0]}", method="GET", hold=gate)
    execution = world.plan("team/app")

    with _driven(world):
        with world.worker("first", TRANSSHIP_SMALL_IMAGE_BYTES="1000000") as worker:
            wait_until(lambda: rule.fired, 20, "a part's read")
            worker.kill()
            gate.set()
        with world.worker("second", TRANSSHIP_SMALL_IMAGE_BYTES="1000000"):
            wait_until(lambda: _ended(world, execution), 40, "the execution's end")

    assert world.states(execution) == [CopyState.COPIED]
    assert world.is_whole(image)
    assert world.tag_puts("team/app", "v1") == 1


def test_everything_runs_on_postgresql(tmp_path: Path) -> None:
    """A rule that is due, planned by a worker, copied in chords and in pages, and ended."""
    with PostgresServer() as server, open_world(tmp_path, server.fresh_database()) as world:
        images = [
            world.push("team/large", "v1", LAYERS),
            world.push("team/small", "v1", LAYERS[:1]),
        ]
        images += [
            world.push("team/small", f"v{n}", [some_bytes(f"s{n}", 500)]) for n in range(2, 30)
        ]
        rule = replace(a_rule("team/*"), trigger=Trigger(every_seconds=3600.0))
        world.services.rules.put(rule, document={})

        with world.worker(TRANSSHIP_SMALL_IMAGE_BYTES="1300000"), _driven(world):
            wait_until(
                lambda: [r.state.ended for r in world.services.executions.list()] == [True], 40
            )

        (record,) = world.services.executions.list()
        assert (record.state, record.trigger) == (ExecutionState.SUCCEEDED, "schedule")
        totals = world.services.executions.totals(record.id)
        assert (totals.copied, totals.pending, totals.failed) == (30, 0, 0)
        assert all(world.is_whole(image) for image in images)
        assert [world.reads(digest) for digest in images[0].layers] == [1, 1]
        assert world.services.executions.requests([record.id])["west"] > 30


def test_orphaned_workers_of_this_directory_are_ended_and_no_others(world: World) -> None:
    mine, other = world.folder / "data", world.folder / "data2"
    lookalike = _idle("lookalike", world.folder, {ENGINE_VARIABLE: str(other)})
    bystander = _idle("bystander", world.folder, {"X": f"{ENGINE_VARIABLE}={mine}"})
    with world.worker("orphan", **{ENGINE_VARIABLE: str(mine)}) as orphan, lookalike, bystander:
        assert end_leftovers(mine) == [orphan.pid]

        assert orphan.wait(60) == -9
        assert lookalike.alive
        assert bystander.alive
        assert end_leftovers(mine) == []


def _idle(name: str, folder: Path, environment: dict[str, str]) -> ManagedProcess:
    program = "import signal; signal.pause()"
    return ManagedProcess(
        name, [sys.executable, "-c", program], log_directory=folder, environment=environment
    )


def _ended(world: World, execution: str) -> bool:
    return world.services.executions.get(execution).state.ended
