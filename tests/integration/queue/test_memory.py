"""The memory of a worker process is bounded, whatever is under way in it."""

from __future__ import annotations

import threading
from pathlib import Path

from service.model.states import CopyState
from tests.support.processes import wait_until
from tests.support.world import World, some_bytes
from workers.signatures import QueuePublisher

MIB = 1 << 20
BLOBS = 100
PROMISED = 150 * MIB


def test_a_hundred_large_blobs_at_once_keep_a_worker_under_its_bound(world: World) -> None:
    layers = [some_bytes(f"large{number}", MIB + 100_000 + number) for number in range(BLOBS)]
    image = world.push("team/app", "v1", layers)
    go_on = threading.Event()
    held = world.east.fault("/blobs/", method="GET", hold=go_on, times=BLOBS)
    execution = world.plan("team/app")
    (ref,) = world.dispatch()

    with world.worker(TRANSSHIP_WORKER_SLOTS=str(BLOBS)) as worker:
        QueuePublisher(world.services.redis).replicate("local", [[ref]], urgent=False)
        wait_until(lambda: held.fired >= BLOBS, 20, "every blob under way")
        go_on.set()
        wait_until(lambda: world.states(execution) == [CopyState.COPIED], 60, "the commit")
        peak = _peak_resident(worker.pid)

    assert world.is_whole(image)
    assert peak < PROMISED, f"{peak / MIB:.0f} MiB"


def _peak_resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
