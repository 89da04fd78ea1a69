"""A rule that runs all the time while its destination collects garbage and a fault strikes every few seconds.

The collector of distribution runs beside its registry, which it is not made for: it takes blobs that
were uploaded a moment ago and are named by no manifest yet, and the registry goes on telling of them
(reliability M8). What it takes from under a manifest that was committed while it ran nobody can prevent;
verification has to find and repair exactly that (P17).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.chaos import STRIKES, Chaos
from tests.faults.lab import Lab, Scene
from tests.oracle.closure import check
from tests.oracle.states import ENDED
from tests.support.processes import wait_until

REPOSITORIES = 8
TAGS = 3
NOT_HERE = frozenset({"hole-worker", "freeze-scheduler"})
"""Strikes that last as long as several others do: chaos has them."""


@dataclass
class Usage:
    """What a process holds at a moment: resident bytes and open files."""

    rss: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Read it from /proc."""
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return cls(
                    int(line.split()[1]) * 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))
                )
        raise AssertionError(f"no memory of {pid}")


@dataclass
class Soak:
    """One soak: what it did, and what it saw."""

    lab: Lab
    scene: Scene
    dice: random.Random
    pushes: int = 0
    strikes: list[str] = field(default_factory=list)
    collections: int = 0
    holes: int = 0
    usage: dict[str, list[Usage]] = field(default_factory=dict)

    def __str__(self) -> str:
        ended = self.executions()
        states = sorted({str(one["state"]) for one in ended})
        counts = {state: sum(1 for one in ended if one["state"] == state) for state in states}
        return (
            f"{self.pushes} pushes, {len(self.strikes)} strikes ({', '.join(self.strikes)}), "
            f"{self.collections} collections, {len(ended)} executions {counts}, "
            f"{self.holes} holes made by the collector and repaired"
        )

    def executions(self) -> list[dict[str, Any]]:
        """Return the executions of the scene's rule that the API still has, newest first."""
        found = self.lab.ask("GET", f"/executions?limit=200&rule={self.scene.name}")["items"]
        return [one for one in found if one["state"] in ENDED]

    def push(self) -> None:
        """Push a new image under a tag, new or old."""
        place = f"app{self.dice.randrange(REPOSITORIES)}:v{self.dice.randrange(TAGS)}"
        sizes = [self.dice.choice((3_000, 30_000, 200_000)) for _ in range(self.dice.randint(1, 3))]
        self.scene.push(place, sizes, seed=f"soak-{self.dice.randint(0, 40)}")
        self.pushes += 1

    def collect(self) -> None:
        """Run the destination's collector beside it."""
        self.lab.destination.collect_garbage()
        self.collections += 1

    def look(self) -> None:
        """Note what the processes hold; a restarted one begins anew."""
        for name, process in self.lab.processes.items():
            self.usage.setdefault(f"{name}-{process.pid}", []).append(Usage.of(process.pid))

    def leaks(self) -> list[str]:
        """Return what grew all the time: over a third, from the first half of a process's life on."""
        found = []
        for name, seen in self.usage.items():
            if len(seen) < 8:
                continue
            middle, last = seen[len(seen) // 2], seen[-1]
            if last.files > middle.files + 40:
                found.append(f"{name}: {middle.files} files, then {last.files}")
            if last.rss > 1.34 * middle.rss:
                found.append(f"{name}: {middle.rss >> 20} MiB, then {last.rss >> 20} MiB")
        return found


def run(lab: Lab, seconds: float, seed: int, *, every: float = 5.0, collect: float = 20.0) -> Soak:
    """Soak for so many seconds; raises AssertionError with what was found."""
    dice = random.Random(seed)
    scene = lab.scene(f"soak-{seed}", trigger={"every": "2s"})
    soak = Soak(lab, scene, dice)
    chaos = Chaos(lab, scene, dice, done=soak.strikes)
    strikes = sorted(set(STRIKES) - NOT_HERE)
    stop = threading.Event()
    end = time.monotonic() + seconds
    due: dict[Callable[[], None], float] = {}
    plan: list[tuple[Callable[[], None], float]] = [
        (soak.push, 0.4),
        (soak.collect, collect),
        (lambda: _strike(chaos, strikes), every),
        (soak.look, 3.0),
    ]
    began = time.monotonic()
    for act, period in plan:
        due[act] = began + period
    try:
        while time.monotonic() < end:
            act = min(due, key=lambda one: due[one])
            stop.wait(
                max(0.0, due[act] - time.monotonic())
            )  # the soak's rhythm, nothing is awaited
            act()
            due[act] = time.monotonic() + dict(plan)[act]
    finally:
        chaos.mend()
    _settle(soak)
    return soak


def _strike(chaos: Chaos, strikes: list[str]) -> None:
    name = chaos.dice.choice(strikes)
    chaos.done.append(name)
    STRIKES[name](chaos)


def _settle(soak: Soak) -> None:
    """Bring all to rest, and have whatever the collector took from under a manifest repaired."""
    lab, scene = soak.lab, soak.scene
    lab.rule(scene.name, select=[{"repositories": [f"{scene.name}/**"]}])  # by hand from now on
    lab.quiesce(60)
    final = scene.run(60)
    assert final["state"] == "succeeded", final
    report = check(lab.source.url, lab.destination.url, scene.expected, extra=False)
    soak.holes = len(report.faults)
    if soak.holes:
        wanted = {"rule": scene.name, "repair": True}
        identity = lab.ask("POST", "/verifications", wanted)["id"]
        seen = wait_until(lambda: _looked(lab, identity), 60, "the verification and its repair")
        assert seen["holes"] > 0, f"the oracle saw {report.faults[:3]}, the verification {seen}"
        lab.quiesce(60)


def _looked(lab: Lab, identity: str) -> dict[str, Any] | None:
    """Return a verification that ended; the repair of what it found begins a moment after it."""
    found: dict[str, Any] = lab.ask("GET", f"/verifications/{identity}")
    if found["state"] not in ENDED or (found["holes"] and not found["repair"]):
        return None
    return found
