"""Random faults by a seed: the same seed draws the same fleet, the same strikes and the same order.

Processes are real, so the same seed does not give the same moments; what is drawn is printed.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from api.samples.http_messages import WireFault
from tests.faults.lab import Lab, Scene
from tests.oracle.history import Sampler
from tests.support.load import busy
from tests.support.processes import wait_until

Strike = Callable[["Chaos"], None]


@dataclass
class Chaos:
    """One run: a scene, a generator, and what was done so far."""

    lab: Lab
    scene: Scene
    dice: random.Random
    done: list[str] = field(default_factory=list)
    frozen: list[int] = field(default_factory=list)

    def strike(self) -> None:
        """Do one of the strikes."""
        name = self.dice.choice(sorted(STRIKES))
        self.done.append(name)
        STRIKES[name](self)

    def mend(self) -> None:
        """Thaw, start and heal everything."""
        for pid in self.frozen:
            os.kill(pid, signal.SIGCONT)
        self.frozen.clear()
        self.lab.heal()
        if not self.lab.redis.alive:
            self.lab.redis.start()
        for name, process in list(self.lab.processes.items()):
            if not process.alive:
                self.lab.start(name)


def _kill(role: str) -> Strike:
    def strike(chaos: Chaos) -> None:
        chaos.lab.processes[role].kill()
        chaos.lab.start(role)

    return strike


def _freeze(role: str) -> Strike:
    """Stop a process for longer than its lease, and thaw it in the middle of what others do then."""

    def strike(chaos: Chaos) -> None:
        pid = chaos.lab.processes[role].pid
        os.kill(pid, signal.SIGSTOP)
        chaos.frozen.append(pid)
        chaos.lab.lapse()
        os.kill(pid, signal.SIGCONT)
        chaos.frozen.remove(pid)

    return strike


def _registry(side: str, **fault: Any) -> Strike:
    """Strike some of the next requests at one side."""

    def strike(chaos: Chaos) -> None:
        target = chaos.scene.east if side == "east" else chaos.scene.west
        times = chaos.dice.randint(1, 6)
        path = "/blobs/|/manifests/"
        target.fault(path, nth=chaos.dice.randint(1, 5), times=times, **fault)

    return strike


def _flush(chaos: Chaos) -> None:
    chaos.lab.redis.flushall()


def _restart_redis(chaos: Chaos) -> None:
    chaos.lab.redis.kill()
    chaos.lab.redis.start()


def _cut(role: str, how: str) -> Strike:
    def strike(chaos: Chaos) -> None:
        way = chaos.lab.redis_ways[role]
        getattr(way, how)()
        if how != "reset":
            chaos.lab.lapse()
        way.heal()

    return strike


def _move_a_tag(chaos: Chaos) -> None:
    """Push another image under a tag of the fleet."""
    repository, tag = chaos.dice.choice(sorted(chaos.scene.expected))
    place = f"{repository.partition('/')[2]}:{tag}"
    chaos.scene.push(place, (chaos.dice.randint(1_000, 60_000),))


STRIKES: dict[str, Strike] = {
    "kill-worker": _kill("worker"),
    "kill-scheduler": _kill("scheduler"),
    "kill-api": _kill("api"),
    "freeze-worker": _freeze("worker"),
    "freeze-scheduler": _freeze("scheduler"),
    "flush-redis": _flush,
    "restart-redis": _restart_redis,
    "cut-worker": _cut("worker", "reset"),
    "hole-worker": _cut("worker", "blackhole"),
    "cut-scheduler": _cut("scheduler", "refuse"),
    "source-503": _registry("east", status=503),
    "source-429": _registry("east", status=429, headers={"Retry-After": "1"}),
    "source-reset": _registry("east", wire=WireFault(reset_at=100)),
    "source-flip": _registry("east", wire=WireFault(flip_at=3)),
    "destination-503": _registry("west", status=503),
    "destination-reset": _registry("west", wire=WireFault(reset_at=0)),
    "destination-request-cut": _registry("west", reset_request_at=500),
    "move-a-tag": _move_a_tag,
}


def run(lab: Lab, seed: int, *, strikes: int = 4) -> Scene:
    """Run one seed to its end and have the oracle judge it; raises AssertionError with the story."""
    dice = random.Random(seed)
    scene = lab.scene(f"chaos-{seed}")
    for number in range(dice.randint(6, 14)):
        sizes = [dice.choice((2_000, 40_000, 300_000)) for _ in range(dice.randint(1, 4))]
        scene.push(f"app{number % 4}:v{number}", sizes, seed=f"{seed}-{dice.randint(0, 5)}")
    chaos = Chaos(lab, scene, dice)
    stop = threading.Event()
    repaired = 10 * busy()
    with Sampler(
        lab.destination.url, scene.expected, scene.pushes, repair_seconds=repaired
    ) as sampler:
        identity = scene.start()
        try:
            for _ in range(strikes):
                stop.wait(dice.uniform(0.0, 0.4))  # moments are part of what is drawn
                chaos.strike()
        finally:
            chaos.mend()
        ended = lab.wait(identity, 60)
        if ended["state"] != "succeeded":
            again = scene.run(60)  # what was struck until it failed is tried once more, in peace
            assert again["state"] == "succeeded", f"{chaos.done}: {again}"
        if "move-a-tag" in chaos.done:
            assert scene.run(60)["state"] == "succeeded", chaos.done
        began = time.monotonic()
        wait_until(lambda: sampler.looks and time.monotonic() > began, 10, "a look")
    verdict = scene.verdict(tags=6, blobs=8, uploads=True)
    assert verdict.faults == [], f"seed {seed}, {chaos.done}\n{verdict}"
    assert sampler.faults() == [], f"seed {seed}, {chaos.done}\n{sampler}"
    return scene
